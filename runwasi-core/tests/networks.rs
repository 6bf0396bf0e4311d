//! What guests of many sandboxes in different network namespaces, all of one process, can and
//! cannot reach. Needs root, as making a network namespace does.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use runwasi_core::{
    containerd::task_client::TaskClient,
    network::{Entrance, Network},
    stdio::paths::StdioPaths,
    testing::{Harness, ScriptedEngine},
};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const SIGKILL: u32 = 9;

/// Runs a guest to its end; the answer is its status and what it printed.
async fn run(
    harness: &Harness,
    client: &TaskClient,
    id: &str,
    args: &[&str],
) -> Result<(u32, String)> {
    let pipes = harness.pipes(id)?;
    let reader = pipes.read_stdout();
    // Nobody reads the others, and a stream without a reader is waited for.
    let stdio = StdioPaths { stdout: pipes.paths.stdout.clone(), ..StdioPaths::default() };
    client.create(id, &harness.bundle(id, args).write()?, &stdio, &[]).await?;
    client.start(id).await?;
    let status = client.wait(id).await?;
    client.delete(id).await?;
    Ok((status, String::from_utf8(reader.await??)?))
}

/// Starts a guest that serves, and returns when it does.
async fn serve(harness: &Harness, client: &TaskClient, id: &str, port: &str) -> Result {
    client
        .create(id, &harness.bundle(id, &["serve", port]).write()?, &Default::default(), &[])
        .await?;
    client.start(id).await?;
    Ok(())
}

/// The threads of this process that are in another network than `host`, with their names. Other
/// tests have some, too.
fn threads_outside(host: &Path) -> Result<BTreeMap<u32, String>> {
    let mut outside = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let tid = task.file_name().and_then(|name| name.to_str()).ok_or("no name")?.parse()?;
        // One that ends meanwhile is nowhere.
        let Ok(namespace) = fs::read_link(task.join("ns/net")) else { continue };
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        if namespace != host {
            outside.insert(tid, name.trim().to_owned());
        }
    }
    Ok(outside)
}

#[tokio::test]
async fn every_guest_reaches_its_own_network_and_no_other() -> Result {
    let host = fs::read_link("/proc/self/ns/net")?;
    let mut sandboxes = Vec::new();
    // The same port in each; a client of one sandbox's network runs in another's, too.
    for n in 0..20 {
        let harness = Harness::start_in(ScriptedEngine, Network::with_process(Entrance::New)?)?;
        let client = harness.client().await?;
        serve(&harness, &client, &format!("server{n}"), "8080").await?;
        sandboxes.push((harness, client));
    }
    let lonely = Harness::start_in(ScriptedEngine, Network::with_process(Entrance::New)?)?;
    let lonely_client = lonely.client().await?;
    for round in 0..3 {
        for (n, (harness, client)) in sandboxes.iter().enumerate() {
            let visited =
                run(harness, client, &format!("visitor{round}"), &["visit", "8080"]).await?;
            assert_eq!(visited, (0, format!("server{n}")), "round {round}");
        }
        let visited =
            run(&lonely, &lonely_client, &format!("visitor{round}"), &["visit", "8080"]).await?;
        assert_eq!(visited, (1, String::new()), "nobody listens in this network");
        assert!(
            std::net::TcpStream::connect("127.0.0.1:8080").is_err(),
            "the host does not reach in"
        );
    }
    // Only the threads for calls inside are ever in a foreign namespace.
    let foreign = threads_outside(&host)?;
    let may = |name: &String| name == "namespaces" || name == "sandboxes";
    assert!(foreign.values().all(may), "{foreign:?}");
    let pids: std::collections::BTreeSet<_> =
        sandboxes.iter().map(|(harness, _)| harness.sandbox().pid()).collect();
    assert_eq!(pids.len(), sandboxes.len(), "{pids:?}");
    for (n, (harness, client)) in sandboxes.iter().enumerate() {
        client.kill(&format!("server{n}"), SIGKILL).await?;
        harness.stop().await;
    }
    Ok(())
}

#[tokio::test]
async fn guests_of_host_network_reach_the_host_and_each_other() -> Result {
    let first = Harness::start_in(ScriptedEngine, Network::with_process(Entrance::Host)?)?;
    let second = Harness::start(ScriptedEngine)?;
    let (one, two) = (first.client().await?, second.client().await?);
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    serve(&first, &one, "server", &free).await?;
    assert_eq!(run(&second, &two, "visitor", &["visit", &free]).await?, (0, "server".into()));
    assert_ne!(first.sandbox().pid(), std::process::id());
    assert_eq!(second.sandbox().pid(), std::process::id());
    Ok(())
}

#[tokio::test]
async fn the_pid_that_is_reported_leads_to_the_network_of_the_sandbox() -> Result {
    let harness = Harness::start_in(ScriptedEngine, Network::with_process(Entrance::New)?)?;
    let client = harness.client().await?;
    let id = "waits";
    let pid = client
        .create(id, &harness.bundle(id, &["wait"]).write()?, &Default::default(), &[])
        .await?;
    client.start(id).await?;
    assert_eq!(client.state(id).await?.pid, pid);
    assert_eq!(client.pids(id).await?, [pid]);
    assert_ne!(fs::read_link(format!("/proc/{pid}/ns/net"))?, fs::read_link("/proc/self/ns/net")?);
    client.kill(id, SIGKILL).await?;
    client.wait(id).await?;
    client.delete(id).await?;
    harness.stop().await;
    drop((client, harness));
    let gone = async {
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await?;
    Ok(())
}
