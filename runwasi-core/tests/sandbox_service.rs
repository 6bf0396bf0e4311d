//! containerd's Sandbox API over a real socket, with a scripted engine in place of wasm: a sandbox
//! that lives by itself.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use containerd_shim_protos::{
    protobuf::well_known_types::any::Any,
    sandbox_api::{
        CreateSandboxRequest, PingRequest, PlatformRequest, SandboxMetricsRequest,
        SandboxStatusRequest, SandboxStatusResponse, ShutdownSandboxRequest, StartSandboxRequest,
        StopSandboxRequest, WaitSandboxRequest, WaitSandboxResponse,
    },
    sandbox_async::SandboxClient,
    ttrpc::{
        self, Code,
        r#async::Client,
        context::{Context, with_duration},
    },
};
use runwasi_core::{
    Id,
    containerd::task_client::TaskClient,
    network::{Entrance, Network},
    sandbox::{
        lifecycle::{LifecycleError, Phase},
        managed::SandboxRequest,
    },
    testing::{Harness, ScriptedEngine},
};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const ID: &str = "sandbox";

struct Fixture {
    harness: Harness,
    sandbox: SandboxClient,
    tasks: TaskClient,
}

fn patience() -> Context {
    with_duration(Duration::from_secs(20))
}

impl Fixture {
    async fn new() -> Result<Self> {
        Self::on(Harness::start_managed(ScriptedEngine)?).await
    }

    /// With a containerd that has a record of the sandbox, or none.
    async fn recorded(recorded: bool) -> Result<Self> {
        let recorded = Arc::new(AtomicBool::new(recorded));
        let fixture = Self::on(Harness::start_recorded(ScriptedEngine, recorded)?).await?;
        fixture.create(ID, "").await?;
        Ok(fixture)
    }

    async fn on(harness: Harness) -> Result<Self> {
        let client = Client::connect(&format!("unix://{}", harness.socket().display())).await?;
        let tasks = harness.client().await?;
        Ok(Self { harness, sandbox: SandboxClient::new(client), tasks })
    }

    /// With a sandbox that takes containers.
    async fn ready() -> Result<Self> {
        let fixture = Self::new().await?;
        fixture.create(ID, "").await?;
        fixture.start(ID).await?;
        Ok(fixture)
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
        let request =
            SandboxStatusRequest { sandbox_id: ID.to_owned(), verbose: true, ..Default::default() };
        self.sandbox.sandbox_status(patience(), &request).await
    }

    async fn stop(&self, timeout_secs: u32) -> ttrpc::Result<()> {
        let request =
            StopSandboxRequest { sandbox_id: ID.to_owned(), timeout_secs, ..Default::default() };
        self.sandbox.stop_sandbox(patience(), &request).await.map(drop)
    }

    async fn wait(&self) -> ttrpc::Result<WaitSandboxResponse> {
        let request = WaitSandboxRequest { sandbox_id: ID.to_owned(), ..Default::default() };
        self.sandbox.wait_sandbox(patience(), &request).await
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

fn in_network(path: &str) -> SandboxRequest {
    SandboxRequest { network: Some(path.into()), ..SandboxRequest::default() }
}

fn code<T: std::fmt::Debug>(result: ttrpc::Result<T>) -> Code {
    match result.expect_err("a refusal") {
        ttrpc::Error::RpcStatus(status) => status.code(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn managed_sandbox_lives_without_a_container() -> Result {
    let fixture = Fixture::new().await?;
    fixture.create(ID, "").await?;
    assert_eq!(fixture.status().await?.state, "SANDBOX_NOTREADY");
    let pid = fixture.start(ID).await?;
    assert_ne!(pid, std::process::id());
    fixture.run("c", &["exit", "7"]).await?;
    assert_eq!(fixture.tasks.wait("c").await?, 7);
    fixture.tasks.delete("c").await?;
    // As containerd says it after a container's delete.
    fixture.tasks.shutdown("c").await?;
    let deserted = fixture.harness.sandbox().idle_for(Duration::from_millis(20));
    assert!(tokio::time::timeout(Duration::from_millis(200), deserted).await.is_err());
    let status = fixture.status().await?;
    assert_eq!((status.state.as_str(), status.pid), ("SANDBOX_READY", pid));
    assert!(status.info["info"].contains(&format!("\"pid\":{pid}")), "{:?}", status.info);
    fixture
        .sandbox
        .ping_sandbox(patience(), &PingRequest { sandbox_id: ID.into(), ..Default::default() })
        .await?;
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn stop_ends_the_containers_and_answers_waiting_calls() -> Result {
    let fixture = Fixture::ready().await?;
    fixture.run("polite", &["graceful"]).await?;
    fixture.run("plain", &["spin"]).await?;
    fixture.run("deaf", &["deaf"]).await?;
    let (waited, stopped) = tokio::join!(fixture.wait(), fixture.stop(1));
    stopped?;
    let waited = waited?;
    assert!(waited.exit_status == 0 && waited.exited_at.is_some());
    // They stay until they are deleted.
    for (id, status) in [("polite", 0), ("plain", 143), ("deaf", 137)] {
        assert_eq!(fixture.tasks.wait(id).await?, status, "{id}");
    }
    let status = fixture.status().await?;
    assert!(status.state == "SANDBOX_NOTREADY" && status.exited_at == waited.exited_at);
    fixture.stop(0).await?;
    assert_eq!(fixture.status().await?.exited_at, waited.exited_at, "stopped once");
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn stop_without_time_kills_at_once() -> Result {
    let fixture = Fixture::ready().await?;
    fixture.run("polite", &["graceful"]).await?;
    fixture.stop(0).await?;
    assert_eq!(fixture.tasks.wait("polite").await?, 137);
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn containers_are_made_and_started_in_a_ready_sandbox_only() -> Result {
    let fixture = Fixture::new().await?;
    let early = async || fixture.run("early", &["wait"]).await.map_err(|error| error.to_string());
    assert_eq!(code(fixture.create(ID, "/nowhere").await), Code::INVALID_ARGUMENT);
    assert!(early().await.unwrap_err().contains("not ready"), "in no sandbox");
    fixture.create(ID, "").await?;
    assert!(early().await.unwrap_err().contains("not ready"), "before its start");
    fixture.start(ID).await?;
    let bundle = fixture.harness.bundle("created", &["wait"]).write()?;
    fixture.tasks.create("created", &bundle, &Default::default(), &[]).await?;
    fixture.stop(0).await?;
    assert!(fixture.run("late", &["wait"]).await.unwrap_err().to_string().contains("not ready"));
    assert_eq!(fixture.tasks.start("created").await.unwrap_err().code, "FAILED_PRECONDITION");
    fixture.harness.stop().await;
    Ok(())
}

/// A bundle of `ctr run` that has lost the file looks like one of the Sandbox API.
#[tokio::test]
async fn missing_config_is_named_before_the_missing_sandbox() -> Result {
    let fixture = Fixture::new().await?;
    let bundle = fixture.harness.bundle("c", &["wait"]).write()?;
    std::fs::remove_file(bundle.join("config.json"))?;
    let refused = fixture.tasks.create("c", &bundle, &Default::default(), &[]).await.unwrap_err();
    assert!(refused.message.contains("config.json: No such file"), "{}", refused.message);
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn sandbox_that_was_never_started_can_be_stopped() -> Result {
    let fixture = Fixture::new().await?;
    fixture.create(ID, "").await?;
    fixture.stop(0).await?;
    assert!(fixture.wait().await?.exited_at.is_some());
    assert_eq!(code(fixture.start(ID).await), Code::FAILED_PRECONDITION);
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn wait_fails_when_the_creation_fails() -> Result {
    let fixture = Fixture::new().await?;
    let (sandbox, id) = (fixture.harness.sandbox(), Id::parse("sandbox id", ID)?);
    // The creation begins first, and fails when the other waits.
    let both = async {
        tokio::join!(sandbox.create_sandbox(&id, in_network("/nowhere")), sandbox.wait_sandbox(&id))
    };
    let (created, waited) = tokio::time::timeout(Duration::from_secs(10), both).await?;
    assert!(created.is_err());
    assert!(matches!(waited, Err(LifecycleError::NotFound { .. })), "{waited:?}");
    fixture.harness.stop().await;
    Ok(())
}

/// The caller of a stop goes; its containers end all the same, and who waits is told.
#[tokio::test]
async fn stop_without_its_caller_runs_to_completion() -> Result {
    let fixture = Fixture::ready().await?;
    let (sandbox, id) = (fixture.harness.sandbox(), Id::parse("sandbox id", ID)?);
    fixture.run("deaf", &["deaf"]).await?;
    let stop = sandbox.stop_sandbox(&id, Duration::from_millis(200));
    assert!(tokio::time::timeout(Duration::from_millis(20), stop).await.is_err());
    tokio::time::timeout(Duration::from_secs(10), sandbox.wait_sandbox(&id)).await??;
    assert_eq!(fixture.tasks.wait("deaf").await?, 137);
    fixture.harness.stop().await;
    Ok(())
}

/// Needs root, as a namespace does.
#[tokio::test]
async fn sandbox_and_containers_are_in_the_network_at_its_path() -> Result {
    let (fixture, other) = (Fixture::new().await?, Network::with_process(Entrance::New)?);
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net"));
    fixture.create(ID, &format!("/proc/{}/ns/net", other.pid())).await?;
    let pid = fixture.start(ID).await?;
    assert!(pid != std::process::id() && namespace(pid)? == namespace(other.pid())?);
    fixture.run("c", &["wait"]).await?;
    assert_eq!(fixture.tasks.state("c").await?.pid, pid);
    fixture.harness.stop().await;
    drop(fixture);
    let gone = || !std::path::Path::new(&format!("/proc/{pid}")).exists();
    for _ in 0..200 {
        if gone() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the process of the sandbox is still there".into())
}

#[tokio::test]
async fn create_without_its_caller_runs_to_completion() -> Result {
    let fixture = Fixture::new().await?;
    let id = Id::parse("sandbox id", ID)?;
    // Polled once, then dropped.
    tokio::select! {
        biased;
        created = fixture.harness.sandbox().create_sandbox(&id, in_network("/proc/self/ns/net")) => panic!("{created:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(code(fixture.create(ID, "").await), Code::ALREADY_EXISTS);
    for _ in 0..200 {
        if fixture.harness.sandbox().sandbox_status(&id)?.phase == Phase::Created {
            fixture.start(ID).await?;
            fixture.harness.stop().await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("it stays half created".into())
}

/// As containerd does when the creation has failed.
#[tokio::test]
async fn shutdown_after_a_failed_create_ends_the_server() -> Result {
    let fixture = Fixture::new().await?;
    assert_eq!(code(fixture.create(ID, "/nowhere").await), Code::INVALID_ARGUMENT);
    fixture.shutdown().await?;
    fixture.harness.tasks().stopped().await;
    Ok(())
}

#[tokio::test]
async fn wait_is_answered_when_the_server_ends() -> Result {
    let fixture = Fixture::ready().await?;
    let (waited, ()) = tokio::join!(fixture.wait(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fixture.harness.tasks().stop();
    });
    assert!(waited?.exited_at.is_some());
    Ok(())
}

#[tokio::test]
async fn stop_succeeds_while_the_server_is_stopping() -> Result {
    let fixture = Fixture::ready().await?;
    fixture.run("polite", &["graceful"]).await?;
    fixture.run("plain", &["spin"]).await?;
    // In a drain, with more time than the drain has.
    fixture.harness.tasks().stop();
    // Asked at once: the server stays for the answers to what has been asked.
    let (stopped, status) = tokio::join!(fixture.stop(600), fixture.tasks.wait("polite"));
    stopped?;
    assert_eq!(status?, 0);
    assert!(fixture.status().await?.exited_at.is_some());
    Ok(())
}

#[tokio::test]
async fn shutdown_is_answered_and_ends_the_server_with_its_containers() -> Result {
    let fixture = Fixture::ready().await?;
    fixture.run("left", &["wait"]).await?;
    fixture.shutdown().await?;
    // The connection must not close together with the answer.
    let stopped =
        || tokio::time::timeout(Duration::from_millis(300), fixture.harness.tasks().stopped());
    assert!(stopped().await.is_err() && fixture.status().await?.state == "SANDBOX_NOTREADY");
    // As our `delete` does it next.
    fixture.tasks.shutdown(ID).await?;
    stopped().await?;
    fixture.harness.tasks().drained().await;
    assert!(fixture.harness.events().summary().contains(&"exited left 143".to_owned()));
    Ok(())
}

/// As a shim's `delete` says it, when containerd has lost the connection.
#[tokio::test]
async fn shutdown_of_a_task_in_the_sandboxs_own_name_ends_it() -> Result {
    let fixture = Fixture::new().await?;
    fixture.create(ID, "").await?;
    fixture.tasks.shutdown("another").await?;
    fixture.start(ID).await?;
    fixture.tasks.shutdown(ID).await?;
    fixture.harness.tasks().stopped().await;
    Ok(())
}

#[tokio::test]
async fn metrics_are_those_of_all_containers_and_the_platform_is_an_images() -> Result {
    let fixture = Fixture::ready().await?;
    fixture.run("one", &["wait"]).await?;
    fixture.run("two", &["wait"]).await?;
    assert_eq!(fixture.harness.sandbox().usage_of_guests().processes, 2);
    let request = SandboxMetricsRequest { sandbox_id: ID.into(), ..Default::default() };
    let metric =
        fixture.sandbox.sandbox_metrics(patience(), &request).await?.metrics.unwrap_or_default();
    let kind = metric.data.unwrap_or_default().type_url;
    assert!(metric.id == ID && kind.starts_with("io.containerd.cgroups.v"), "{kind}");
    let request = PlatformRequest { sandbox_id: ID.into(), ..Default::default() };
    let platform =
        fixture.sandbox.platform(patience(), &request).await?.platform.unwrap_or_default();
    assert_eq!(platform.os, "linux");
    let expected = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(platform.architecture, expected);
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn cpu_time_of_a_deleted_container_stays_in_the_metrics() -> Result {
    let fixture = Fixture::ready().await?;
    fixture.run("spins", &["spin"]).await?;
    let used = || fixture.harness.sandbox().usage_of_guests().cpu.time;
    let some = async {
        while used() < Duration::from_millis(10) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), some).await?;
    fixture.tasks.kill("spins", 9).await?;
    fixture.tasks.wait("spins").await?;
    let last = used();
    fixture.tasks.delete("spins").await?;
    assert!(used() >= last, "{:?} after {last:?}", used());
    assert_eq!(fixture.harness.sandbox().usage_of_guests().processes, 0);
    fixture.harness.stop().await;
    Ok(())
}

/// A field of protobuf with bytes for its content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("a short field");
    [&[number << 3 | 2, length], content].concat()
}

/// The CRI's `PodSandboxConfig` with a host name, a name server and a parameter of the kernel.
fn pod(sysctl: &str, value: &str) -> Any {
    let dns = field(1, b"192.0.2.53");
    let sysctl = [field(1, sysctl.as_bytes()), field(2, value.as_bytes())].concat();
    let linux = field(3, &sysctl);
    let value = [field(2, b"web-0"), field(4, &dns), field(8, &linux)].concat();
    Any { type_url: "runtime.v1.PodSandboxConfig".into(), value, ..Any::default() }
}

/// Needs root, as a namespace does.
#[tokio::test]
async fn sandbox_has_the_names_and_parameters_of_its_pod() -> Result {
    let (fixture, network) = (Fixture::new().await?, Network::with_process(Entrance::New)?);
    let bundle = fixture.harness.directory().join("sandbox");
    fs::create_dir_all(&bundle)?;
    let create = async |options: Any, netns: String| {
        let request = CreateSandboxRequest {
            sandbox_id: ID.into(),
            bundle_path: bundle.display().to_string(),
            netns_path: netns,
            options: Some(options).into(),
            ..Default::default()
        };
        fixture.sandbox.create_sandbox(patience(), &request).await.map(drop)
    };
    let netns = format!("/proc/{}/ns/net", network.pid());
    let parameter = "net.ipv4.ip_unprivileged_port_start";
    for (options, netns, text) in [
        (pod("kernel.panic", "1"), netns.clone(), "linux.sysctl[\"kernel.panic\"]"),
        (pod("net.ipv4.none", "1"), netns.clone(), "linux.sysctl[\"net.ipv4.none\"] = \"1\""),
        (pod(parameter, "1"), String::new(), "belongs to the host's network"),
        (pod(parameter, "1"), "/proc/self/ns/net".into(), "belongs to the host's network"),
        (Any { type_url: "a.b".into(), ..Any::default() }, netns.clone(), "options: \"a.b\""),
    ] {
        let refused = create(options, netns).await;
        let error = format!("{refused:?}");
        assert_eq!(code(refused), Code::INVALID_ARGUMENT);
        assert!(error.replace('\\', "").contains(text), "{error}");
    }
    create(pod(parameter, "77"), netns).await?;
    let pid = fixture.start(ID).await?;
    let inside = move || {
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("a parameter")
    };
    assert_eq!(network.run(inside)?, "77\n");
    let pings = || fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").expect("a parameter");
    assert_eq!(network.run(pings)?, "0\t2147483647\n", "a default of containerd");
    assert_ne!(inside(), "77\n", "the host's");
    let read = |name: &str| fs::read_to_string(bundle.join("pod").join(name));
    assert_eq!(read("hostname")?, "web-0\n");
    assert_eq!(read("resolv.conf")?, "nameserver 192.0.2.53\n");
    let uts = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/uts"));
    assert_ne!(uts(pid)?, uts(std::process::id())?);
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn sandbox_that_containerd_forgets_before_its_start_ends_by_itself() -> Result {
    let (forgotten, known) = (Fixture::recorded(false).await?, Fixture::recorded(true).await?);
    let started = Fixture::recorded(false).await?;
    started.start(ID).await?;
    tokio::time::timeout(Duration::from_secs(20), forgotten.harness.tasks().stopped()).await?;
    let stopped = |fixture: &Fixture| fixture.harness.tasks().is_stopped();
    // Created after the other: their first question comes later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!stopped(&known) && !stopped(&started));
    for fixture in [&forgotten, &known, &started] {
        fixture.harness.stop().await;
    }
    Ok(())
}

/// That of `ctr sandboxes run`.
#[tokio::test]
async fn config_of_a_sandbox_gives_its_namespaces() -> Result {
    let fixture = Fixture::new().await?;
    let bundle = fixture.harness.directory().join("sandbox");
    fs::create_dir_all(&bundle)?;
    let create = async |config: &str| {
        fs::write(bundle.join("config.json"), config).expect("written");
        let request = CreateSandboxRequest {
            sandbox_id: ID.into(),
            bundle_path: bundle.display().to_string(),
            ..Default::default()
        };
        fixture.sandbox.create_sandbox(patience(), &request).await.map(drop)
    };
    let of_network = |more: &str| {
        format!(r#"{{"ociVersion":"","linux":{{"namespaces":[{{"type":"network"{more}}}]}}}}"#)
    };
    let refused = create(&of_network(r#","path":"/nowhere""#)).await;
    assert!(format!("{refused:?}").contains("linux.namespaces[network].path /nowhere"));
    assert_eq!(code(refused), Code::INVALID_ARGUMENT);
    create(&of_network("")).await?;
    let pid = fixture.start(ID).await?;
    let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net"));
    assert_ne!(network(pid)?, network(std::process::id())?);
    fixture.run("c", &["exit", "3"]).await?;
    assert_eq!(fixture.tasks.wait("c").await?, 3);
    assert!(!Path::new(&bundle).join("pod").exists(), "files of a pod without a pod");
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn calls_out_of_order_and_for_others_are_refused() -> Result {
    let fixture = Fixture::new().await?;
    assert_eq!(code(fixture.start(ID).await), Code::NOT_FOUND);
    assert_eq!(code(fixture.create("../x", "").await), Code::INVALID_ARGUMENT);
    assert_eq!(code(fixture.create(ID, "/etc/passwd").await), Code::INVALID_ARGUMENT);
    let nowhere = fixture.create(ID, "/nowhere").await.expect_err("no namespace").to_string();
    assert!(nowhere.contains("netns_path /nowhere: No such file"), "{nowhere}");
    // What was refused left nothing.
    fixture.create(ID, "").await?;
    assert_eq!(code(fixture.create(ID, "").await), Code::ALREADY_EXISTS);
    assert_eq!(code(fixture.create("another", "").await), Code::ALREADY_EXISTS);
    assert_eq!(code(fixture.start("another").await), Code::NOT_FOUND);
    fixture.start(ID).await?;
    assert_eq!(code(fixture.start(ID).await), Code::FAILED_PRECONDITION);
    fixture.stop(0).await?;
    assert_eq!(code(fixture.start(ID).await), Code::FAILED_PRECONDITION);
    fixture.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn sandbox_of_its_containers_has_no_sandbox_api() -> Result {
    let harness = Harness::start(ScriptedEngine)?;
    let client = SandboxClient::new(
        Client::connect(&format!("unix://{}", harness.socket().display())).await?,
    );
    let request = PingRequest { sandbox_id: ID.into(), ..Default::default() };
    assert_eq!(code(client.ping_sandbox(patience(), &request).await), Code::INVALID_ARGUMENT);
    harness.stop().await;
    Ok(())
}
