//! What components reach of the network, and what the host keeps for them: the guest `net` on the
//! real engine, through the real Task service, in private networks with servers of the test's own.
//! Needs root, as making a network namespace does.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use runwasi_core::{
    containerd::task_client::TaskClient,
    network::{Entrance, Network},
    stdio::paths::StdioPaths,
    testing::{BundleBuilder, Harness},
};
use runwasi_wasmtime::{Settings, WasmtimeEngine};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The guests of both previews, which share these commands: `tcp-connect`, `udp-send`, `resolve`,
/// `http-get`.
const P2: &str = "/net.wasm";
const P3: &str = "/p3_net.wasm";

const SIGKILL: u32 = 9;
const OUTBOUND: &str = "io.runwasi.network.outbound";
const SOON: Duration = Duration::from_secs(5);

/// A sandbox with a network of its own.
struct Fixture {
    network: Network,
    harness: Harness,
    client: TaskClient,
    runs: AtomicUsize,
}

/// What a run gave.
#[derive(Debug, PartialEq)]
struct Ran {
    status: u32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Demands success; gives what was printed.
    fn printed(self) -> Result<String> {
        if self.status == 0 { Ok(self.stdout) } else { Err(format!("{self:?}").into()) }
    }

    /// Demands that the guest was told this error.
    fn failed_with(self, what: &str) -> Result {
        if self.status == 1 && self.stderr.contains(what) {
            Ok(())
        } else {
            Err(format!("no {what}: {self:?}").into())
        }
    }
}

fn engine() -> Result<WasmtimeEngine> {
    // Compiled once for all tests: the guest is large.
    let cache = target().join("tmp/outbound-cache");
    fs::create_dir_all(cache.parent().ok_or("a target folder")?)?;
    Ok(WasmtimeEngine::new(&Settings { slots: 20, cache: Some(cache), ..Settings::default() })?)
}

fn target() -> PathBuf {
    let ours = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(ours, PathBuf::from)
}

/// The program `/NAME.wasm` of a guest.
fn guest(program: &str) -> Result<Vec<u8>> {
    let path = target().join("guests").join(program.trim_start_matches('/'));
    fs::read(&path)
        .map_err(|error| format!("{}: {error}; scripts/guests builds it", path.display()).into())
}

impl Fixture {
    async fn new() -> Result<Self> {
        let network = Network::with_process(Entrance::New)?;
        let harness = Harness::start_in(engine()?, network.clone())?;
        let client = harness.client().await?;
        Ok(Self { network, harness, client, runs: AtomicUsize::new(0) })
    }

    /// Of the p2 guest.
    fn bundle(&self, args: &[&str]) -> Result<BundleBuilder> {
        self.bundle_of(P2, args)
    }

    fn bundle_of(&self, program: &str, args: &[&str]) -> Result<BundleBuilder> {
        let id = format!("c{}", self.runs.fetch_add(1, Ordering::Relaxed));
        Ok(self.harness.bundle(&id, &[&[program], args].concat()).file(program, guest(program)?))
    }

    async fn run(&self, args: &[&str]) -> Result<Ran> {
        self.run_bundle(self.bundle(args)?).await
    }

    async fn run_bundle(&self, bundle: BundleBuilder) -> Result<Ran> {
        self.run_written(bundle.write()?).await
    }

    async fn run_written(&self, bundle: PathBuf) -> Result<Ran> {
        let started = self.start_written(bundle).await?;
        let status = self.client.wait(started.id.as_str()).await?;
        self.client.delete(started.id.as_str()).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran {
            status,
            stdout: text(started.stdout.await??),
            stderr: text(started.stderr.await??),
        })
    }

    async fn start(&self, bundle: BundleBuilder) -> Result<Started> {
        self.start_written(bundle.write()?).await
    }

    async fn start_written(&self, bundle: PathBuf) -> Result<Started> {
        let id = bundle
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or("the bundle's name")?
            .to_owned();
        let pipes = self.harness.pipes(&id)?;
        let (stdout, stderr) = (pipes.read_stdout(), pipes.read_stderr());
        self.client.create(&id, &bundle, &pipes.paths, &[]).await?;
        self.client.start(id.as_str()).await?;
        Ok(Started { id, bundle, stdout, stderr })
    }

    async fn exec(&self, id: &str, exec: &str, args: &[&str]) -> Result<Ran> {
        let pipes = self.harness.pipes(&format!("{id}-{exec}"))?;
        let (stdout, stderr) = (pipes.read_stdout(), pipes.read_stderr());
        let words: Vec<_> =
            ["/net.wasm"].iter().chain(args).map(|word| format!("{word:?}")).collect();
        let spec = format!(
            r#"{{"user":{{"uid":0,"gid":0}},"args":[{}],"env":["FROM=exec"],"cwd":"/"}}"#,
            words.join(",")
        );
        self.client.exec(id, exec, &spec, &pipes.paths).await?;
        self.client.start((id, exec)).await?;
        let status = self.client.wait((id, exec)).await?;
        self.client.delete((id, exec)).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran { status, stdout: text(stdout.await??), stderr: text(stderr.await??) })
    }

    async fn end(&self, started: Started) -> Result {
        let asked = Instant::now();
        self.client.kill(started.id.as_str(), SIGKILL).await?;
        assert_eq!(self.client.wait(started.id.as_str()).await?, 137);
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        self.client.delete(started.id.as_str()).await?;
        Ok(())
    }

    /// Connects inside, as soon as a guest listens.
    async fn connect(&self, port: u16) -> Result<TcpStream> {
        let deadline = Instant::now() + SOON;
        loop {
            match self.network.run(move || TcpStream::connect(("127.0.0.1", port)))? {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// A listener inside.
    fn listen(&self) -> Result<(TcpListener, u16)> {
        let listener = self.network.run(|| TcpListener::bind("127.0.0.1:0"))??;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    }

    /// A server inside that has a word for everybody: by TCP and UDP behind what it was sent, by
    /// HTTP as its body.
    fn serve(&self, word: &'static str) -> Result<Ports> {
        let (tcp, tcp_port) = self.listen()?;
        let (http, http_port) = self.listen()?;
        let udp = self.network.run(|| UdpSocket::bind("127.0.0.1:0"))??;
        let udp_port = udp.local_addr()?.port();
        thread::spawn(move || {
            tcp.incoming().flatten().for_each(|stream| drop(answer_tcp(stream, word)))
        });
        thread::spawn(move || {
            http.incoming().flatten().for_each(|stream| drop(answer_http(stream, word)))
        });
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(&[&buffer[..length], word.as_bytes()].concat(), from);
            }
        });
        Ok(Ports { tcp: tcp_port.to_string(), udp: udp_port.to_string(), http: http_port })
    }
}

/// A guest that runs.
struct Started {
    id: String,
    bundle: PathBuf,
    stdout: tokio::task::JoinHandle<std::io::Result<Vec<u8>>>,
    stderr: tokio::task::JoinHandle<std::io::Result<Vec<u8>>>,
}

struct Ports {
    tcp: String,
    udp: String,
    http: u16,
}

fn answer_tcp(mut stream: TcpStream, word: &str) -> std::io::Result<()> {
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    stream.write_all(&said)?;
    stream.write_all(word.as_bytes())?;
    stream.shutdown(Shutdown::Both)
}

fn answer_http(mut stream: TcpStream, word: &str) -> std::io::Result<()> {
    let head = head(&mut stream)?;
    let host = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
    let body = format!("{word} at {}", host.unwrap_or_default());
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A request, up to the empty line behind its headers.
fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[tokio::test]
async fn guests_reach_the_servers_of_their_own_network_by_tcp_udp_and_http() -> Result {
    let host = fs::read_link("/proc/self/ns/net")?;
    for (program, word, refused) in
        [(P2, "one", "connection-refused"), (P3, "two", "ConnectionRefused")]
    {
        let fixture = Fixture::new().await?;
        let ports = fixture.serve(word)?;
        let run = async |fixture: &Fixture, args: &[&str]| {
            fixture.run_bundle(fixture.bundle_of(program, args)?).await
        };
        let echoed = format!("hello {word}\n");
        assert_eq!(
            run(&fixture, &["tcp-connect", "127.0.0.1", &ports.tcp, "hello "]).await?.printed()?,
            echoed
        );
        assert_eq!(
            run(&fixture, &["udp-send", "127.0.0.1", &ports.udp, "hello "]).await?.printed()?,
            echoed
        );
        let url = format!("http://127.0.0.1:{}/", ports.http);
        let expected = format!("200\n{word} at 127.0.0.1:{}", ports.http);
        assert_eq!(run(&fixture, &["http-get", &url]).await?.printed()?, expected);
        // Another network has the same addresses and nobody there.
        let lonely = Fixture::new().await?;
        run(&lonely, &["tcp-connect", "127.0.0.1", &ports.tcp, "x"]).await?.failed_with(refused)?;
        run(&lonely, &["http-get", &url]).await?.failed_with("ConnectionRefused")?;
        // Tests that run beside this one have parked threads, too; workers are never elsewhere.
        for task in fs::read_dir("/proc/self/task")? {
            let task = task?.path();
            if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "guest") {
                assert_eq!(fs::read_link(task.join("ns/net"))?, host);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_guest_that_listens_is_reached_inside_its_network_only() -> Result {
    let fixture = Fixture::new().await?;
    let port = fixture.listen()?.1;
    let server = fixture.start(fixture.bundle(&["tcp-echo", &port.to_string()])?).await?;
    let mut stream = fixture.connect(port).await?;
    let from_host = TcpStream::connect(("127.0.0.1", port));
    assert!(from_host.is_err(), "the host does not reach in");
    stream.write_all(b"echo")?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    assert_eq!((said.as_str(), fixture.client.wait(server.id.as_str()).await?), ("echo", 0));
    Ok(())
}

#[tokio::test]
async fn names_of_the_containers_hosts_lead_to_servers() -> Result {
    let fixture = Fixture::new().await?;
    let ports = fixture.serve("here")?;
    let hosts = "127.0.0.1 one.test\n";
    for program in [P2, P3] {
        let asks = fixture.bundle_of(program, &["resolve", "one.test"])?.file("/etc/hosts", hosts);
        assert_eq!(fixture.run_bundle(asks).await?.printed()?, "127.0.0.1\n", "{program}");
    }
    let url = format!("http://one.test:{}/", ports.http);
    let got =
        fixture.run_bundle(fixture.bundle(&["http-get", &url])?.file("/etc/hosts", hosts)).await?;
    assert_eq!(got.printed()?, format!("200\nhere at one.test:{}", ports.http));
    fixture.run(&["resolve", "a..b"]).await?.failed_with("invalid-argument")?;
    // No files and no server: as libc, the local one is asked.
    fixture.run(&["resolve", "one.test"]).await?.failed_with("temporary-resolver-failure")
}

#[tokio::test]
async fn none_refuses_connections_datagrams_requests_and_lookups_but_not_listening() -> Result {
    let fixture = Fixture::new().await?;
    let ports = fixture.serve("here")?;
    let run = async |args: &[&str]| {
        let bundle = fixture
            .bundle(args)?
            .annotation(OUTBOUND, "none")
            .file("/etc/hosts", "127.0.0.1 one.test\n");
        fixture.run_bundle(bundle).await
    };
    run(&["tcp-connect", "127.0.0.1", &ports.tcp, "x"]).await?.failed_with("access-denied")?;
    run(&["udp-send", "127.0.0.1", &ports.udp, "x"]).await?.failed_with("access-denied")?;
    run(&["resolve", "one.test"]).await?.failed_with("access-denied")?;
    run(&["http-get", &format!("http://127.0.0.1:{}/", ports.http)])
        .await?
        .failed_with("DestinationIpProhibited")?;
    run(&["http-get", &format!("http://one.test:{}/", ports.http)])
        .await?
        .failed_with("HttpRequestDenied")?;
    assert_eq!(run(&["resolve", "127.0.0.1"]).await?.printed()?, "127.0.0.1\n");
    let run_p3 = async |args: &[&str]| {
        fixture.run_bundle(fixture.bundle_of(P3, args)?.annotation(OUTBOUND, "none")).await
    };
    run_p3(&["tcp-connect", "127.0.0.1", &ports.tcp, "x"]).await?.failed_with("AccessDenied")?;
    run_p3(&["udp-send", "127.0.0.1", &ports.udp, "x"]).await?.failed_with("AccessDenied")?;
    run_p3(&["resolve", "one.test"]).await?.failed_with("AccessDenied")?;
    run_p3(&["http-get", &format!("http://127.0.0.1:{}/", ports.http)])
        .await?
        .failed_with("DestinationIpProhibited")?;
    let port = fixture.listen()?.1.to_string();
    let server =
        fixture.start(fixture.bundle(&["tcp-echo", &port])?.annotation(OUTBOUND, "none")).await?;
    fixture.run(&["tcp-connect", "127.0.0.1", &port, "echo"]).await?.printed()?;
    assert_eq!(fixture.client.wait(server.id.as_str()).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_list_opens_what_it_names_and_nothing_else() -> Result {
    let fixture = Fixture::new().await?;
    let ports = fixture.serve("here")?;
    let run = async |list: &str, args: &[&str]| {
        let hosts = "127.0.0.1 one.test\n127.0.0.1 two.test\n";
        fixture
            .run_bundle(fixture.bundle(args)?.annotation(OUTBOUND, list).file("/etc/hosts", hosts))
            .await
    };
    let connect = ["tcp-connect", "127.0.0.1", ports.tcp.as_str(), "x"];
    let by_port = format!("127.0.0.0/8:{}", ports.tcp);
    run(&by_port, &connect).await?.printed()?;
    run(&by_port, &["udp-send", "127.0.0.1", &ports.udp, "x"])
        .await?
        .failed_with("access-denied")?;
    run(&by_port, &["http-get", &format!("http://127.0.0.1:{}/", ports.http)])
        .await?
        .failed_with("DestinationIpProhibited")?;
    run("192.0.2.0/24,*.other.test", &connect).await?.failed_with("access-denied")?;
    let url = |host: &str| format!("http://{host}:{}/", ports.http);
    let by_name = format!("one.test:{}", ports.http);
    run(&by_name, &["http-get", &url("one.test")]).await?.printed()?;
    run(&by_name, &["http-get", &url("two.test")]).await?.failed_with("HttpRequestDenied")?;
    run(&by_name, &["http-get", &url("127.0.0.1")])
        .await?
        .failed_with("DestinationIpProhibited")?;
    run(&by_name, &["resolve", "two.test"]).await?.failed_with("access-denied")?;
    run("one.test:1", &["http-get", &url("one.test")]).await?.failed_with("DestinationIpProhibited")
}

#[tokio::test]
async fn an_annotation_that_means_nothing_is_refused_with_its_item() -> Result {
    let fixture = Fixture::new().await?;
    let module = r#"(module (func (export "_start")))"#;
    let bundles = [
        fixture.bundle(&["cwd"])?,
        fixture.harness.bundle("module", &["/m.wat"]).file("/m.wat", module),
    ];
    for bundle in bundles {
        let bundle = bundle.annotation(OUTBOUND, "example.com, 10.0.0.1/8").write()?;
        let refused = fixture.client.create("c", &bundle, &StdioPaths::default(), &[]).await;
        let error = refused.err().ok_or("it was created")?.to_string();
        assert!(error.contains(OUTBOUND) && error.contains("10.0.0.1/8"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn config_has_annotations_before_the_environment() -> Result {
    let fixture = Fixture::new().await?;
    let with = |args: &[&str]| -> Result<BundleBuilder> {
        let bundle = fixture.bundle(args)?.env("A=environment").env("B=environment");
        Ok(bundle
            .annotation("io.runwasi.config.A", "annotation")
            .annotation("io.runwasi.config.a.b", "dotted"))
    };
    let all = fixture.run_bundle(with(&["config-all"])?).await?.printed()?;
    assert_eq!(all, "A=annotation\nB=environment\nHOME=/\na.b=dotted\n");
    assert_eq!(fixture.run_bundle(with(&["config", "A"])?).await?.printed()?, "annotation\n");
    assert_eq!(fixture.run_bundle(with(&["config", "C"])?).await?.printed()?, "none\n");
    Ok(())
}

#[tokio::test]
async fn keyvalue_is_shared_by_the_processes_of_a_container_and_goes_with_them() -> Result {
    let fixture = Fixture::new().await?;
    let (listener, port) = fixture.listen()?;
    let hold = ["tcp-hold", "127.0.0.1", &port.to_string()];
    let expected = |count: u32| {
        format!(
            "at first None\nset Some(\"value\")\ncount {count}\nkeys [\"count\", \"name\"]\ndeleted None\n"
        )
    };
    for _ in 0..2 {
        let init = fixture.start(fixture.bundle(&hold)?).await?;
        let _held = listener.accept()?;
        assert_eq!(fixture.exec(&init.id, "first", &["kv"]).await?.printed()?, expected(42));
        assert_eq!(fixture.exec(&init.id, "second", &["kv"]).await?.printed()?, expected(84));
        assert_eq!(
            fixture.exec(&init.id, "config", &["config", "FROM"]).await?.printed()?,
            "exec\n"
        );
        fixture.end(init).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_container_under_a_list_keeps_the_names_it_began_with() -> Result {
    let fixture = Fixture::new().await?;
    let (listener, port) = fixture.listen()?;
    let hold = ["tcp-hold", "127.0.0.1", &port.to_string()];
    for (list, found) in [("127.0.0.1,one.test", "127.0.0.1\n"), ("all", "127.0.0.9\n")] {
        let bundle = fixture
            .bundle(&hold)?
            .annotation(OUTBOUND, list)
            .file("/etc/hosts", "127.0.0.1 one.test\n");
        let init = fixture.start(bundle).await?;
        let _held = listener.accept()?;
        fs::write(init.bundle.join("rootfs/etc/hosts"), "127.0.0.9 one.test\n")?;
        assert_eq!(
            fixture.exec(&init.id, "asks", &["resolve", "one.test"]).await?.printed()?,
            found,
            "{list}"
        );
        fixture.end(init).await?;
    }
    Ok(())
}

/// The other end is closed by a kill, not by anything else.
async fn is_closed(mut stream: TcpStream) -> Result {
    stream.set_read_timeout(Some(SOON))?;
    let read = tokio::task::spawn_blocking(move || stream.read(&mut [0; 64])).await?;
    // A connection with unread bytes is reset.
    match read {
        Ok(0) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        other => Err(format!("still open: {other:?}").into()),
    }
}

#[tokio::test]
async fn a_kill_ends_connections_requests_and_lookups_that_hang() -> Result {
    let fixture = Fixture::new().await?;
    let (listener, port) = fixture.listen()?;
    let hold =
        fixture.start(fixture.bundle(&["tcp-hold", "127.0.0.1", &port.to_string()])?).await?;
    let (held, _) = listener.accept()?;
    fixture.end(hold).await?;
    is_closed(held).await?;

    let url = format!("http://127.0.0.1:{port}/");
    let request = fixture.start(fixture.bundle(&["http-get", &url])?).await?;
    let (mut waiting, _) = listener.accept()?;
    head(&mut waiting)?;
    fixture.end(request).await?;
    is_closed(waiting).await?;

    let request = fixture.start(fixture.bundle(&["http-get", &url])?).await?;
    let (mut begun, _) = listener.accept()?;
    head(&mut begun)?;
    begun.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
    fixture.end(request).await?;
    is_closed(begun).await?;

    let silent = fixture.network.run(|| UdpSocket::bind("127.0.0.1:53"))??;
    silent.set_read_timeout(Some(SOON))?;
    let files = |bundle: BundleBuilder| {
        bundle.file("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n")
    };
    let lookup = fixture.start(files(fixture.bundle(&["resolve", "one.test"])?)).await?;
    silent.recv_from(&mut [0; 512])?;
    fixture.end(lookup).await
}

#[tokio::test]
async fn a_paused_guest_moves_no_bytes_of_its_request() -> Result {
    let fixture = Fixture::new().await?;
    let (listener, port) = fixture.listen()?;
    let guest =
        fixture.start(fixture.bundle(&["http-get", &format!("http://127.0.0.1:{port}/")])?).await?;
    let (mut stream, _) = listener.accept()?;
    head(&mut stream)?;
    fixture.client.pause(&guest.id).await?;
    // More than sockets and buffers hold: whoever reads it is seen by the write that goes through.
    let body = vec![b'x'; 32 << 20];
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())?;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let writer = thread::spawn(move || {
        for part in body.chunks(64 << 10) {
            stream.write_all(part)?;
            count.fetch_add(part.len(), Ordering::Relaxed);
        }
        std::io::Result::Ok(())
    });
    let mut before = usize::MAX;
    // Until the buffers are full.
    while before != written.load(Ordering::Relaxed) {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < 32 << 20, "all of it was read");
    fixture.client.resume(&guest.id).await?;
    assert_eq!(fixture.client.wait(guest.id.as_str()).await?, 0);
    writer.join().map_err(|_| "the writer panicked")??;
    assert_eq!(guest.stdout.await??.len(), "200\n".len() + (32 << 20));
    Ok(())
}

/// Sets `RLIMIT_NOFILE` in a bundle.
fn limit_files(bundle: &Path, most: u32) -> Result {
    let config = bundle.join("config.json");
    let limits = format!(
        r#""process":{{"rlimits":[{{"type":"RLIMIT_NOFILE","soft":{most},"hard":{most}}}],"#
    );
    Ok(fs::write(&config, fs::read_to_string(&config)?.replace(r#""process":{"#, &limits))?)
}

#[tokio::test]
async fn a_listener_that_met_the_limit_of_sockets_goes_on_when_they_are_closed() -> Result {
    const PORT: u16 = 7000;
    let fixture = Fixture::new().await?;
    let listener = include_str!("imports/listener.wat");
    let bundle =
        fixture.harness.bundle("listener", &["/l.wat#go"]).file("/l.wat", listener).write()?;
    // Streams and root are four, the listener is one: three clients are left.
    limit_files(&bundle, 8)?;
    let guest = fixture.start_written(bundle).await?;
    let closed = |mut client: TcpStream| -> Result {
        client.set_read_timeout(Some(4 * SOON))?;
        assert_eq!(client.read(&mut [0])?, 0);
        Ok(())
    };
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(fixture.connect(PORT).await?);
    }
    clients.into_iter().try_for_each(closed)?;
    closed(fixture.connect(PORT).await?)?;
    fixture.end(guest).await
}

#[tokio::test]
async fn files_of_a_p3_guest_are_so_many_and_no_fifos() -> Result {
    let fixture = Fixture::new().await?;
    let bundle = |args: &[&str]| -> Result<PathBuf> {
        let bundle = fixture.bundle_of(P3, args)?.file("/old", "").write()?;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            bundle.join("rootfs/fifo"),
            rustix::fs::FileType::Fifo,
            0o666.into(),
            0,
        )?;
        limit_files(&bundle, 32)?;
        Ok(bundle)
    };
    let ran = fixture.run_written(bundle(&["open-many", P3, "100"])?).await?;
    // All but the streams and the root.
    assert_eq!(ran.printed()?, "28 opened, 72 refused\n");
    let ran = fixture.run_written(bundle(&["open-many", "/fifo", "3"])?).await?;
    assert_eq!(ran.printed()?, "0 opened, 3 refused\n");
    let renames = bundle(&["rename", "/old", "/new"])?;
    assert_eq!(fixture.run_written(renames.clone()).await?.printed()?, "renamed\n");
    assert!(renames.join("rootfs/new").exists() && !renames.join("rootfs/old").exists());
    Ok(())
}
