//! Native containers of a played delegate: calls that are interrupted or fail.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use containerd_shim_protos::ttrpc::r#async::Server;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    container::left_exit,
    native::{played::Played, record::Record},
    sandbox::{Member, create::Creation, managed::SandboxRequest},
    service::native_usage,
    stdio::paths::StdioPaths,
    testing::{CallError, Harness, ScriptedEngine, TaskClient},
};

const SOON: Duration = Duration::from_secs(20);

/// A sandbox with a played delegate. Its one container is named after the test: the directory of a
/// delegate is in the host's file system.
struct Bed {
    harness: Harness,
    client: TaskClient,
    played: Played,
    _server: Server,
    id: String,
}

impl Bed {
    async fn start(name: &str, managed: bool) -> Self {
        let (played, server) = Played::serve().await;
        let harness = Harness::start_native(ScriptedEngine, played.host(), managed).unwrap();
        let client = harness.client().await.unwrap();
        let id = format!("{name}-{}", std::process::id());
        Self { harness, client, played, _server: server, id }
    }

    fn sandbox(&self) -> &Sandbox {
        self.harness.sandbox()
    }

    fn bundle(&self) -> PathBuf {
        self.bundle_of(&self.id)
    }

    fn bundle_of(&self, id: &str) -> PathBuf {
        let builder = self.harness.bundle(id, &["/program"]);
        let bundle = builder.file("/program", "#!/bin/sh\n").write().unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bundle.join("rootfs/program"), executable).unwrap();
        bundle
    }

    async fn create(&self) -> Result<u32, CallError> {
        self.client.create(&self.id, &self.bundle(), &StdioPaths::default(), &[]).await
    }

    async fn run(&self) {
        self.create().await.unwrap();
        self.client.start(&self.id).await.unwrap();
    }

    fn native(&self) -> Native {
        match self.sandbox().find(&self.id) {
            Some(Member::Native(container)) => Native::new(self.sandbox(), container),
            _ => panic!("no native container"),
        }
    }

    fn count(&self, method: &str) -> usize {
        self.played.calls().iter().filter(|call| call.starts_with(method)).count()
    }

    /// Waits until the sandbox has no container, and ends it.
    async fn end(self) {
        until("empty sandbox", || self.sandbox().count() == 0).await;
        self.harness.stop().await;
    }
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_true() {
        assert!(Instant::now() < deadline, "no {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Polls a future until the condition is true, and drops it.
async fn drop_when<T>(future: impl Future<Output = T>, condition: impl Future<Output = ()>) {
    tokio::select! {
        _ = future => panic!("it was not interrupted"),
        () = condition => {}
    }
}

#[tokio::test]
async fn delete_ends_without_its_caller() {
    let bed = Bed::start("delete-left", false).await;
    bed.run().await;
    bed.played.exit(&bed.id, "", 3);
    assert_eq!(bed.client.wait(&bed.id).await.unwrap(), 3);
    let gate = bed.played.hold("Delete");
    let native = bed.native();
    let request = DeleteRequest { id: bed.id.clone(), ..Default::default() };
    let context = TtrpcContext::default();
    drop_when(native.delete(&context, request), gate.reached()).await;
    gate.open();
    bed.end().await;
}

#[tokio::test]
async fn container_that_the_delegate_has_forgotten_is_deleted() {
    let bed = Bed::start("forgotten", false).await;
    bed.run().await;
    bed.played.exit(&bed.id, "", 3);
    assert_eq!(bed.client.wait(&bed.id).await.unwrap(), 3);
    until("exit", || bed.native().container.exit().is_some()).await;
    bed.played.fail("Delete", Code::NOT_FOUND);
    assert_eq!(bed.client.delete(&bed.id).await.unwrap().1, 3);
    assert_eq!(bed.sandbox().count(), 0);
    bed.end().await;
}

#[tokio::test]
async fn end_of_a_forgotten_container_succeeds() {
    let bed = Bed::start("end-forgotten", false).await;
    bed.run().await;
    bed.played.fail("Kill", Code::NOT_FOUND);
    bed.played.fail("Delete", Code::NOT_FOUND);
    let id = Id::parse("id", &bed.id).unwrap();
    bed.sandbox().end(&id, SOON).await.unwrap();
    assert_eq!(bed.sandbox().count(), 0);
    bed.end().await;
}

#[tokio::test]
async fn container_of_a_caller_that_has_gone_is_ended() {
    let bed = Bed::start("create-left", false).await;
    let start = fs::read_to_string(bed.played.file("start")).unwrap();
    bed.played.on_start(&format!("touch begun\nwhile [ ! -e go ]; do sleep 0.1; done\n{start}"));
    let request = CreateTaskRequest {
        id: bed.id.clone(),
        bundle: bed.bundle().display().to_string(),
        ..Default::default()
    };
    let context = TtrpcContext::default();
    let creation = async {
        let wanted = convert::create_request(&request, None).unwrap();
        match bed.sandbox().create(wanted).await.unwrap() {
            Creation::Native(plan) => create(bed.sandbox(), *plan, &context, request.clone()).await,
            Creation::Done(_) => panic!("no native container"),
        }
    };
    drop_when(creation, until("begin", || bed.played.file("begun").exists())).await;
    fs::write(bed.played.file("go"), "").unwrap();
    until("end of the delegate", || !bed.played.is_alive()).await;
    assert_eq!(["Create", "Kill", "Delete"].map(|method| bed.count(method)), [1, 1, 1]);
    bed.end().await;
}

#[tokio::test]
async fn start_that_fails_leaves_no_delegate() {
    let bed = Bed::start("unconnected", false).await;
    let started = bed.played.file("started").display().to_string();
    // Its directory, not that of the script.
    let script = "cd \"$OLDPWD\"\nsleep 1000 >/dev/null 2>&1 &";
    bed.played.on_start(&format!("{script}\necho $! > {started}\necho unix:///nowhere/s"));
    let refused = bed.create().await.unwrap_err();
    assert_eq!(refused.code, "UNKNOWN", "{refused}");
    let pid = fs::read_to_string(started).unwrap();
    // A zombie has no arguments.
    let arguments = || fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    assert!(arguments().is_empty(), "the delegate stays");
    assert!(Record::read(&bed.harness.directory().join("bundles").join(&bed.id)).is_none());
    assert_eq!(bed.sandbox().count(), 0);
    bed.end().await;
}

#[tokio::test]
async fn leftovers_of_a_failed_create_are_removed() {
    let bed = Bed::start("create-failed", false).await;
    bed.played.fail("Create", Code::UNKNOWN);
    assert_eq!(bed.create().await.unwrap_err().code, "UNKNOWN");
    assert_eq!(bed.played.commands(), ["start", "delete"]);
    assert!(Record::read(&bed.harness.directory().join("bundles").join(&bed.id)).is_none());
    bed.end().await;
}

#[tokio::test]
async fn container_of_a_refused_namesake_stays() {
    let bed = Bed::start("create-again", false).await;
    bed.played.fail("Create", Code::ALREADY_EXISTS);
    assert_eq!(bed.create().await.unwrap_err().code, "ALREADY_EXISTS");
    assert_eq!(bed.played.commands(), ["start"]);
    assert_eq!((bed.count("Kill"), bed.count("Delete")), (0, 0));
    bed.end().await;
}

#[tokio::test]
async fn container_of_a_delegate_that_has_ended_before_the_answer_is_killed() {
    let bed = Bed::start("died-at-create", false).await;
    let gate = bed.played.hold("Create");
    let directory = PathBuf::from(format!("/run/runwasi/native/harness.{}--native", bed.id));
    let end = async {
        gate.reached().await;
        bed.played.die();
        // The last that is done for its end.
        until("end of the delegate", || !directory.exists()).await;
        gate.open();
    };
    let (created, ()) = tokio::join!(bed.create(), end);
    created.unwrap();
    assert_eq!(timeout(SOON, bed.client.wait(&bed.id)).await.unwrap().unwrap(), 137);
    assert_eq!(bed.client.state(&bed.id).await.unwrap().status, "STOPPED");
    assert_eq!(bed.client.delete(&bed.id).await.unwrap().1, 137);
    let told = [format!("exited {} 137", bed.id), format!("deleted {} 137", bed.id)];
    assert_eq!(bed.harness.events().summary(), told);
    bed.end().await;
}

impl Bed {
    async fn start_managed(name: &str) -> (Self, Id) {
        let bed = Self::start(name, true).await;
        let pod = Id::parse("id", "pod").unwrap();
        bed.sandbox().create_sandbox(&pod, SandboxRequest::default()).await.unwrap();
        bed.sandbox().start_sandbox(&pod).unwrap();
        (bed, pod)
    }
}

#[tokio::test]
async fn native_container_of_a_stopped_sandbox_does_not_start() {
    let (bed, pod) = Bed::start_managed("late-start").await;
    bed.create().await.unwrap();
    bed.sandbox().stop_sandbox(&pod, Duration::ZERO).await.unwrap();
    let refused = bed.client.start(&bed.id).await.unwrap_err();
    assert_eq!((refused.code.as_str(), bed.count("Start")), ("FAILED_PRECONDITION", 0));
    bed.client.delete(&bed.id).await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn native_container_that_is_created_during_a_stop_is_taken_back() {
    let (bed, pod) = Bed::start_managed("late-create").await;
    let gate = bed.played.hold("Create");
    let stop = async {
        gate.reached().await;
        bed.sandbox().stop_sandbox(&pod, Duration::ZERO).await.unwrap();
        gate.open();
    };
    let (created, ()) = tokio::join!(bed.create(), stop);
    assert_eq!(created.unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!((bed.count("Kill"), bed.count("Delete")), (1, 1));
    assert_eq!(bed.sandbox().count(), 0);
    bed.end().await;
}

#[tokio::test]
async fn usage_of_a_sandbox_has_that_of_its_native_containers() {
    let (bed, _pod) = Bed::start_managed("usage").await;
    bed.run().await;
    let guest = bed.harness.bundle("guest", &["wait"]).write().unwrap();
    bed.client.create("guest", &guest, &StdioPaths::default(), &[]).await.unwrap();
    bed.client.start("guest").await.unwrap();
    let processes = async || native_usage::usage_of_all(bed.sandbox()).await.processes;
    // More than once: a delegate of a busy machine may take more than its time to answer.
    let all = async {
        while processes().await != 3 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), all).await.unwrap();
    // A delegate that fails, or does not answer, takes nothing from the others.
    bed.played.fail("Stats", Code::UNKNOWN);
    assert_eq!(processes().await, 1);
    let gate = bed.played.hold("Stats");
    assert_eq!(processes().await, 1);
    gate.open();
    for id in ["guest", bed.id.as_str()] {
        bed.client.kill(id, 9).await.unwrap();
        bed.client.wait(id).await.unwrap();
        bed.client.delete(id).await.unwrap();
    }
    bed.end().await;
}

#[tokio::test]
async fn cpu_time_of_a_native_container_stays_however_it_is_deleted() {
    let second = Duration::from_secs(1);
    for by_containerd in [true, false] {
        let (bed, _pod) = Bed::start_managed(&format!("past-usage-{by_containerd}")).await;
        bed.run().await;
        let time = async || native_usage::usage_of_all(bed.sandbox()).await.cpu.time;
        // More than once: a delegate of a busy machine may take more than its time to answer.
        let told = async {
            while time().await != second {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, told).await.unwrap();
        if by_containerd {
            bed.client.kill(&bed.id, 9).await.unwrap();
            bed.client.wait(&bed.id).await.unwrap();
            bed.client.delete(&bed.id).await.unwrap();
        } else {
            let id = Id::parse("id", &bed.id).unwrap();
            bed.sandbox().end(&id, SOON).await.unwrap();
        }
        assert_eq!(time().await, second, "by containerd: {by_containerd}");
        bed.end().await;
    }
}

#[tokio::test]
async fn second_deletion_spares_the_next_container_of_the_name() {
    let bed = Bed::start("second-delete", false).await;
    bed.run().await;
    let first = bed.native().container;
    // Keeps the delegate.
    let other = format!("{}-other", bed.id);
    bed.client.create(&other, &bed.bundle_of(&other), &StdioPaths::default(), &[]).await.unwrap();
    bed.client.kill(&bed.id, 9).await.unwrap();
    bed.client.delete(&bed.id).await.unwrap();
    bed.run().await;
    let record = Record::read(&first.bundle);
    assert!(record.is_some());
    bed.sandbox().native_deleted(&first).await;
    assert_eq!((bed.sandbox().count(), Record::read(&first.bundle)), (2, record));
    for id in [&bed.id, &other] {
        bed.client.kill(id.as_str(), 9).await.unwrap();
        bed.client.delete(id.as_str()).await.unwrap();
    }
    bed.end().await;
}

#[tokio::test]
async fn exits_of_execs_are_told_once() {
    let bed = Bed::start("execs", false).await;
    bed.run().await;
    for exec in ["ended", "runs", "added"] {
        bed.client.exec(&bed.id, exec, "{}", &StdioPaths::default()).await.unwrap();
    }
    for exec in ["ended", "runs"] {
        bed.client.start((&*bed.id, exec)).await.unwrap();
    }
    bed.played.exit(&bed.id, "ended", 3);
    let container = bed.native().container;
    let exit = || container.exit_of_exec("ended", std::time::SystemTime::now());
    until("exit of the exec", || exit().is_some_and(|exit| exit.status.get() == 3)).await;
    bed.played.die();
    assert_eq!(bed.client.wait(&bed.id).await.unwrap(), 137);
    let told = [format!("exited {}/runs 137", bed.id), format!("exited {} 137", bed.id)];
    assert_eq!(bed.harness.events().summary(), told);
    for (exec, status) in [("ended", 3), ("runs", 137), ("added", 137)] {
        assert_eq!(bed.client.state((&*bed.id, exec)).await.unwrap().exit_status, status);
        assert_eq!(bed.client.delete((&*bed.id, exec)).await.unwrap().1, status);
    }
    bed.client.delete(&bed.id).await.unwrap();
    bed.end().await;
}

#[tokio::test]
async fn exit_that_was_told_outlives_the_native_runtime() {
    let bed = Bed::start("told", false).await;
    bed.run().await;
    bed.played.exit(&bed.id, "", 3);
    assert_eq!(bed.client.wait(&bed.id).await.unwrap(), 3);
    bed.played.die();
    let state = bed.client.state(&bed.id).await.unwrap();
    assert_eq!(state.status, "STOPPED");
    assert_eq!(state.exit_status, 3);
    assert_eq!(bed.client.delete(&bed.id).await.unwrap().1, 3);
    // The rest of the container has gone before the answer.
    assert_eq!(bed.played.commands(), ["start", "delete"]);
    assert_eq!(bed.harness.events().summary(), [format!("deleted {} 3", bed.id)]);
    bed.end().await;
}

#[tokio::test]
async fn exit_is_left_in_the_bundle_for_the_end_of_the_server() {
    let bed = Bed::start("left", false).await;
    bed.run().await;
    let bundle = bed.native().container.bundle.clone();
    let left = || left_exit::read(&bundle).map(|exit| exit.status.get());
    assert_eq!(left(), None);
    bed.played.exit(&bed.id, "", 3);
    until("exit in the bundle", || left() == Some(3)).await;
    bed.client.delete(&bed.id).await.unwrap();
    bed.end().await;
}
