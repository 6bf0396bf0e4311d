//! The Task service over a real socket, with a scripted engine in place of wasm: what every RPC
//! does in every state, what clients at once see, and which events come.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use runwasi_core::{
    Engine, EngineError, Instance, InstanceSpec,
    containerd::task_client::{CallError, TaskClient},
    digest::Digest,
    sandbox::report::Run,
    testing::{Harness, ScriptedEngine},
};
use tokio::{io::AsyncReadExt, net::unix::pipe};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

async fn harness() -> Result<(Harness, TaskClient)> {
    let harness = Harness::start(ScriptedEngine)?;
    let client = harness.client().await?;
    Ok((harness, client))
}

/// Creates a container without streams.
async fn create(harness: &Harness, client: &TaskClient, id: &str, args: &[&str]) -> Result {
    let bundle = harness.bundle(id, args).write()?;
    client.create(id, &bundle, &Default::default(), &[]).await?;
    Ok(())
}

async fn run(harness: &Harness, client: &TaskClient, id: &str, args: &[&str]) -> Result<u32> {
    create(harness, client, id, args).await?;
    client.start(id).await?;
    let status = client.wait(id).await?;
    client.delete(id).await?;
    Ok(status)
}

fn code<T>(result: std::result::Result<T, CallError>) -> String {
    result.map_or_else(|error| error.code, |_| "OK".into())
}

#[tokio::test]
async fn a_life_is_created_started_exited_deleted() -> Result {
    let (harness, client) = harness().await?;
    assert_eq!(run(&harness, &client, "c1", &["exit", "7"]).await?, 7);
    assert_eq!(
        harness.events().summary(),
        ["created c1", "started c1", "exited c1 7", "deleted c1 7"]
    );
    assert_eq!(code(client.state("c1").await), "NOT_FOUND");
    harness.stop().await;
    Ok(())
}

/// Every RPC in every state, through the service; the pure table has a test of its own.
#[tokio::test]
async fn every_call_in_every_state_answers_as_documented() -> Result {
    let (harness, client) = harness().await?;
    for (state, expected) in [
        // start, pause, resume, kill 0, delete
        ("created", ["-", "FAILED_PRECONDITION", "FAILED_PRECONDITION", "OK", "-"]),
        (
            "running",
            ["FAILED_PRECONDITION", "-", "FAILED_PRECONDITION", "OK", "FAILED_PRECONDITION"],
        ),
        (
            "paused",
            ["FAILED_PRECONDITION", "FAILED_PRECONDITION", "-", "OK", "FAILED_PRECONDITION"],
        ),
        (
            "stopped",
            ["FAILED_PRECONDITION", "FAILED_PRECONDITION", "FAILED_PRECONDITION", "NOT_FOUND", "-"],
        ),
        ("unknown", ["NOT_FOUND"; 5]),
    ] {
        if state != "unknown" {
            create(&harness, &client, state, &["wait"]).await?;
        }
        if ["running", "paused", "stopped"].contains(&state) {
            client.start(state).await?;
        }
        if state == "paused" {
            client.pause(state).await?;
        }
        if state == "stopped" {
            client.kill(state, SIGKILL).await?;
            client.wait(state).await?;
        }
        // `-` is the call that is allowed and would leave the state.
        for (i, expected) in expected.iter().enumerate().filter(|(_, expected)| **expected != "-") {
            let answer = match i {
                0 => code(client.start(state).await),
                1 => code(client.pause(state).await),
                2 => code(client.resume(state).await),
                3 => code(client.kill(state, 0).await),
                _ => code(client.delete(state).await),
            };
            assert_eq!(answer, *expected, "call {i} while {state}");
        }
        let listed = if state == "unknown" { "NOT_FOUND" } else { "OK" };
        assert_eq!(code(client.pids(state).await), listed, "pids while {state}");
        assert_eq!(code(client.stats(state).await), listed, "stats while {state}");
        assert_eq!(code(client.connect_task(state).await), "OK", "connect while {state}");
    }
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn state_names_what_containerd_lists() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c1", &["wait"]).await?;
    let status = async || client.state("c1").await.map(|state| (state.status, state.exit_status));
    assert_eq!(status().await?, ("CREATED".into(), 0));
    client.start("c1").await?;
    assert_eq!(status().await?, ("RUNNING".into(), 0));
    client.pause("c1").await?;
    assert_eq!(status().await?, ("PAUSED".into(), 0));
    client.resume("c1").await?;
    assert_eq!(status().await?, ("RUNNING".into(), 0));
    client.kill("c1", SIGTERM).await?;
    client.wait("c1").await?;
    assert_eq!(status().await?, ("STOPPED".into(), 143));
    assert_eq!(client.pids("c1").await?, [std::process::id()]);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn every_terminating_signal_ends_with_128_and_its_number() -> Result {
    let (harness, client) = harness().await?;
    let ignored = [17, 18, 23, 28];
    let stopping = [19, 20, 21, 22];
    for signal in (1..=64).filter(|n| !ignored.contains(n) && !stopping.contains(n)) {
        let id = format!("s{signal}");
        create(&harness, &client, &id, &["wait"]).await?;
        client.start(&id).await?;
        for signal in ignored {
            client.kill(&id, signal).await?;
        }
        client.kill(&id, signal).await?;
        assert_eq!(client.wait(&id).await?, 128 + signal);
        assert_eq!(client.delete(&id).await?.1, 128 + signal);
    }
    create(&harness, &client, "c", &["wait"]).await?;
    assert_eq!(code(client.kill("c", 65).await), "INVALID_ARGUMENT");
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_stopped_guest_goes_on_with_sigcont_and_dies_of_sigkill_all_the_same() -> Result {
    let (harness, client) = harness().await?;
    for id in ["a", "b"] {
        create(&harness, &client, id, &["spin"]).await?;
        client.start(id).await?;
        client.kill(id, 19).await?;
    }
    client.kill("a", 18).await?;
    for id in ["a", "b"] {
        client.kill(id, SIGKILL).await?;
        assert_eq!(client.wait(id).await?, 137);
    }
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_instance_that_handles_sigterm_ends_by_itself() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["graceful"]).await?;
    client.start("c").await?;
    client.kill("c", SIGTERM).await?;
    assert_eq!(client.wait("c").await?, 0);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn created_container_can_be_killed_and_deleted() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "killed", &["wait"]).await?;
    client.kill("killed", SIGTERM).await?;
    assert_eq!(client.wait("killed").await?, 143);
    create(&harness, &client, "deleted", &["wait"]).await?;
    assert_eq!(client.delete("deleted").await?.1, 137);
    let expected = [
        "created killed",
        "exited killed 143",
        "created deleted",
        "exited deleted 137",
        "deleted deleted 137",
    ];
    assert_eq!(harness.events().summary(), expected);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_failing_start_is_the_answer_of_start_and_still_one_exit() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["fail"]).await?;
    let error = client.start("c").await.expect_err("start answered well");
    assert!(error.message.contains("told to fail"), "{error}");
    assert_eq!(client.wait("c").await?, 128);
    client.delete("c").await?;
    assert_eq!(harness.events().summary(), ["created c", "exited c 128", "deleted c 128"]);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_guest_that_never_gets_ready_can_be_killed_while_start_waits() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["never-ready"]).await?;
    let starting = tokio::time::timeout(Duration::from_millis(100), client.start("c")).await;
    assert!(starting.is_err(), "start did not wait");
    assert_eq!(client.state("c").await?.status, "CREATED");
    client.kill("c", SIGKILL).await?;
    assert_eq!(client.wait("c").await?, 137);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn an_engine_that_fails_or_panics_later_ends_its_container_only() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "other", &["wait"]).await?;
    client.start("other").await?;
    assert_eq!(run(&harness, &client, "late", &["fail-late"]).await?, 134);
    assert_eq!(run(&harness, &client, "panics", &["panic"]).await?, 134);
    assert_eq!(client.state("other").await?.status, "RUNNING");
    harness.stop().await;
    Ok(())
}

/// Reads the first argument as wasm. The others are a program of the scripted engine.
struct ReadingEngine;

#[async_trait]
impl Engine for ReadingEngine {
    async fn prepare(
        &self,
        mut spec: InstanceSpec,
    ) -> std::result::Result<Arc<dyn Instance>, EngineError> {
        spec.read(&spec.find().await?).await?;
        spec.args.remove(0);
        ScriptedEngine.prepare(spec).await
    }
}

#[tokio::test]
async fn artifact_that_an_engine_reads_is_in_the_report_of_its_container() -> Result {
    let harness = Harness::start(ReadingEngine)?;
    let client = harness.client().await?;
    let bundle = harness.bundle("c", &["/app.wat", "wait"]).file("/app.wat", "(module)").write()?;
    client.create("c", &bundle, &Default::default(), &[]).await?;
    let Run::Guest(report) = harness.sandbox().report().remove(0).run else { panic!("no guest") };
    let artifact = report.artifact.ok_or("no artifact")?;
    assert_eq!(artifact.path.display().to_string(), "/app.wat");
    assert_eq!(artifact.digest, Some(Digest::of(b"(module)")));
    client.delete("c").await?;
    harness.stop().await;
    Ok(())
}

/// The driver of a process calls both. Its own panic would end this program.
#[tokio::test]
async fn panic_of_an_instance_in_a_signal_or_its_drop_ends_its_container_only() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "other", &["wait"]).await?;
    client.start("other").await?;
    create(&harness, &client, "signal", &["panic-in-signal"]).await?;
    client.start("signal").await?;
    client.kill("signal", SIGTERM).await?;
    assert_eq!(client.wait("signal").await?, 143);
    client.delete("signal").await?;
    assert_eq!(run(&harness, &client, "drop", &["panic-in-drop"]).await?, 0);
    // Never started.
    create(&harness, &client, "created", &["panic-in-drop"]).await?;
    client.delete("created").await?;
    assert_eq!(client.state("other").await?.status, "RUNNING");
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn futures_that_a_guest_has_spawned_end_with_it() -> Result {
    let (harness, client) = harness().await?;
    assert_eq!(run(&harness, &client, "c", &["spawn"]).await?, 0);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn many_clients_wait_for_one_container_at_once() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["wait"]).await?;
    client.start("c").await?;
    let mut waiters = tokio::task::JoinSet::new();
    for i in 0..100 {
        // Some on connections of their own, some on a shared one.
        let client = if i % 2 == 0 { harness.client().await? } else { client.clone() };
        waiters.spawn(async move { client.wait("c").await });
    }
    client.kill("c", SIGKILL).await?;
    while let Some(waited) = waiters.join_next().await {
        assert_eq!(waited??, 137);
    }
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_container_that_exists_cannot_be_created_again() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["wait"]).await?;
    let bundle = harness.bundle("c", &["wait"]).write()?;
    assert_eq!(code(client.create("c", &bundle, &Default::default(), &[]).await), "ALREADY_EXISTS");
    client.delete("c").await?;
    create(&harness, &client, "c", &["wait"]).await?;
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_create_that_fails_leaves_the_id_free() -> Result {
    let (harness, client) = harness().await?;
    let refused =
        create(&harness, &client, "c", &["no-such-script"]).await.expect_err("created").to_string();
    assert!(refused.contains("no-such-script: unknown script"), "{refused}");
    assert_eq!(code(client.delete("c").await), "NOT_FOUND");
    assert_eq!(run(&harness, &client, "c", &["exit", "0"]).await?, 0);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn bad_ids_and_bundles_are_named_in_the_error() -> Result {
    let (harness, client) = harness().await?;
    let bundle = harness.bundle("good", &["wait"]).write()?;
    for id in ["../x", "a/b", "", &"x".repeat(4000)] {
        let error =
            client.create(id, &bundle, &Default::default(), &[]).await.expect_err("created");
        assert_eq!(error.code, "INVALID_ARGUMENT");
        assert!(error.message.contains("container id"), "{error}");
    }
    let gone = harness.directory().join("no-bundle");
    let error = client.create("c", &gone, &Default::default(), &[]).await.expect_err("created");
    assert!(error.message.contains("no-bundle/config.json"), "{error}");
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn output_is_complete_when_the_exit_is_seen() -> Result {
    let (harness, client) = harness().await?;
    for round in 0..20 {
        let id = format!("c{round}");
        let text = "x".repeat(1 + round * 10_000);
        let (bundle, pipes) =
            (harness.bundle(&id, &["print", &text]).write()?, harness.pipes(&id)?);
        let (stdout, _stderr) = (pipes.read_stdout(), pipes.read_stderr());
        client.create(&id, &bundle, &pipes.paths, &[]).await?;
        client.start(&id).await?;
        assert_eq!(client.wait(&id).await?, 0);
        assert_eq!(stdout.await??.len(), text.len());
        client.delete(&id).await?;
    }
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn stdin_reaches_the_guest_and_close_io_ends_it() -> Result {
    let (harness, client) = harness().await?;
    let (bundle, pipes) = (harness.bundle("c", &["cat"]).write()?, harness.pipes("c")?);
    let (stdout, _stderr) = (pipes.read_stdout(), pipes.read_stderr());
    client.create("c", &bundle, &pipes.paths, &[]).await?;
    let mut stdin = pipes.write_stdin()?;
    client.start("c").await?;
    stdin.write_all(b"to the guest and back")?;
    drop(stdin);
    client.close_stdin("c").await?;
    assert_eq!(client.wait("c").await?, 0);
    assert_eq!(stdout.await??, b"to the guest and back");
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn guest_with_unread_output_can_be_killed() -> Result {
    let (harness, client) = harness().await?;
    let (bundle, pipes) =
        (harness.bundle("c", &["print", &"x".repeat(1 << 20)]).write()?, harness.pipes("c")?);
    client.create("c", &bundle, &pipes.paths, &[]).await?;
    client.start("c").await?;
    let waiting = tokio::time::timeout(Duration::from_millis(100), client.wait("c")).await;
    assert!(waiting.is_err(), "a megabyte went into a pipe without a reader");
    client.kill("c", SIGKILL).await?;
    assert_eq!(client.wait("c").await?, 137);
    harness.stop().await;
    Ok(())
}

/// The guest is done, only its reader is not: a signal ends the waiting and changes nothing else.
#[tokio::test]
async fn a_signal_while_the_exit_waits_for_its_reader_does_not_change_the_status() -> Result {
    let (harness, client) = harness().await?;
    for signal in [SIGTERM, SIGKILL] {
        let id = format!("c{signal}");
        let (bundle, pipes) =
            (harness.bundle(&id, &["print", "unread"]).write()?, harness.pipes(&id)?);
        let reader = pipe::OpenOptions::new().open_receiver(&pipes.paths.stdout)?;
        client.create(&id, &bundle, &pipes.paths, &[]).await?;
        client.start(&id).await?;
        // One byte, so that it is known that the guest has written; the rest stays unread.
        while reader.try_read(&mut [0]).is_err() {
            tokio::time::timeout(Duration::from_secs(5), reader.readable()).await??;
        }
        let waiting = tokio::time::timeout(Duration::from_millis(300), client.wait(&id)).await;
        assert!(waiting.is_err(), "the exit did not wait for the reader");
        client.kill(&id, signal).await?;
        assert_eq!(
            tokio::time::timeout(Duration::from_secs(5), client.wait(&id)).await??,
            0,
            "signal {signal}"
        );
        client.delete(&id).await?;
    }
    harness.stop().await;
    Ok(())
}

/// containerd may still be opening the FIFOs when it kills an ended process. It deletes it next.
#[tokio::test]
async fn a_kill_of_an_ended_process_is_answered_once_its_output_is_read() -> Result {
    let (harness, client) = harness().await?;
    let (bundle, pipes) =
        (harness.bundle("c", &["print", "last words"]).write()?, harness.pipes("c")?);
    client.create("c", &bundle, &pipes.paths, &[]).await?;
    client.start("c").await?;
    assert_eq!(client.wait("c").await?, 0);
    let mut reader = pipe::OpenOptions::new().open_receiver(&pipes.paths.stdout)?;
    let late = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut read = [0; 32];
        let read = reader.read(&mut read).await.map(|count| read[..count].to_vec());
        (Instant::now(), read)
    };
    let kill = async { (client.kill("c", SIGKILL).await, Instant::now()) };
    let ((read_at, read), (killed, killed_at)) = tokio::join!(late, kill);
    killed.expect_err("it has ended");
    assert!(read?.starts_with(b"last words"));
    assert!(killed_at > read_at, "the kill was answered before the reader had read");
    client.delete("c").await?;
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn shutdown_is_obeyed_only_when_no_container_is_left() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "a", &["wait"]).await?;
    create(&harness, &client, "b", &["wait"]).await?;
    client.shutdown("a").await?;
    client.delete("a").await?;
    client.shutdown("a").await?;
    assert_eq!(client.state("b").await?.status, "CREATED");
    client.delete("b").await?;
    client.shutdown("b").await?;
    tokio::time::timeout(Duration::from_secs(5), harness.tasks().stopped()).await?;
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn sandbox_is_deserted_while_it_has_no_container() -> Result {
    let (harness, client) = harness().await?;
    let brief = Duration::from_millis(50);
    let deserted = || tokio::time::timeout(10 * brief, harness.sandbox().idle_for(brief));
    deserted().await?;
    create(&harness, &client, "c", &["wait"]).await?;
    assert!(deserted().await.is_err(), "with a container");
    client.delete("c").await?;
    deserted().await?;
    create(&harness, &client, "bad", &["unheard-of"]).await.expect_err("no such script");
    deserted().await?;
    harness.stop().await;
    Ok(())
}

/// The reply must be out before the server is gone: containerd would see a closed connection
/// instead.
#[tokio::test]
async fn the_shutdown_that_ends_the_server_is_answered() -> Result {
    for _ in 0..50 {
        let (harness, client) = harness().await?;
        create(&harness, &client, "c", &["exit", "0"]).await?;
        client.delete("c").await?;
        client.shutdown("c").await?;
        harness.stop().await;
    }
    Ok(())
}

/// containerd has to see the answer to the kill before it sees that the connection is closed.
#[tokio::test]
async fn shutdown_leaves_the_answer_to_a_kill_its_time() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["wait"]).await?;
    client.start("c").await?;
    // Before the answer, whose time is the server's.
    let begin = Instant::now();
    client.kill("c", 9).await?;
    assert_eq!(client.wait("c").await?, 137);
    client.delete("c").await?;
    client.shutdown("c").await?;
    assert!(begin.elapsed() >= Duration::from_millis(5), "{:?}", begin.elapsed());
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn stopping_the_server_ends_guests_with_their_events() -> Result {
    let (harness, client) = harness().await?;
    for (id, args) in [("polite", "graceful"), ("plain", "wait"), ("busy", "spin")] {
        create(&harness, &client, id, &[args]).await?;
        client.start(id).await?;
    }
    harness.stop().await;
    let exits: Vec<_> = harness
        .events()
        .summary()
        .into_iter()
        .filter(|event| event.starts_with("exited"))
        .collect();
    assert_eq!(exits.len(), 3, "{exits:?}");
    for expected in ["exited polite 0", "exited plain 143", "exited busy 143"] {
        assert!(exits.iter().any(|exit| exit == expected), "{exits:?}");
    }
    Ok(())
}

#[tokio::test]
async fn client_that_disconnects_in_a_call_disturbs_no_other() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["never-ready"]).await?;
    for _ in 0..20 {
        let leaving = harness.client().await?;
        let _ = tokio::time::timeout(Duration::from_millis(2), leaving.wait("c")).await;
    }
    let leaving = harness.client().await?;
    let _ = tokio::time::timeout(Duration::from_millis(20), leaving.start("c")).await;
    drop(leaving);
    client.kill("c", SIGKILL).await?;
    assert_eq!(client.wait("c").await?, 137);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_container_of_type_sandbox_needs_no_guest() -> Result {
    let (harness, client) = harness().await?;
    let bundle = harness
        .bundle("pause", &["/pause"])
        .annotation("io.kubernetes.cri.container-type", "sandbox")
        .write()?;
    client.create("pause", &bundle, &Default::default(), &[]).await?;
    client.start("pause").await?;
    assert_eq!(client.state("pause").await?.status, "RUNNING");
    client.kill("pause", SIGTERM).await?;
    assert_eq!(client.wait("pause").await?, 143);
    harness.stop().await;
    Ok(())
}

/// Stops the server as a signal does, and returns the time that it took.
async fn stopped_by_signal(harness: &Harness) -> Result<Duration> {
    let begin = Instant::now();
    harness.tasks().stop();
    tokio::time::timeout(Duration::from_secs(10), harness.tasks().drained()).await?;
    Ok(begin.elapsed())
}

/// The exit that a stopped server has left in the bundle of a container.
fn left_exit(harness: &Harness, id: &str) -> Option<String> {
    let file = harness.directory().join("bundles").join(id).join("exit.status");
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.split(' ').next()?.to_owned())
}

/// Demands that a stop takes less than the 3 s for which a server waits for its clients. Tried more
/// than once: on a busy machine it takes longer.
async fn ends_before_it_gives_up(stop: impl AsyncFn() -> Result<Duration>) -> Result {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        least = least.min(stop().await?);
        if least < Duration::from_millis(2900) {
            return Ok(());
        }
    }
    panic!("{least:?}")
}

#[tokio::test]
async fn stopping_server_answers_until_its_tasks_are_deleted() -> Result {
    ends_before_it_gives_up(stop_with_a_client).await
}

async fn stop_with_a_client() -> Result<Duration> {
    let (harness, client) = harness().await?;
    for (id, args) in [("polite", "graceful"), ("plain", "wait")] {
        create(&harness, &client, id, &[args]).await?;
        client.start(id).await?;
    }
    let calls = async {
        harness.tasks().stopped().await;
        for (id, status) in [("polite", 0), ("plain", 143)] {
            assert_eq!(client.wait(id).await?, status);
            assert_eq!(client.state(id).await?.status, "STOPPED");
            let late = harness.bundle("late", &["wait"]).write()?;
            let refused = client.create("late", &late, &Default::default(), &[]).await;
            assert_eq!(code(refused), "FAILED_PRECONDITION");
            // Longer than the pause for tasks that no client asks about.
            tokio::time::sleep(Duration::from_millis(700)).await;
            assert_eq!(client.delete(id).await?.1, status);
            assert_eq!(left_exit(&harness, id), None);
        }
        client.shutdown("plain").await?;
        Ok(())
    };
    let (took, called): (Result<Duration>, Result) =
        tokio::join!(stopped_by_signal(&harness), calls);
    called?;
    let events = harness.events().summary();
    assert_eq!(events.iter().filter(|event| event.starts_with("exited")).count(), 2);
    took
}

#[tokio::test]
async fn stop_waits_a_moment_for_a_task_without_a_client_and_leaves_its_exit() -> Result {
    ends_before_it_gives_up(stop_without_a_client).await
}

async fn stop_without_a_client() -> Result<Duration> {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["wait"]).await?;
    client.start("c").await?;
    // Before the stop: a client that lists tasks, and deletes none.
    client.state("c").await?;
    let took = stopped_by_signal(&harness).await?;
    assert!(took > Duration::from_millis(900), "{took:?}");
    assert_eq!(left_exit(&harness, "c").as_deref(), Some("143"));
    Ok(took)
}

#[tokio::test]
async fn stop_waits_for_a_client_within_the_grace_only() -> Result {
    let (harness, client) = harness().await?;
    create(&harness, &client, "c", &["wait"]).await?;
    client.start("c").await?;
    let (took, status) = tokio::join!(stopped_by_signal(&harness), client.wait("c"));
    assert_eq!(status?, 143);
    // Three quarters of the grace of 4 s.
    let took = took?;
    assert!(took > Duration::from_millis(2900), "{took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!(left_exit(&harness, "c").as_deref(), Some("143"));
    Ok(())
}
