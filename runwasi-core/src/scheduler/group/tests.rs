//! Tests of [`group`](super).

use rustix::{
    pipe::{PipeFlags, pipe_with},
    thread::CapabilitySet,
};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};

use super::{
    super::{file_calls::FileThreads, queue::FairQueue},
    *,
};
use crate::{bundle::resources::Bandwidth, id::Id};

const SOON: Duration = Duration::from_secs(5);

/// Files of a server that may not answer.
fn slow() -> FileCalls {
    let container = Id::parse("id", "c1").unwrap();
    FileCalls::new(container, FileThreads::default(), vec!["/v".into()])
}

fn group() -> Group {
    limited(&ResourcesConfig::default())
}

fn limited(limits: &ResourcesConfig) -> Group {
    Group::new(Guests::new(Handle::current(), 1), limits, None)
}

fn within(time: Duration, period: Duration) -> ResourcesConfig {
    let bandwidth = Bandwidth { time: Some(Limit::Of(time)), period: Some(period) };
    ResourcesConfig { bandwidth, ..ResourcesConfig::default() }
}

#[tokio::test]
async fn polls_that_wait_twice_go_beside_the_workers_and_those_without_the_cpu_do_not() {
    let group = group();
    let container = &group.shared.container;
    let beside = || container.beside.load(Ordering::Relaxed);
    let long = WAITED * 2;
    assert!(!container.counts_waits());
    container.polled(long, Duration::ZERO, None);
    assert!(container.counts_waits() && beside() == 0, "suspected");
    container.polled(long, Duration::ZERO, Some(0));
    container.polled(long, long, Some(3));
    assert_eq!(beside(), 0);
    container.polled(long, Duration::ZERO, Some(1));
    assert_eq!(beside(), POLLS_BESIDE);
    for _ in 0..POLLS_BESIDE {
        container.polled(Duration::ZERO, Duration::ZERO, Some(0));
    }
    assert!(!container.counts_waits() && beside() == 0);
}

#[tokio::test]
async fn a_paused_member_is_not_polled_until_resume() {
    let group = group();
    let (sender, mut receiver) = oneshot::channel();
    group.pause();
    group.spawn(async move {
        let _ = sender.send(());
    });
    assert!(timeout(Duration::from_millis(50), &mut receiver).await.is_err());
    group.resume();
    timeout(SOON, receiver).await.unwrap().unwrap();
}

#[tokio::test]
async fn abort_drops_every_member_and_refuses_new_ones() {
    let group = group();
    let (alive, mut gone) = tokio::sync::mpsc::channel::<()>(1);
    for _ in 0..3 {
        let alive = alive.clone();
        group.spawn(async move {
            let _alive = alive;
            std::future::pending().await
        });
    }
    group.abort();
    let late = alive.clone();
    group.spawn(async move { drop(late) });
    drop(alive);
    timeout(SOON, group.ended()).await.unwrap();
    assert_eq!(timeout(SOON, gone.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn a_paused_member_can_be_aborted() {
    let group = group();
    group.pause();
    group.spawn(std::future::pending());
    group.abort();
    timeout(SOON, group.ended()).await.unwrap();
}

#[tokio::test]
async fn cpu_time_counts_time_inside_poll_only() {
    let group = group();
    group.spawn(async {
        let start = sys::thread_cpu_time();
        while sys::thread_cpu_time() - start < Duration::from_millis(30) {}
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    timeout(SOON, group.ended()).await.unwrap();
    let used = group.cpu().time;
    assert!(used >= Duration::from_millis(30) && used < Duration::from_millis(90), "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn member_that_waits_in_the_kernel_holds_neither_worker_nor_kill() {
    let guests = Guests::new(Handle::current(), 1);
    let waiting = Group::new(guests.clone(), &ResourcesConfig::default(), None);
    let waiting = waiting.with_files(slow());
    let other = Group::new(guests, &ResourcesConfig::default(), None);
    // A read of an empty pipe stands for a file call without an answer.
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    waiting.spawn(async move {
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte), Ok(0));
    });
    let held = async {
        while waiting.held() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, held).await.unwrap();
    let (sender, receiver) = oneshot::channel();
    other.spawn(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let _ = sender.send(());
    });
    timeout(SOON, receiver).await.unwrap().unwrap();
    waiting.abort();
    timeout(SOON, waiting.ended_or_held()).await.unwrap();
    assert_eq!(waiting.held(), 1);
    drop(writer);
    timeout(SOON, waiting.ended()).await.unwrap();
    assert_eq!(waiting.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_member_that_waits_is_held_without_a_worker_for_its_watch() {
    held_without_a_watch(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn running_member_that_waits_is_held_without_a_worker_for_its_watch() {
    held_without_a_watch(false).await;
}

async fn held_without_a_watch(is_killed: bool) {
    // Without a drive no watch runs, as if every worker waited in the kernel.
    let undriven = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let queue = FairQueue::new(1, undriven.handle().clone());
    let guests = Guests { runtime: Handle::current(), queue, tried: Arc::default() };
    let group = Group::new(guests, &ResourcesConfig::default(), None).with_files(slow());
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (sender, begun) = oneshot::channel();
    group.spawn(async move {
        let _ = sender.send(());
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte), Ok(0));
    });
    timeout(SOON, begun).await.unwrap().unwrap();
    assert_eq!(group.held(), 0);
    if is_killed {
        group.abort();
        timeout(SOON, group.ended_or_held()).await.unwrap();
    } else {
        let held = async {
            while group.held() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let looked = async {
            tokio::select! {
                () = held => {}
                never = group.look_after() => match never {},
            }
        };
        timeout(SOON, looked).await.unwrap();
    }
    assert_eq!(group.held(), 1);
    drop(writer);
    timeout(SOON, group.ended()).await.unwrap();
    undriven.shutdown_background();
}

/// Reads an empty pipe in its drop, which stands for the close of a file without an answer.
struct SlowDrop(rustix::fd::OwnedFd);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        assert_eq!(rustix::io::read(&self.0, &mut [0]), Ok(0));
    }
}

// One worker for the drop, and one for the timers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_member_whose_drop_waits_is_held() {
    let group = group();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (sender, begun) = oneshot::channel();
    let slow = SlowDrop(reader);
    group.spawn(async move {
        let _slow = slow;
        let _ = sender.send(());
        std::future::pending().await
    });
    timeout(SOON, begun).await.unwrap().unwrap();
    group.abort();
    timeout(SOON, group.ended_or_held()).await.unwrap();
    assert_eq!(group.held(), 1);
    drop(writer);
    timeout(SOON, group.ended()).await.unwrap();
    assert_eq!(group.held(), 0);
}

#[tokio::test]
async fn thread_of_a_poll_beside_the_workers_has_the_hosts_credentials_again() {
    let guests = crate::runtime::GuestRuntime::start(1).unwrap();
    let user = Credentials {
        uid: 1000,
        gid: 1000,
        groups: Vec::new(),
        umask: 0o077,
        lacks: CapabilitySet::empty(),
    };
    let limits = ResourcesConfig::default();
    let group = Group::new(guests.guests().clone(), &limits, Some(Arc::new(user)));
    let group = group.with_files(slow());
    let (sender, receiver) = oneshot::channel();
    let begun = async move {
        let _ = sender.send(fs_uid());
    };
    group.spawn(begun);
    assert_eq!(timeout(SOON, receiver).await.unwrap().unwrap(), 1000);
    timeout(SOON, group.ended()).await.unwrap();
    // Every thread of the runtime, whatever it does now.
    let mut ids = Vec::new();
    let threads = guests.threads();
    let look = |thread| {
        ids.push(fs_uid_of(thread));
        Ok(())
    };
    threads.each(look, None).unwrap();
    assert!(!ids.is_empty() && ids.iter().all(|id| *id == 0), "{ids:?}");
    guests.end();
}

fn fs_uid() -> u32 {
    fs_uid_of(rustix::thread::gettid().as_raw_nonzero().get())
}

/// The fourth number of the line `Uid` is that for files.
fn fs_uid_of(thread: i32) -> u32 {
    let path = format!("/proc/self/task/{thread}/status");
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

async fn spin() {
    loop {
        let start = sys::thread_cpu_time();
        while sys::thread_cpu_time() - start < Duration::from_millis(1) {}
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_quota_covers_all_groups_of_a_container_and_can_be_changed() {
    // Small enough to be available beside other tests.
    let group = limited(&within(Duration::from_millis(2), Duration::from_millis(50)));
    let sibling = group.sibling(None);
    group.spawn(spin());
    sibling.spawn(spin());
    // Other tests compute at the same time: a measurement may fall short, but not every one.
    let becomes = async |time, wanted: std::ops::RangeInclusive<f64>| {
        let mut parts = Vec::new();
        while !parts.last().is_some_and(|part| wanted.contains(part)) {
            assert!(parts.len() < 10, "{parts:?}, never within {wanted:?}");
            let before = group.cpu().time;
            let start = std::time::Instant::now();
            tokio::time::sleep(time).await;
            parts.push((group.cpu().time - before).as_secs_f64() / start.elapsed().as_secs_f64());
        }
    };
    becomes(Duration::from_millis(1000), 0.034..=0.046).await;
    assert!(group.cpu().throttled > 10 && group.cpu().throttled_time > Duration::from_millis(500));
    let unlimited = Bandwidth { time: Some(Limit::None), period: None };
    group.limit(&ResourcesConfig { bandwidth: unlimited, ..Default::default() });
    becomes(Duration::from_millis(200), 0.1..=1.1).await;
    group.abort();
    sibling.abort();
    timeout(SOON, group.ended()).await.unwrap();
    timeout(SOON, sibling.ended()).await.unwrap();
}

#[tokio::test]
async fn a_throttled_member_can_be_dropped() {
    // The next period is far away.
    let group = limited(&within(Duration::from_millis(1), Duration::from_secs(1000)));
    group.spawn(spin());
    while group.cpu().throttled == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    group.abort();
    timeout(SOON, group.ended()).await.unwrap();
}
