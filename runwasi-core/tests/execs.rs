//! The exec processes of a container over a real socket, with a scripted engine in place of wasm.

use runwasi_core::{
    Id,
    containerd::task_client::{CallError, TaskClient},
    process::state::State,
    sandbox::report::Run,
    stdio::paths::StdioPaths,
    testing::{Harness, ScriptedEngine},
};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

/// A harness with the running container `c1`.
async fn running(args: &[&str]) -> Result<(Harness, TaskClient)> {
    let (harness, client) = created(args).await?;
    client.start("c1").await?;
    Ok((harness, client))
}

async fn created(args: &[&str]) -> Result<(Harness, TaskClient)> {
    let harness = Harness::start(ScriptedEngine)?;
    let client = harness.client().await?;
    let bundle = harness.bundle("c1", args).write()?;
    client.create("c1", &bundle, &StdioPaths::default(), &[]).await?;
    Ok((harness, client))
}

fn spec(args: &[&str]) -> String {
    format!(r#"{{"cwd":"/","args":{args:?},"user":{{"uid":0,"gid":0}}}}"#)
}

async fn exec(client: &TaskClient, id: &str, args: &[&str]) -> std::result::Result<(), CallError> {
    client.exec("c1", id, &spec(args), &StdioPaths::default()).await
}

fn error<T>(result: std::result::Result<T, CallError>) -> (String, String) {
    result.map_or_else(|error| (error.code, error.message), |_| ("OK".into(), String::new()))
}

#[tokio::test]
async fn an_exec_lives_beside_the_init_with_events_of_its_own() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    exec(&client, "e1", &["exit", "7"]).await?;
    assert_eq!(client.state(("c1", "e1")).await?.status, "CREATED");
    assert!(client.start(("c1", "e1")).await? > 0);
    assert_eq!(client.wait(("c1", "e1")).await?, 7);
    assert_eq!(client.state(("c1", "e1")).await?.status, "STOPPED");
    assert_eq!(client.state("c1").await?.status, "RUNNING");
    assert_eq!(client.delete(("c1", "e1")).await?.1, 7);
    assert_eq!(error(client.state(("c1", "e1")).await).0, "NOT_FOUND");
    // As with containerd's own shims: no event tells of an exec's delete.
    assert_eq!(
        harness.events().summary(),
        ["created c1", "started c1", "added c1/e1", "started c1/e1", "exited c1/e1 7"]
    );
    exec(&client, "e1", &["exit", "0"]).await?;
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_inits_end_ends_every_exec_first() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    for id in ["runs", "waits", "done"] {
        exec(&client, id, if id == "done" { &["exit", "0"] } else { &["wait"] }).await?;
    }
    client.start(("c1", "runs")).await?;
    client.start(("c1", "done")).await?;
    client.wait(("c1", "done")).await?;
    client.kill("c1", SIGTERM).await?;
    assert_eq!(client.wait("c1").await?, 143);
    assert_eq!(client.wait(("c1", "runs")).await?, 137);
    assert_eq!(client.wait(("c1", "waits")).await?, 137);
    assert_eq!(client.wait(("c1", "done")).await?, 0);
    let summary = harness.events().summary();
    assert_eq!(summary.last().map(String::as_str), Some("exited c1 143"), "{summary:?}");
    assert!(summary.contains(&"exited c1/runs 137".into()), "{summary:?}");
    assert_eq!(error(exec(&client, "late", &["wait"]).await).0, "FAILED_PRECONDITION");
    // The container goes with what is left in it.
    client.delete("c1").await?;
    assert!(harness.sandbox().is_empty());
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn execs_of_an_init_that_never_started_end_with_its_kill() -> Result {
    let (harness, client) = created(&["wait"]).await?;
    exec(&client, "e1", &["wait"]).await?;
    client.start(("c1", "e1")).await?;
    client.kill("c1", SIGKILL).await?;
    assert_eq!(client.wait(("c1", "e1")).await?, 137);
    assert_eq!(client.wait("c1").await?, 137);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn each_process_is_killed_on_its_own_and_all_at_once() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    for id in ["e1", "e2", "e3"] {
        exec(&client, id, &["wait"]).await?;
        client.start(("c1", id)).await?;
    }
    client.kill(("c1", "e1"), SIGTERM).await?;
    assert_eq!(client.wait(("c1", "e1")).await?, 143);
    assert_eq!(error(client.kill(("c1", "e1"), SIGKILL).await).0, "NOT_FOUND");
    assert_eq!(client.pids("c1").await?.len(), 3, "the init and two execs");
    client.kill_all("c1", SIGTERM).await?;
    assert_eq!(client.wait(("c1", "e2")).await?, 143);
    assert_eq!(client.wait(("c1", "e3")).await?, 143);
    assert_eq!(client.wait("c1").await?, 143);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_pause_holds_the_execs_and_lets_none_start() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    exec(&client, "spins", &["spin"]).await?;
    client.start(("c1", "spins")).await?;
    exec(&client, "later", &["exit", "3"]).await?;
    client.pause("c1").await?;
    let id = Id::parse("container id", "c1")?;
    harness.settled_cpu(&id).await?;
    for exec in ["spins", "later"] {
        assert_eq!(client.state(("c1", exec)).await?.status, "PAUSED", "{exec}");
    }
    let (code, text) = error(client.start(("c1", "later")).await);
    assert!(code == "FAILED_PRECONDITION" && text.contains("paused"), "{code}: {text}");
    assert_eq!(error(exec(&client, "another", &["wait"]).await).0, "FAILED_PRECONDITION");
    client.kill(("c1", "spins"), SIGKILL).await?;
    assert_eq!(client.wait(("c1", "spins")).await?, 137);
    client.resume("c1").await?;
    assert_eq!(client.state(("c1", "spins")).await?.status, "STOPPED");
    assert_eq!(client.state(("c1", "later")).await?.status, "CREATED");
    client.start(("c1", "later")).await?;
    assert_eq!(client.wait(("c1", "later")).await?, 3);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn report_of_a_paused_container_has_running_execs_as_paused_and_no_others() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    for (id, args) in [("done", &["exit", "3"][..]), ("new", &["wait"]), ("waits", &["wait"])] {
        exec(&client, id, args).await?;
    }
    client.start(("c1", "done")).await?;
    client.wait(("c1", "done")).await?;
    client.start(("c1", "waits")).await?;
    client.pause("c1").await?;
    let Run::Guest(report) = harness.sandbox().report().remove(0).run else { panic!("no guest") };
    let mut states: Vec<_> =
        report.execs.iter().map(|exec| (exec.id.as_str(), exec.state)).collect();
    states.sort_by_key(|(id, _)| *id);
    let wanted = [("done", State::Stopped), ("new", State::Created), ("waits", State::Paused)];
    assert_eq!(states, wanted);
    client.resume("c1").await?;
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn streams_of_an_exec_are_its_own() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    let pipes = harness.pipes("c1-e1")?;
    let reading = pipes.read_stdout();
    let stdin = pipes.write_stdin()?;
    client.exec("c1", "e1", &spec(&["cat"]), &pipes.paths).await?;
    client.start(("c1", "e1")).await?;
    std::io::Write::write_all(&mut &stdin, b"through the exec")?;
    drop(stdin);
    client.close_stdin(("c1", "e1")).await?;
    assert_eq!(client.wait(("c1", "e1")).await?, 0);
    assert_eq!(reading.await??, b"through the exec");
    assert_eq!(client.state("c1").await?.status, "RUNNING");
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn refused_exec_is_named_and_leaves_its_id_free() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    let none = StdioPaths::default();
    for (id, spec, code, text) in [
        ("e1", "{".to_owned(), "INVALID_ARGUMENT", "line 1"),
        ("e1", String::new(), "INVALID_ARGUMENT", "process: EOF"),
        ("e1", spec(&[]), "INVALID_ARGUMENT", "process.args: is empty"),
        ("../e1", spec(&["wait"]), "INVALID_ARGUMENT", "exec id \"../e1\" is invalid"),
        ("", spec(&["wait"]), "INVALID_ARGUMENT", "exec id is empty"),
    ] {
        let answer = error(client.exec("c1", id, &spec, &none).await);
        assert!(answer.0 == code && answer.1.contains(text), "{spec}: {answer:?}");
    }
    assert_eq!(error(client.exec("other", "e1", &spec(&["wait"]), &none).await).0, "NOT_FOUND");
    exec(&client, "e1", &["wait"]).await?;
    let (code, text) = error(exec(&client, "e1", &["wait"]).await);
    assert!(code == "ALREADY_EXISTS" && text.contains("exec e1 in container c1"), "{code}: {text}");
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn exec_that_cannot_run_fails_at_its_start_without_an_exit_event() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    let none = StdioPaths::default();
    for (spec, code, text) in [
        (spec(&["no-such-script"]), "INVALID_ARGUMENT", "unknown script"),
        (spec(&["wait"]).replace("\"/\"", "\"/no/where\""), "UNKNOWN", "/no/where"),
        (spec(&["fail"]), "UNKNOWN", "told to fail"),
    ] {
        client.exec("c1", "e1", &spec, &none).await?;
        assert_eq!(client.state(("c1", "e1")).await?.status, "CREATED");
        let answer = error(client.start(("c1", "e1")).await);
        assert!(answer.0 == code && answer.1.contains(text), "{spec}: {answer:?}");
        // A client that waits for the end of the exec is not left alone.
        client.wait(("c1", "e1")).await?;
        client.delete(("c1", "e1")).await?;
    }
    assert_eq!(client.state("c1").await?.status, "RUNNING");
    let added = "added c1/e1";
    assert_eq!(harness.events().summary(), ["created c1", "started c1", added, added, added]);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn delete_of_an_exec_that_never_started_is_0() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    exec(&client, "e1", &["exit", "7"]).await?;
    assert_eq!(client.delete(("c1", "e1")).await?.1, 0);
    assert_eq!(error(client.state(("c1", "e1")).await).0, "NOT_FOUND");
    assert_eq!(harness.events().summary(), ["created c1", "started c1", "added c1/e1"]);
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_pause_container_of_a_pod_runs_no_programs() -> Result {
    let harness = Harness::start(ScriptedEngine)?;
    let client = harness.client().await?;
    let bundle = harness
        .bundle("c1", &[])
        .annotation("io.kubernetes.cri.container-type", "sandbox")
        .write()?;
    client.create("c1", &bundle, &StdioPaths::default(), &[]).await?;
    client.start("c1").await?;
    let (code, text) = error(exec(&client, "e1", &["wait"]).await);
    assert!(code == "FAILED_PRECONDITION" && text.contains("sandbox"), "{code}: {text}");
    harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn twenty_execs_run_at_once() -> Result {
    let (harness, client) = running(&["wait"]).await?;
    let ids: Vec<_> = (0..20).map(|n| format!("e{n}")).collect();
    for id in &ids {
        exec(&client, id, &["exit", &id[1..]]).await?;
    }
    for id in &ids {
        client.start(("c1", id.as_str())).await?;
    }
    for id in &ids {
        assert_eq!(client.wait(("c1", id.as_str())).await?.to_string(), id[1..]);
        client.delete(("c1", id.as_str())).await?;
    }
    harness.stop().await;
    Ok(())
}
