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
struct Fixture {
    harness: Harness,
    client: TaskClient,
    played: Played,
    _server: Server,
    id: String,
}

impl Fixture {
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
    let fixture = Fixture::start("delete-left", false).await;
    fixture.run().await;
    fixture.played.exit(&fixture.id, "", 3);
    assert_eq!(fixture.client.wait(&fixture.id).await.unwrap(), 3);
    let gate = fixture.played.hold("Delete");
    let native = fixture.native();
    let request = DeleteRequest { id: fixture.id.clone(), ..Default::default() };
    let context = TtrpcContext::default();
    drop_when(native.delete(&context, request), gate.reached()).await;
    gate.open();
    fixture.end().await;
}

#[tokio::test]
async fn container_that_the_delegate_has_forgotten_is_deleted() {
    let fixture = Fixture::start("forgotten", false).await;
    fixture.run().await;
    fixture.played.exit(&fixture.id, "", 3);
    assert_eq!(fixture.client.wait(&fixture.id).await.unwrap(), 3);
    until("exit", || fixture.native().container.exit().is_some()).await;
    fixture.played.fail("Delete", Code::NOT_FOUND);
    assert_eq!(fixture.client.delete(&fixture.id).await.unwrap().1, 3);
    assert_eq!(fixture.sandbox().count(), 0);
    fixture.end().await;
}

#[tokio::test]
async fn end_of_a_forgotten_container_succeeds() {
    let fixture = Fixture::start("end-forgotten", false).await;
    fixture.run().await;
    fixture.played.fail("Kill", Code::NOT_FOUND);
    fixture.played.fail("Delete", Code::NOT_FOUND);
    let id = Id::parse("id", &fixture.id).unwrap();
    fixture.sandbox().end(&id, SOON).await.unwrap();
    assert_eq!(fixture.sandbox().count(), 0);
    fixture.end().await;
}

#[tokio::test]
async fn container_of_a_caller_that_has_gone_is_ended() {
    let fixture = Fixture::start("create-left", false).await;
    let start = fs::read_to_string(fixture.played.file("start")).unwrap();
    fixture
        .played
        .on_start(&format!("touch begun\nwhile [ ! -e go ]; do sleep 0.1; done\n{start}"));
    let request = CreateTaskRequest {
        id: fixture.id.clone(),
        bundle: fixture.bundle().display().to_string(),
        ..Default::default()
    };
    let context = TtrpcContext::default();
    let creation = async {
        let wanted = convert::create_request(&request, None).unwrap();
        match fixture.sandbox().create(wanted).await.unwrap() {
            Creation::Native(plan) => {
                create(fixture.sandbox(), *plan, &context, request.clone()).await
            }
            Creation::Done(_) => panic!("no native container"),
        }
    };
    drop_when(creation, until("begin", || fixture.played.file("begun").exists())).await;
    fs::write(fixture.played.file("go"), "").unwrap();
    until("end of the delegate", || !fixture.played.is_alive()).await;
    assert_eq!(["Create", "Kill", "Delete"].map(|method| fixture.count(method)), [1, 1, 1]);
    fixture.end().await;
}

#[tokio::test]
async fn start_that_fails_leaves_no_delegate() {
    let fixture = Fixture::start("unconnected", false).await;
    let started = fixture.played.file("started").display().to_string();
    // Its directory, not that of the script.
    let script = "cd \"$OLDPWD\"\nsleep 1000 >/dev/null 2>&1 &";
    fixture.played.on_start(&format!("{script}\necho $! > {started}\necho unix:///nowhere/s"));
    let refused = fixture.create().await.unwrap_err();
    assert_eq!(refused.code, "UNKNOWN", "{refused}");
    let pid = fs::read_to_string(started).unwrap();
    // A zombie has no arguments.
    let arguments = || fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
    assert!(arguments().is_empty(), "the delegate stays");
    assert!(Record::read(&fixture.harness.directory().join("bundles").join(&fixture.id)).is_none());
    assert_eq!(fixture.sandbox().count(), 0);
    fixture.end().await;
}

#[tokio::test]
async fn leftovers_of_a_failed_create_are_removed() {
    let fixture = Fixture::start("create-failed", false).await;
    fixture.played.fail("Create", Code::UNKNOWN);
    assert_eq!(fixture.create().await.unwrap_err().code, "UNKNOWN");
    assert_eq!(fixture.played.commands(), ["start", "delete"]);
    assert!(Record::read(&fixture.harness.directory().join("bundles").join(&fixture.id)).is_none());
    fixture.end().await;
}

#[tokio::test]
async fn container_of_a_refused_namesake_stays() {
    let fixture = Fixture::start("create-again", false).await;
    fixture.played.fail("Create", Code::ALREADY_EXISTS);
    assert_eq!(fixture.create().await.unwrap_err().code, "ALREADY_EXISTS");
    assert_eq!(fixture.played.commands(), ["start"]);
    assert_eq!((fixture.count("Kill"), fixture.count("Delete")), (0, 0));
    fixture.end().await;
}

#[tokio::test]
async fn container_of_a_delegate_that_has_ended_before_the_answer_is_killed() {
    let fixture = Fixture::start("died-at-create", false).await;
    let gate = fixture.played.hold("Create");
    let directory = PathBuf::from(format!("/run/runwasi/native/harness.{}--native", fixture.id));
    let end = async {
        gate.reached().await;
        fixture.played.die();
        // The last that is done for its end.
        until("end of the delegate", || !directory.exists()).await;
        gate.open();
    };
    let (created, ()) = tokio::join!(fixture.create(), end);
    created.unwrap();
    assert_eq!(timeout(SOON, fixture.client.wait(&fixture.id)).await.unwrap().unwrap(), 137);
    assert_eq!(fixture.client.state(&fixture.id).await.unwrap().status, "STOPPED");
    assert_eq!(fixture.client.delete(&fixture.id).await.unwrap().1, 137);
    let told = [format!("exited {} 137", fixture.id), format!("deleted {} 137", fixture.id)];
    assert_eq!(fixture.harness.events().summary(), told);
    fixture.end().await;
}

impl Fixture {
    async fn start_managed(name: &str) -> (Self, Id) {
        let fixture = Self::start(name, true).await;
        let pod = Id::parse("id", "pod").unwrap();
        fixture.sandbox().create_sandbox(&pod, SandboxRequest::default()).await.unwrap();
        fixture.sandbox().start_sandbox(&pod).unwrap();
        (fixture, pod)
    }
}

#[tokio::test]
async fn native_container_of_a_stopped_sandbox_does_not_start() {
    let (fixture, pod) = Fixture::start_managed("late-start").await;
    fixture.create().await.unwrap();
    fixture.sandbox().stop_sandbox(&pod, Duration::ZERO).await.unwrap();
    let refused = fixture.client.start(&fixture.id).await.unwrap_err();
    assert_eq!((refused.code.as_str(), fixture.count("Start")), ("FAILED_PRECONDITION", 0));
    fixture.client.delete(&fixture.id).await.unwrap();
    fixture.end().await;
}

#[tokio::test]
async fn native_container_that_is_created_during_a_stop_is_taken_back() {
    let (fixture, pod) = Fixture::start_managed("late-create").await;
    let gate = fixture.played.hold("Create");
    let stop = async {
        gate.reached().await;
        fixture.sandbox().stop_sandbox(&pod, Duration::ZERO).await.unwrap();
        gate.open();
    };
    let (created, ()) = tokio::join!(fixture.create(), stop);
    assert_eq!(created.unwrap_err().code, "FAILED_PRECONDITION");
    assert_eq!((fixture.count("Kill"), fixture.count("Delete")), (1, 1));
    assert_eq!(fixture.sandbox().count(), 0);
    fixture.end().await;
}

#[tokio::test]
async fn usage_of_a_sandbox_has_that_of_its_native_containers() {
    let (fixture, _pod) = Fixture::start_managed("usage").await;
    fixture.run().await;
    let guest = fixture.harness.bundle("guest", &["wait"]).write().unwrap();
    fixture.client.create("guest", &guest, &StdioPaths::default(), &[]).await.unwrap();
    fixture.client.start("guest").await.unwrap();
    let processes = async || native_usage::usage_of_all(fixture.sandbox()).await.processes;
    // More than once: a delegate of a busy machine may take more than its time to answer.
    let all = async {
        while processes().await != 3 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), all).await.unwrap();
    // A delegate that fails, or does not answer, takes nothing from the others.
    fixture.played.fail("Stats", Code::UNKNOWN);
    assert_eq!(processes().await, 1);
    let gate = fixture.played.hold("Stats");
    assert_eq!(processes().await, 1);
    gate.open();
    for id in ["guest", fixture.id.as_str()] {
        fixture.client.kill(id, 9).await.unwrap();
        fixture.client.wait(id).await.unwrap();
        fixture.client.delete(id).await.unwrap();
    }
    fixture.end().await;
}

#[tokio::test]
async fn cpu_time_of_a_native_container_stays_however_it_is_deleted() {
    let second = Duration::from_secs(1);
    for by_containerd in [true, false] {
        let (fixture, _pod) = Fixture::start_managed(&format!("past-usage-{by_containerd}")).await;
        fixture.run().await;
        let time = async || native_usage::usage_of_all(fixture.sandbox()).await.cpu.time;
        // More than once: a delegate of a busy machine may take more than its time to answer.
        let told = async {
            while time().await != second {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, told).await.unwrap();
        if by_containerd {
            fixture.client.kill(&fixture.id, 9).await.unwrap();
            fixture.client.wait(&fixture.id).await.unwrap();
            fixture.client.delete(&fixture.id).await.unwrap();
        } else {
            let id = Id::parse("id", &fixture.id).unwrap();
            fixture.sandbox().end(&id, SOON).await.unwrap();
        }
        assert_eq!(time().await, second, "by containerd: {by_containerd}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn second_deletion_spares_the_next_container_of_the_name() {
    let fixture = Fixture::start("second-delete", false).await;
    fixture.run().await;
    let first = fixture.native().container;
    // Keeps the delegate.
    let other = format!("{}-other", fixture.id);
    fixture
        .client
        .create(&other, &fixture.bundle_of(&other), &StdioPaths::default(), &[])
        .await
        .unwrap();
    fixture.client.kill(&fixture.id, 9).await.unwrap();
    fixture.client.delete(&fixture.id).await.unwrap();
    fixture.run().await;
    let record = Record::read(&first.bundle);
    assert!(record.is_some());
    fixture.sandbox().native_deleted(&first).await;
    assert_eq!((fixture.sandbox().count(), Record::read(&first.bundle)), (2, record));
    for id in [&fixture.id, &other] {
        fixture.client.kill(id.as_str(), 9).await.unwrap();
        fixture.client.delete(id.as_str()).await.unwrap();
    }
    fixture.end().await;
}

#[tokio::test]
async fn exits_of_execs_are_told_once() {
    let fixture = Fixture::start("execs", false).await;
    fixture.run().await;
    for exec in ["ended", "runs", "added"] {
        fixture.client.exec(&fixture.id, exec, "{}", &StdioPaths::default()).await.unwrap();
    }
    for exec in ["ended", "runs"] {
        fixture.client.start((&*fixture.id, exec)).await.unwrap();
    }
    fixture.played.exit(&fixture.id, "ended", 3);
    let container = fixture.native().container;
    let exit = || container.exit_of_exec("ended", std::time::SystemTime::now());
    until("exit of the exec", || exit().is_some_and(|exit| exit.status.get() == 3)).await;
    fixture.played.die();
    assert_eq!(fixture.client.wait(&fixture.id).await.unwrap(), 137);
    let told = [format!("exited {}/runs 137", fixture.id), format!("exited {} 137", fixture.id)];
    assert_eq!(fixture.harness.events().summary(), told);
    for (exec, status) in [("ended", 3), ("runs", 137), ("added", 137)] {
        assert_eq!(fixture.client.state((&*fixture.id, exec)).await.unwrap().exit_status, status);
        assert_eq!(fixture.client.delete((&*fixture.id, exec)).await.unwrap().1, status);
    }
    fixture.client.delete(&fixture.id).await.unwrap();
    fixture.end().await;
}

#[tokio::test]
async fn exit_that_was_told_outlives_the_native_runtime() {
    let fixture = Fixture::start("told", false).await;
    fixture.run().await;
    fixture.played.exit(&fixture.id, "", 3);
    assert_eq!(fixture.client.wait(&fixture.id).await.unwrap(), 3);
    fixture.played.die();
    let state = fixture.client.state(&fixture.id).await.unwrap();
    assert_eq!(state.status, "STOPPED");
    assert_eq!(state.exit_status, 3);
    assert_eq!(fixture.client.delete(&fixture.id).await.unwrap().1, 3);
    // The rest of the container has gone before the answer.
    assert_eq!(fixture.played.commands(), ["start", "delete"]);
    assert_eq!(fixture.harness.events().summary(), [format!("deleted {} 3", fixture.id)]);
    fixture.end().await;
}

#[tokio::test]
async fn exit_is_left_in_the_bundle_for_the_end_of_the_server() {
    let fixture = Fixture::start("left", false).await;
    fixture.run().await;
    let bundle = fixture.native().container.bundle.clone();
    let left = || left_exit::read(&bundle).map(|exit| exit.status.get());
    assert_eq!(left(), None);
    fixture.played.exit(&fixture.id, "", 3);
    until("exit in the bundle", || left() == Some(3)).await;
    fixture.client.delete(&fixture.id).await.unwrap();
    fixture.end().await;
}
