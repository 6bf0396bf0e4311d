//! Starts and deletes of containers that are interrupted, and stops of sandboxes.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{managed::SandboxRequest, *};
use crate::{
    bundle::pod::PodConfig,
    stdio::paths::StdioPaths,
    testing::{Harness, ScriptedEngine},
};

const SOON: Duration = Duration::from_secs(20);

async fn until(path: &std::path::Path) {
    let exists = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, exists).await.unwrap();
}

/// The bundle of a container `c` with a hook that is this shell script.
fn hooked(harness: &Harness, args: &[&str], hook: &str, script: &str) -> PathBuf {
    let bundle = harness.bundle("c", args).write().unwrap();
    let config = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    spec["hooks"] = json!({ hook: [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    fs::write(&config, spec.to_string()).unwrap();
    bundle
}

#[tokio::test]
async fn container_of_a_failed_hook_is_killed_without_the_caller_of_its_start() {
    let harness = Harness::start(ScriptedEngine).unwrap();
    let client = harness.client().await.unwrap();
    let begun = harness.directory().join("begun");
    let go = harness.directory().join("go");
    let [begin, wait] = [&begun, &go].map(|path| path.display().to_string());
    let script = format!("touch {begin}; while [ ! -e {wait} ]; do sleep 0.1; done; exit 1");
    let bundle = hooked(&harness, &["wait"], "poststart", &script);
    client.create("c", &bundle, &StdioPaths::default(), &[]).await.unwrap();
    let Some(Member::Guest(container)) = harness.sandbox().find("c") else { panic!("no guest") };
    tokio::select! {
        started = harness.sandbox().start(&container, "") => panic!("{started:?}"),
        () = until(&begun) => {}
    }
    fs::write(&go, "").unwrap();
    assert_eq!(timeout(SOON, client.wait("c")).await.unwrap().unwrap(), 137);
    harness.stop().await;
}

/// As a shim that asks once more after a server that did not answer.
#[tokio::test]
async fn end_that_is_asked_for_twice_has_the_same_exit_for_both() {
    let harness = Harness::start(ScriptedEngine).unwrap();
    let client = harness.client().await.unwrap();
    let bundle = harness.bundle("c", &["wait"]).write().unwrap();
    client.create("c", &bundle, &StdioPaths::default(), &[]).await.unwrap();
    client.start("c").await.unwrap();
    let id = Id::parse("container id", "c").unwrap();
    let end = || harness.sandbox().end(&id, SOON);
    let both = timeout(SOON, async { tokio::join!(end(), end()) }).await.unwrap();
    let status = |ended: Result<(u32, Exit), _>| ended.map(|(_, exit)| exit.status.get()).unwrap();
    assert_eq!([status(both.0), status(both.1)], [137, 137]);
    harness.stop().await;
}

#[tokio::test]
async fn hook_after_the_end_runs_without_the_caller_of_the_delete() {
    let harness = Harness::start(ScriptedEngine).unwrap();
    let client = harness.client().await.unwrap();
    let after = harness.directory().join("after");
    let script = format!("touch {}", after.display());
    let bundle = hooked(&harness, &["exit", "0"], "poststop", &script);
    client.create("c", &bundle, &StdioPaths::default(), &[]).await.unwrap();
    client.start("c").await.unwrap();
    client.wait("c").await.unwrap();
    let Some(Member::Guest(container)) = harness.sandbox().find("c") else { panic!("no guest") };
    tokio::select! {
        biased;
        deleted = harness.sandbox().delete(&container, "", None) => panic!("{deleted:?}"),
        () = std::future::ready(()) => {}
    }
    until(&after).await;
    harness.stop().await;
}

/// Needs root, as a namespace does.
#[tokio::test]
async fn stop_gives_the_shared_memory_of_a_pod_back() {
    let harness = Harness::start_managed(ScriptedEngine).unwrap();
    let sandbox = harness.sandbox();
    let id = Id::parse("sandbox id", "pod").unwrap();
    let bundle = harness.directory().join("pod");
    fs::create_dir(&bundle).unwrap();
    let pod = Some(PodConfig::default());
    let request = SandboxRequest { bundle: Some(bundle), pod, ..SandboxRequest::default() };
    sandbox.create_sandbox(&id, request).await.unwrap();
    sandbox.start_sandbox(&id).unwrap();
    let files = Arc::downgrade(&sandbox.pod_files().unwrap());
    sandbox.stop_sandbox(&id, Duration::ZERO).await.unwrap();
    assert!(files.upgrade().is_none(), "held until the end of the sandbox");
    harness.stop().await;
}

#[tokio::test]
async fn shutdown_spares_a_container_that_comes_while_it_waits() {
    let harness = Harness::start(ScriptedEngine).unwrap();
    let sandbox = harness.sandbox();
    // Ahead, so that the wait begins before the container comes, however busy the machine is.
    *sandbox.shared.killed.lock() = Some(Instant::now() + Duration::from_secs(1));
    let id = Id::parse("container id", "c").unwrap();
    let come = async { Reservation::take(&sandbox.shared, &id).unwrap() };
    let ((), container) = tokio::join!(sandbox.shutdown("a"), come);
    assert!(!sandbox.tasks().is_stopped(), "it has ended with a container");
    drop(container);
    sandbox.shutdown("a").await;
    assert!(sandbox.tasks().is_stopped());
    harness.stop().await;
}
