//! `poll_oneoff` of WASI preview 1 and of its predecessor.
//!
//! The library's sleep blocks the polling thread, since it makes the file calls, and its other
//! waits end milliseconds late ([`crate::timer`]). It asks if a file is ready by reading it on
//! threads outside the container's bound. Here all waits are our own, as `poll(2)` has them:
//!
//! | subscription | ready |
//! |---|---|
//! | clock | at its time |
//! | file | always |
//! | standard stream, also by its name | when it can be read or written |
//!
//! The number of subscriptions is limited.

use std::{
    future::{pending, poll_fn},
    task::Poll,
    time::{Duration, Instant},
};

use tokio::select;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as library};
use wiggle::GuestMemory;

use super::{
    files::{BADF, SUCCESS, Waited},
    preview1::{PREVIEW1, UNSTABLE, aligned, bytes, enter, write, write_u32},
    store::Guest,
};
use crate::{timer, wasi::errno::INVAL};

/// Pointers to subscriptions and events, number of subscriptions, and pointer to that of events.
type Arguments = (i32, i32, i32, i32);

/// Most subscriptions of one call. Each takes microseconds at every wakeup, in which the call does
/// not yield. Linux limits `poll(2)` in the same way, by `RLIMIT_NOFILE`.
const MAX_SUBSCRIPTIONS: u32 = 512;

/// Layout of a subscription: offsets of the fields of a clock, and the size.
struct Layout {
    id: i32,
    timeout: i32,
    flags: i32,
    size: i32,
}

const OF_PREVIEW1: Layout = Layout { id: 16, timeout: 24, flags: 40, size: 48 };
// The clock of the predecessor has an identifier in front.
const OF_UNSTABLE: Layout = Layout { id: 24, timeout: 32, flags: 48, size: 56 };
/// Clocks with times that a guest can wait for: the real time and the monotonic one.
const CLOCKS: [i32; 2] = [0, 1];
/// Offset of the tag of a subscription, and its values.
const TAG: i32 = 8;
const CLOCK: u8 = 0;
const READ: u8 = 1;
const WRITE: u8 = 2;
/// Offset of the descriptor.
const DESCRIPTOR: i32 = 16;
/// Flag of an absolute time.
const ABSTIME: u16 = 1;
/// Size of an event, and offsets of its type and its number of bytes.
// The user data comes first. All other fields are 0: the error (success), and the flags, of which
// the only one is for the end of a socket.
const EVENT: usize = 32;
const EVENT_TYPE: usize = 10;
const EVENT_BYTES: usize = 16;

/// Replaces functions that the library has linked. The linker must allow it.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for (module, layout) in [(PREVIEW1, &OF_PREVIEW1), (UNSTABLE, &OF_UNSTABLE)] {
        linker.func_wrap_async(
            module,
            "poll_oneoff",
            move |caller: Caller<'_, Guest>, arguments: Arguments| {
                Box::new(poll(caller, arguments, layout))
            },
        )?;
    }
    Ok(())
}

struct Subscription {
    userdata: [u8; 8],
    tag: u8,
    event: Event,
}

/// The event of a subscription.
enum Event {
    /// The end of this time.
    Clock(Duration),
    Descriptor(Waited),
}

impl Subscription {
    /// Waits for a file or stream.
    async fn ready(&self) {
        match &self.event {
            Event::Clock(_) => pending().await,
            Event::Descriptor(Waited::File) => {}
            Event::Descriptor(Waited::Stream(stream)) => stream.ready().await,
        }
    }

    /// Time of a clock.
    fn left(&self) -> Option<Duration> {
        match self.event {
            Event::Clock(left) => Some(left),
            Event::Descriptor(_) => None,
        }
    }

    fn to_event(&self) -> [u8; EVENT] {
        let mut event = [0; EVENT];
        event[..self.userdata.len()].copy_from_slice(&self.userdata);
        event[EVENT_TYPE] = self.tag;
        // At least one byte, as the library tells it.
        event[EVENT_BYTES] = u8::from(self.tag != CLOCK);
        event
    }
}

async fn poll(
    mut caller: Caller<'_, Guest>,
    arguments: Arguments,
    layout: &Layout,
) -> wasmtime::Result<i32> {
    let count = arguments.2.cast_unsigned();
    if count > MAX_SUBSCRIPTIONS {
        tracing::debug!(count, limit = MAX_SUBSCRIPTIONS, "refused a poll_oneoff");
    }
    if !(1..=MAX_SUBSCRIPTIONS).contains(&count) {
        return Ok(INVAL);
    }
    let begin = Instant::now();
    let all = match subscriptions(&mut caller, arguments, layout)? {
        Ok(all) => all,
        Err(errno) => return Ok(errno),
    };
    let first = all.iter().filter_map(Subscription::left).min();
    let mut passed = Duration::ZERO;
    let ready = select! {
        // Asked first: what is ready counts, also after the time of a clock.
        biased;
        ready = ready(&all) => ready,
        () = sleep(first) => {
            passed = first.unwrap_or_default();
            vec![false; all.len()]
        }
    };
    passed = passed.max(begin.elapsed());
    let told = all.iter().zip(ready).filter(|(subscription, ready)| {
        *ready || subscription.left().is_some_and(|left| left <= passed)
    });
    tell(&mut caller, arguments, told.map(|(subscription, _)| subscription))
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => timer::sleep(time).await,
        None => pending().await,
    }
}

/// Waits until at least one file or stream is ready. True for each that is.
async fn ready(all: &[Subscription]) -> Vec<bool> {
    let mut waits: Vec<_> = all.iter().map(|subscription| Box::pin(subscription.ready())).collect();
    poll_fn(|cx| {
        // No future is polled again after its end: the first end is that of all.
        let ready = waits.iter_mut().map(|wait| wait.as_mut().poll(cx).is_ready());
        let ready: Vec<_> = ready.collect();
        if ready.contains(&true) { Poll::Ready(ready) } else { Poll::Pending }
    })
    .await
}

/// The subscriptions. The inner error is an `errno`.
fn subscriptions(
    caller: &mut Caller<'_, Guest>,
    (first, _, count, _): Arguments,
    layout: &Layout,
) -> wasmtime::Result<Result<Vec<Subscription>, i32>> {
    let mut all = Vec::new();
    let (memory, guest) = enter(caller)?;
    for n in 0..count {
        // Pointers are unsigned: one below 2 GiB may have a field beyond.
        let at = first.wrapping_add(n.wrapping_mul(layout.size));
        let userdata = bytes(&memory, at)?;
        let [tag] = bytes(&memory, at.wrapping_add(TAG))?;
        let event = match tag {
            CLOCK => clock(&memory, &mut guest.wasi, at, layout)?.map(Event::Clock),
            READ | WRITE => {
                let fd = i32::from_le_bytes(bytes(&memory, at.wrapping_add(DESCRIPTOR))?);
                waited(guest, fd, tag)?.map(Event::Descriptor)
            }
            _ => Err(INVAL),
        };
        match event {
            Ok(event) => all.push(Subscription { userdata, tag, event }),
            Err(errno) => return Ok(Err(errno)),
        }
    }
    Ok(Ok(all))
}

/// The time of a clock that is left. The inner error is an `errno`.
fn clock(
    memory: &GuestMemory<'_>,
    wasi: &mut WasiP1Ctx,
    at: i32,
    layout: &Layout,
) -> wasmtime::Result<Result<Duration, i32>> {
    let clock = i32::from_le_bytes(bytes(memory, at.wrapping_add(layout.id))?);
    let flags = u16::from_le_bytes(bytes(memory, at.wrapping_add(layout.flags))?);
    let timeout = u64::from_le_bytes(bytes(memory, at.wrapping_add(layout.timeout))?);
    let now = match flags & ABSTIME {
        0 => 0,
        _ if CLOCKS.contains(&clock) => now(wasi, clock)?,
        _ => return Ok(Err(INVAL)),
    };
    Ok(Ok(Duration::from_nanos(timeout.saturating_sub(now))))
}

/// The file or stream of a descriptor. The inner error is an `errno`.
fn waited(guest: &mut Guest, fd: i32, tag: u8) -> wasmtime::Result<Result<Waited, i32>> {
    let found = guest.files.waited(&mut guest.wasi, fd)?;
    Ok(found
        .filter(|found| match found {
            Waited::File => true,
            Waited::Stream(stream) => stream.is_input() == (tag == READ),
        })
        .ok_or(BADF))
}

/// Writes the events, and their number.
fn tell<'a>(
    caller: &mut Caller<'_, Guest>,
    (_, events, _, counted): Arguments,
    subscriptions: impl Iterator<Item = &'a Subscription>,
) -> wasmtime::Result<i32> {
    // Again, so that no borrow of the guest's memory is held during the wait.
    let (mut memory, _) = enter(caller)?;
    let mut count = 0u32;
    for subscription in subscriptions {
        let at = events.wrapping_add((count * EVENT as u32).cast_signed());
        aligned(at, size_of::<u64>())?;
        write(&mut memory, at, &subscription.to_event())?;
        count += 1;
    }
    write_u32(&mut memory, counted, count)?;
    Ok(SUCCESS)
}

/// The present time of a clock of the guest, in nanoseconds.
fn now(wasi: &mut WasiP1Ctx, clock: i32) -> wasmtime::Result<u64> {
    let mut now = [0; size_of::<u64>()];
    // In a memory of its own. The error is that of an unknown clock.
    library::clock_time_get(wasi, &mut GuestMemory::Unshared(&mut now), clock, 0, 0)?;
    Ok(u64::from_le_bytes(now))
}
