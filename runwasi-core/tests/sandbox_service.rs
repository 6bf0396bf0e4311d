//! containerd's Sandbox API over a real socket, with a scripted engine in place of wasm: a sandbox that lives by itself.

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

struct Bed {
    harness: Harness,
    sandbox: SandboxClient,
    tasks: TaskClient,
}

fn patience() -> Context {
    with_duration(Duration::from_secs(20))
}

impl Bed {
    async fn new() -> Result<Self> {
        Self::on(Harness::start_managed(ScriptedEngine)?).await
    }

    /// With a containerd that has a record of the sandbox, or none.
    async fn recorded(recorded: bool) -> Result<Self> {
        let recorded = Arc::new(AtomicBool::new(recorded));
        let bed = Self::on(Harness::start_recorded(ScriptedEngine, recorded)?).await?;
        bed.create(ID, "").await?;
        Ok(bed)
    }

    async fn on(harness: Harness) -> Result<Self> {
        let client = Client::connect(&format!("unix://{}", harness.socket().display())).await?;
        let tasks = harness.client().await?;
        Ok(Self { harness, sandbox: SandboxClient::new(client), tasks })
    }

    /// With a sandbox that takes containers.
    async fn ready() -> Result<Self> {
        let bed = Self::new().await?;
        bed.create(ID, "").await?;
        bed.start(ID).await?;
        Ok(bed)
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
    let bed = Bed::new().await?;
    bed.create(ID, "").await?;
    assert_eq!(bed.status().await?.state, "SANDBOX_NOTREADY");
    let pid = bed.start(ID).await?;
    assert_ne!(pid, std::process::id());
    bed.run("c", &["exit", "7"]).await?;
    assert_eq!(bed.tasks.wait("c").await?, 7);
    bed.tasks.delete("c").await?;
    // As containerd says it after a container's delete.
    bed.tasks.shutdown("c").await?;
    let deserted = bed.harness.sandbox().idle_for(Duration::from_millis(20));
    assert!(tokio::time::timeout(Duration::from_millis(200), deserted).await.is_err());
    let status = bed.status().await?;
    assert_eq!((status.state.as_str(), status.pid), ("SANDBOX_READY", pid));
    assert!(status.info["info"].contains(&format!("\"pid\":{pid}")), "{:?}", status.info);
    bed.sandbox
        .ping_sandbox(patience(), &PingRequest { sandbox_id: ID.into(), ..Default::default() })
        .await?;
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn stop_ends_the_containers_and_answers_waiting_calls() -> Result {
    let bed = Bed::ready().await?;
    bed.run("polite", &["graceful"]).await?;
    bed.run("plain", &["spin"]).await?;
    bed.run("deaf", &["deaf"]).await?;
    let (waited, stopped) = tokio::join!(bed.wait(), bed.stop(1));
    stopped?;
    let waited = waited?;
    assert!(waited.exit_status == 0 && waited.exited_at.is_some());
    // They stay until they are deleted.
    for (id, status) in [("polite", 0), ("plain", 143), ("deaf", 137)] {
        assert_eq!(bed.tasks.wait(id).await?, status, "{id}");
    }
    let status = bed.status().await?;
    assert!(status.state == "SANDBOX_NOTREADY" && status.exited_at == waited.exited_at);
    bed.stop(0).await?;
    assert_eq!(bed.status().await?.exited_at, waited.exited_at, "stopped once");
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn stop_without_time_kills_at_once() -> Result {
    let bed = Bed::ready().await?;
    bed.run("polite", &["graceful"]).await?;
    bed.stop(0).await?;
    assert_eq!(bed.tasks.wait("polite").await?, 137);
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn containers_are_made_and_started_in_a_ready_sandbox_only() -> Result {
    let bed = Bed::new().await?;
    let early = async || bed.run("early", &["wait"]).await.map_err(|error| error.to_string());
    assert_eq!(code(bed.create(ID, "/nowhere").await), Code::INVALID_ARGUMENT);
    assert!(early().await.unwrap_err().contains("not ready"), "in no sandbox");
    bed.create(ID, "").await?;
    assert!(early().await.unwrap_err().contains("not ready"), "before its start");
    bed.start(ID).await?;
    let bundle = bed.harness.bundle("created", &["wait"]).write()?;
    bed.tasks.create("created", &bundle, &Default::default(), &[]).await?;
    bed.stop(0).await?;
    assert!(bed.run("late", &["wait"]).await.unwrap_err().to_string().contains("not ready"));
    assert_eq!(bed.tasks.start("created").await.unwrap_err().code, "FAILED_PRECONDITION");
    bed.harness.stop().await;
    Ok(())
}

/// A bundle of `ctr run` that has lost the file looks like one of the Sandbox API.
#[tokio::test]
async fn missing_config_is_named_before_the_missing_sandbox() -> Result {
    let bed = Bed::new().await?;
    let bundle = bed.harness.bundle("c", &["wait"]).write()?;
    std::fs::remove_file(bundle.join("config.json"))?;
    let refused = bed.tasks.create("c", &bundle, &Default::default(), &[]).await.unwrap_err();
    assert!(refused.message.contains("config.json: No such file"), "{}", refused.message);
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn sandbox_that_was_never_started_can_be_stopped() -> Result {
    let bed = Bed::new().await?;
    bed.create(ID, "").await?;
    bed.stop(0).await?;
    assert!(bed.wait().await?.exited_at.is_some());
    assert_eq!(code(bed.start(ID).await), Code::FAILED_PRECONDITION);
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn wait_fails_when_the_creation_fails() -> Result {
    let bed = Bed::new().await?;
    let (sandbox, id) = (bed.harness.sandbox(), Id::parse("sandbox id", ID)?);
    // The creation begins first, and fails when the other waits.
    let both = async {
        tokio::join!(sandbox.create_sandbox(&id, in_network("/nowhere")), sandbox.wait_sandbox(&id))
    };
    let (created, waited) = tokio::time::timeout(Duration::from_secs(10), both).await?;
    assert!(created.is_err());
    assert!(matches!(waited, Err(LifecycleError::NotFound { .. })), "{waited:?}");
    bed.harness.stop().await;
    Ok(())
}

/// The caller of a stop goes; its containers end all the same, and who waits is told.
#[tokio::test]
async fn stop_without_its_caller_runs_to_completion() -> Result {
    let bed = Bed::ready().await?;
    let (sandbox, id) = (bed.harness.sandbox(), Id::parse("sandbox id", ID)?);
    bed.run("deaf", &["deaf"]).await?;
    let stop = sandbox.stop_sandbox(&id, Duration::from_millis(200));
    assert!(tokio::time::timeout(Duration::from_millis(20), stop).await.is_err());
    tokio::time::timeout(Duration::from_secs(10), sandbox.wait_sandbox(&id)).await??;
    assert_eq!(bed.tasks.wait("deaf").await?, 137);
    bed.harness.stop().await;
    Ok(())
}

/// Needs root, as a namespace does.
#[tokio::test]
async fn sandbox_and_containers_are_in_the_network_at_its_path() -> Result {
    let (bed, other) = (Bed::new().await?, Network::with_process(Entrance::New)?);
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net"));
    bed.create(ID, &format!("/proc/{}/ns/net", other.pid())).await?;
    let pid = bed.start(ID).await?;
    assert!(pid != std::process::id() && namespace(pid)? == namespace(other.pid())?);
    bed.run("c", &["wait"]).await?;
    assert_eq!(bed.tasks.state("c").await?.pid, pid);
    bed.harness.stop().await;
    drop(bed);
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
    let bed = Bed::new().await?;
    let id = Id::parse("sandbox id", ID)?;
    // Polled once, then dropped.
    tokio::select! {
        biased;
        created = bed.harness.sandbox().create_sandbox(&id, in_network("/proc/self/ns/net")) => panic!("{created:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(code(bed.create(ID, "").await), Code::ALREADY_EXISTS);
    for _ in 0..200 {
        if bed.harness.sandbox().sandbox_status(&id)?.phase == Phase::Created {
            bed.start(ID).await?;
            bed.harness.stop().await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("it stays half created".into())
}

/// As containerd does when the creation has failed.
#[tokio::test]
async fn shutdown_after_a_failed_create_ends_the_server() -> Result {
    let bed = Bed::new().await?;
    assert_eq!(code(bed.create(ID, "/nowhere").await), Code::INVALID_ARGUMENT);
    bed.shutdown().await?;
    bed.harness.tasks().stopped().await;
    Ok(())
}

#[tokio::test]
async fn wait_is_answered_when_the_server_ends() -> Result {
    let bed = Bed::ready().await?;
    let (waited, ()) = tokio::join!(bed.wait(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bed.harness.tasks().stop();
    });
    assert!(waited?.exited_at.is_some());
    Ok(())
}

#[tokio::test]
async fn stop_succeeds_while_the_server_is_stopping() -> Result {
    let bed = Bed::ready().await?;
    bed.run("polite", &["graceful"]).await?;
    bed.run("plain", &["spin"]).await?;
    // In a drain, with more time than the drain has.
    bed.harness.tasks().stop();
    // Asked at once: the server stays for the answers to what has been asked.
    let (stopped, status) = tokio::join!(bed.stop(600), bed.tasks.wait("polite"));
    stopped?;
    assert_eq!(status?, 0);
    assert!(bed.status().await?.exited_at.is_some());
    Ok(())
}

#[tokio::test]
async fn shutdown_is_answered_and_ends_the_server_with_its_containers() -> Result {
    let bed = Bed::ready().await?;
    bed.run("left", &["wait"]).await?;
    bed.shutdown().await?;
    // The connection must not close together with the answer.
    let stopped =
        || tokio::time::timeout(Duration::from_millis(300), bed.harness.tasks().stopped());
    assert!(stopped().await.is_err() && bed.status().await?.state == "SANDBOX_NOTREADY");
    // As our `delete` does it next.
    bed.tasks.shutdown(ID).await?;
    stopped().await?;
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
    let bed = Bed::ready().await?;
    bed.run("one", &["wait"]).await?;
    bed.run("two", &["wait"]).await?;
    assert_eq!(bed.harness.sandbox().usage_of_guests().processes, 2);
    let request = SandboxMetricsRequest { sandbox_id: ID.into(), ..Default::default() };
    let metric =
        bed.sandbox.sandbox_metrics(patience(), &request).await?.metrics.unwrap_or_default();
    let kind = metric.data.unwrap_or_default().type_url;
    assert!(metric.id == ID && kind.starts_with("io.containerd.cgroups.v"), "{kind}");
    let request = PlatformRequest { sandbox_id: ID.into(), ..Default::default() };
    let platform = bed.sandbox.platform(patience(), &request).await?.platform.unwrap_or_default();
    assert_eq!(platform.os, "linux");
    let expected = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(platform.architecture, expected);
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn cpu_time_of_a_deleted_container_stays_in_the_metrics() -> Result {
    let bed = Bed::ready().await?;
    bed.run("spins", &["spin"]).await?;
    let used = || bed.harness.sandbox().usage_of_guests().cpu.time;
    let some = async {
        while used() < Duration::from_millis(10) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), some).await?;
    bed.tasks.kill("spins", 9).await?;
    bed.tasks.wait("spins").await?;
    let last = used();
    bed.tasks.delete("spins").await?;
    assert!(used() >= last, "{:?} after {last:?}", used());
    assert_eq!(bed.harness.sandbox().usage_of_guests().processes, 0);
    bed.harness.stop().await;
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
    let (bed, network) = (Bed::new().await?, Network::with_process(Entrance::New)?);
    let bundle = bed.harness.directory().join("sandbox");
    fs::create_dir_all(&bundle)?;
    let create = async |options: Any, netns: String| {
        let request = CreateSandboxRequest {
            sandbox_id: ID.into(),
            bundle_path: bundle.display().to_string(),
            netns_path: netns,
            options: Some(options).into(),
            ..Default::default()
        };
        bed.sandbox.create_sandbox(patience(), &request).await.map(drop)
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
    let pid = bed.start(ID).await?;
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
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn sandbox_that_containerd_forgets_before_its_start_ends_by_itself() -> Result {
    let (forgotten, known) = (Bed::recorded(false).await?, Bed::recorded(true).await?);
    let started = Bed::recorded(false).await?;
    started.start(ID).await?;
    tokio::time::timeout(Duration::from_secs(20), forgotten.harness.tasks().stopped()).await?;
    let stopped = |bed: &Bed| bed.harness.tasks().is_stopped();
    // Created after the other: their first question comes later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!stopped(&known) && !stopped(&started));
    for bed in [&forgotten, &known, &started] {
        bed.harness.stop().await;
    }
    Ok(())
}

/// That of `ctr sandboxes run`.
#[tokio::test]
async fn config_of_a_sandbox_gives_its_namespaces() -> Result {
    let bed = Bed::new().await?;
    let bundle = bed.harness.directory().join("sandbox");
    fs::create_dir_all(&bundle)?;
    let create = async |config: &str| {
        fs::write(bundle.join("config.json"), config).expect("written");
        let request = CreateSandboxRequest {
            sandbox_id: ID.into(),
            bundle_path: bundle.display().to_string(),
            ..Default::default()
        };
        bed.sandbox.create_sandbox(patience(), &request).await.map(drop)
    };
    let of_network = |more: &str| {
        format!(r#"{{"ociVersion":"","linux":{{"namespaces":[{{"type":"network"{more}}}]}}}}"#)
    };
    let refused = create(&of_network(r#","path":"/nowhere""#)).await;
    assert!(format!("{refused:?}").contains("linux.namespaces[network].path /nowhere"));
    assert_eq!(code(refused), Code::INVALID_ARGUMENT);
    create(&of_network("")).await?;
    let pid = bed.start(ID).await?;
    let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net"));
    assert_ne!(network(pid)?, network(std::process::id())?);
    bed.run("c", &["exit", "3"]).await?;
    assert_eq!(bed.tasks.wait("c").await?, 3);
    assert!(!Path::new(&bundle).join("pod").exists(), "files of a pod without a pod");
    bed.harness.stop().await;
    Ok(())
}

#[tokio::test]
async fn calls_out_of_order_and_for_others_are_refused() -> Result {
    let bed = Bed::new().await?;
    assert_eq!(code(bed.start(ID).await), Code::NOT_FOUND);
    assert_eq!(code(bed.create("../x", "").await), Code::INVALID_ARGUMENT);
    assert_eq!(code(bed.create(ID, "/etc/passwd").await), Code::INVALID_ARGUMENT);
    let nowhere = bed.create(ID, "/nowhere").await.expect_err("no namespace").to_string();
    assert!(nowhere.contains("netns_path /nowhere: No such file"), "{nowhere}");
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
    let client = SandboxClient::new(
        Client::connect(&format!("unix://{}", harness.socket().display())).await?,
    );
    let request = PingRequest { sandbox_id: ID.into(), ..Default::default() };
    assert_eq!(code(client.ping_sandbox(patience(), &request).await), Code::INVALID_ARGUMENT);
    harness.stop().await;
    Ok(())
}
