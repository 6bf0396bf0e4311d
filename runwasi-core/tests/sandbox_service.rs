//! containerd's Sandbox API over a real socket, with a scripted engine in place of wasm: a sandbox that lives by itself.

use std::time::Duration;

use containerd_shim_protos::{
    sandbox_api::{
        CreateSandboxRequest, PingRequest, PlatformRequest, SandboxMetricsRequest, SandboxStatusRequest,
        SandboxStatusResponse, ShutdownSandboxRequest, StartSandboxRequest, StopSandboxRequest, WaitSandboxRequest,
    },
    sandbox_async::SandboxClient,
    ttrpc::{
        self, Code,
        r#async::Client,
        context::{Context, with_duration},
    },
};
use runwasi_core::{
    service::client::Containerd,
    testing::{Harness, ScriptedEngine},
};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const ID: &str = "sandbox";

struct Bed {
    harness: Harness,
    sandbox: SandboxClient,
    tasks: Containerd,
}

fn patience() -> Context {
    with_duration(Duration::from_secs(20))
}

impl Bed {
    async fn new() -> Result<Self> {
        let harness = Harness::start_managed(ScriptedEngine)?;
        let client = Client::connect(&format!("unix://{}", harness.socket().display())).await?;
        let tasks = harness.client().await?;
        Ok(Self { harness, sandbox: SandboxClient::new(client), tasks })
    }

    async fn create(&self, id: &str, network: &str) -> ttrpc::Result<()> {
        let (sandbox_id, netns_path) = (id.to_owned(), network.to_owned());
        let request = CreateSandboxRequest { sandbox_id, netns_path, ..Default::default() };
        self.sandbox.create_sandbox(patience(), &request).await.map(drop)
    }

    /// The pid.
    async fn start(&self, id: &str) -> ttrpc::Result<u32> {
        let request = StartSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
        let started = self.sandbox.start_sandbox(patience(), &request).await?;
        assert!(started.created_at.is_some());
        Ok(started.pid)
    }

    async fn status(&self) -> ttrpc::Result<SandboxStatusResponse> {
        let request = SandboxStatusRequest { sandbox_id: ID.to_owned(), verbose: true, ..Default::default() };
        self.sandbox.sandbox_status(patience(), &request).await
    }

    async fn stop(&self, timeout_secs: u32) -> ttrpc::Result<()> {
        let request = StopSandboxRequest { sandbox_id: ID.to_owned(), timeout_secs, ..Default::default() };
        self.sandbox.stop_sandbox(patience(), &request).await.map(drop)
    }

    async fn shutdown(&self) -> ttrpc::Result<()> {
        let request = ShutdownSandboxRequest { sandbox_id: ID.to_owned(), ..Default::default() };
        self.sandbox.shutdown_sandbox(patience(), &request).await.map(drop)
    }

    /// A container that runs these words.
    async fn run(&self, id: &str, args: &[&str]) -> Result {
        let bundle = self.harness.bundle(id, args).write()?;
        self.tasks.create(id, &bundle, &Default::default(), &[]).await?;
        self.tasks.start(id).await?;
        Ok(())
    }
}

fn code<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> Code {
    match result.expect_err("a refusal") {
        ttrpc::Error::RpcStatus(status) => status.code(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn managed_sandbox_lives_without_a_container() -> Result {
    let bed = Bed::new().await?;
    bed.create(ID, "").await?;
    assert_eq!(bed.status().await?.state, "SANDBOX_NOTREADY");
    assert_eq!(bed.start(ID).await?, std::process::id());
    bed.run("c", &["exit", "7"]).await?;
    assert_eq!(bed.tasks.wait("c").await?, 7);
    bed.tasks.delete("c").await?;
    // As containerd says it after a container's delete.
    bed.tasks.shutdown("c").await?;
    let deserted = bed.harness.sandbox().deserted(Duration::from_millis(20));
    assert!(tokio::time::timeout(Duration::from_millis(200), deserted).await.is_err());
    let status = bed.status().await?;
    assert_eq!((status.state.as_str(), status.pid), ("SANDBOX_READY", std::process::id()));
    assert!(status.info["info"].contains(&format!("\"pid\":{}", std::process::id())), "{:?}", status.info);
    bed.sandbox.ping_sandbox(patience(), &PingRequest { sandbox_id: ID.into(), ..Default::default() }).await?;
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn stop_ends_the_containers_and_answers_who_waits() -> Result {
    let bed = Bed::new().await?;
    bed.create(ID, "").await?;
    bed.start(ID).await?;
    bed.run("polite", &["graceful"]).await?;
    bed.run("deaf", &["spin"]).await?;
    let request = WaitSandboxRequest { sandbox_id: ID.into(), ..Default::default() };
    let wait = bed.sandbox.wait_sandbox(patience(), &request);
    let (waited, stopped) = tokio::join!(wait, bed.stop(5));
    stopped?;
    let waited = waited?;
    assert!(waited.exit_status == 0 && waited.exited_at.is_some());
    // They stay until they are deleted.
    assert_eq!((bed.tasks.wait("polite").await?, bed.tasks.wait("deaf").await?), (0, 143));
    let status = bed.status().await?;
    assert!(status.state == "SANDBOX_NOTREADY" && status.exited_at == waited.exited_at);
    bed.stop(0).await?;
    assert_eq!(bed.status().await?.exited_at, waited.exited_at, "stopped once");
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn shutdown_is_answered_and_ends_the_server_with_what_is_left() -> Result {
    let bed = Bed::new().await?;
    bed.create(ID, "").await?;
    bed.start(ID).await?;
    bed.run("left", &["wait"]).await?;
    bed.shutdown().await?;
    bed.harness.tasks().stopped().await;
    bed.harness.tasks().drained().await;
    assert!(bed.harness.events().summary().contains(&"exited left 143".to_owned()));
    Ok(())
}

/// As a shim's `delete` says it, when containerd has lost the connection.
#[tokio::test]
async fn shutdown_of_a_task_in_the_sandboxs_own_name_ends_it() -> Result {
    let bed = Bed::new().await?;
    bed.create(ID, "").await?;
    bed.tasks.shutdown("another").await?;
    bed.start(ID).await?;
    bed.tasks.shutdown(ID).await?;
    bed.harness.tasks().stopped().await;
    Ok(())
}

#[tokio::test]
async fn metrics_are_those_of_all_containers_and_the_platform_is_an_images() -> Result {
    let bed = Bed::new().await?;
    bed.create(ID, "").await?;
    bed.start(ID).await?;
    bed.run("one", &["wait"]).await?;
    bed.run("two", &["wait"]).await?;
    assert_eq!(bed.harness.sandbox().usage_of_all().processes, 2);
    let request = SandboxMetricsRequest { sandbox_id: ID.into(), ..Default::default() };
    let metric = bed.sandbox.sandbox_metrics(patience(), &request).await?.metrics.unwrap_or_default();
    let kind = metric.data.unwrap_or_default().type_url;
    assert!(metric.id == ID && kind.starts_with("io.containerd.cgroups.v"), "{kind}");
    let request = PlatformRequest { sandbox_id: ID.into(), ..Default::default() };
    let platform = bed.sandbox.platform(patience(), &request).await?.platform.unwrap_or_default();
    assert_eq!(platform.os, "linux");
    assert!(["amd64", "arm64"].contains(&platform.architecture.as_str()), "{platform}");
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn calls_out_of_order_and_for_others_are_refused() -> Result {
    let bed = Bed::new().await?;
    assert_eq!(code(bed.start(ID).await), Code::NOT_FOUND);
    assert_eq!(code(bed.create("../x", "").await), Code::INVALID_ARGUMENT);
    assert_eq!(code(bed.create(ID, "/etc/passwd").await), Code::INVALID_ARGUMENT);
    assert_eq!(code(bed.create(ID, "/nowhere").await), Code::INVALID_ARGUMENT);
    // What was refused left nothing.
    bed.create(ID, "").await?;
    assert_eq!(code(bed.create(ID, "").await), Code::ALREADY_EXISTS);
    assert_eq!(code(bed.create("another", "").await), Code::ALREADY_EXISTS);
    assert_eq!(code(bed.start("another").await), Code::NOT_FOUND);
    bed.start(ID).await?;
    assert_eq!(code(bed.start(ID).await), Code::FAILED_PRECONDITION);
    bed.stop(0).await?;
    assert_eq!(code(bed.start(ID).await), Code::FAILED_PRECONDITION);
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn sandbox_of_its_containers_has_no_sandbox_api() -> Result {
    let harness = Harness::start(ScriptedEngine)?;
    let client = SandboxClient::new(Client::connect(&format!("unix://{}", harness.socket().display())).await?);
    let request = PingRequest { sandbox_id: ID.into(), ..Default::default() };
    assert_eq!(code(client.ping_sandbox(patience(), &request).await), Code::INVALID_ARGUMENT);
    harness.stop().await;
    Ok(())
}
