//! A sandbox with servers in it, and a client for them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, client::conn::http1, rt::Executor};
use hyper_util::rt::{TokioExecutor, TokioIo};
use runwasi_core::{
    Id,
    containerd::task_client::{CallError, TaskClient},
    network::Network,
    resources::usage::Usage,
    testing::{BundleBuilder, Harness, Pipes},
};
use runwasi_wasmtime::{Settings, WasmtimeEngine};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

use super::Result;

pub(crate) const SIGTERM: u32 = 15;
pub(crate) const SIGKILL: u32 = 9;
/// How long anything may take that is to happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) const HELLO: &str = "http_hello.wasm";
pub(crate) const APP: &str = "http_app.wasm";
pub(crate) const P3: &str = "p3_http.wasm";

/// Guests compiled by one test are there for the others: a debug build would take seconds for each.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("http-code")
}

pub(crate) fn guest(name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guests").join(name);
    fs::read(&path)
        .map_err(|error| format!("{}: {error}: `scripts/guests` builds it", path.display()).into())
}

/// An address that nobody else uses: the host's loopback network has sixteen million.
pub(crate) fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    (Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed)), 8080).into()
}

pub(crate) struct Fixture {
    pub(crate) harness: Harness,
    pub(crate) client: TaskClient,
}

/// A server in the making.
pub(crate) struct Setup {
    id: String,
    bundle: BundleBuilder,
    pub(crate) address: SocketAddr,
}

/// What a stream of a container has given, when it has ended.
type Output = JoinHandle<std::io::Result<Vec<u8>>>;

/// A container that serves.
pub(crate) struct Served {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    client: TaskClient,
    stdout: Output,
    stderr: Output,
}

/// How a server ended, and what it had said.
#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) status: u32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Fixture {
    pub(crate) async fn new() -> Result<Self> {
        Self::in_network(Network::of_process()).await
    }

    pub(crate) async fn in_network(network: Network) -> Result<Self> {
        Self::of(Settings::default(), network).await
    }

    /// With that many slots, and guests at once if those beyond are requests.
    pub(crate) async fn with_slots(slots: u32, request_slots: u32) -> Result<Self> {
        let settings = Settings { slots, request_slots, ..Settings::default() };
        Self::of(settings, Network::of_process()).await
    }

    async fn of(settings: Settings, network: Network) -> Result<Self> {
        let settings = Settings { cache: Some(cache()), ..settings };
        let harness = Harness::start_in(WasmtimeEngine::new(&settings)?, network)?;
        let client = harness.client().await?;
        Ok(Self { harness, client })
    }

    /// A container of that guest which listens on an address of its own.
    pub(crate) fn setup(&self, id: &str, name: &str) -> Result<Setup> {
        let address = address();
        let setup = self.setup_without_address(id, name)?;
        Ok(Setup { address, ..setup.annotation("address", &address.to_string()) })
    }

    pub(crate) fn setup_without_address(&self, id: &str, name: &str) -> Result<Setup> {
        let bundle =
            self.harness.bundle(id, &["/app.wasm", "first"]).file("/app.wasm", guest(name)?);
        Ok(Setup { id: id.to_owned(), bundle, address: (Ipv4Addr::LOCALHOST, 8080).into() })
    }

    /// The same for a program in the text format.
    pub(crate) fn setup_of_text(&self, id: &str, text: &str) -> Setup {
        let address = address();
        let bundle = self.harness.bundle(id, &["/app.wat"]).file("/app.wat", text);
        let setup = Setup { id: id.to_owned(), bundle, address };
        setup.annotation("address", &address.to_string())
    }

    pub(crate) async fn start(&self, setup: Setup) -> Result<Served> {
        let pipes = self.pipes(&setup)?;
        let stderr = pipes.read_stderr();
        self.start_on(setup, pipes, stderr).await
    }

    /// With a stderr that is full as long as the returned file is open, and never read.
    pub(crate) async fn start_with_full_stderr(&self, setup: Setup) -> Result<(Served, File)> {
        let pipes = self.pipes(&setup)?;
        let mut full = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&pipes.paths.stderr)?;
        for part in [&[0; 4096][..], &[0]] {
            while full.write(part).is_ok() {}
        }
        let unread = spawn_blocking(|| Ok(Vec::new()));
        Ok((self.start_on(setup, pipes, unread).await?, full))
    }

    fn pipes(&self, setup: &Setup) -> Result<Pipes> {
        // Of one of the same name that has ended.
        let _ = fs::remove_dir_all(self.harness.directory().join("fifo").join(&setup.id));
        Ok(self.harness.pipes(&setup.id)?)
    }

    async fn start_on(&self, setup: Setup, pipes: Pipes, stderr: Output) -> Result<Served> {
        let Setup { id, bundle, address } = setup;
        let bundle = bundle.write()?;
        let stdout = pipes.read_stdout();
        self.client.create(&id, &bundle, &pipes.paths, &[]).await?;
        self.client.start(id.as_str()).await?;
        Ok(Served { id, address, client: self.harness.client().await?, stdout, stderr })
    }

    /// Starts that guest as it is.
    pub(crate) async fn serve(&self, name: &str) -> Result<Served> {
        self.start(self.setup("c", name)?).await
    }

    pub(crate) fn usage(&self, id: &str) -> Result<Usage> {
        Ok(self.harness.sandbox().usage(&Id::parse("container", id)?)?)
    }

    /// Waits until the server `c` has no instance left.
    pub(crate) async fn is_free_of_instances(&self, patience: Duration) -> Result {
        let deadline = Instant::now() + patience;
        while self.usage("c")?.memory.used > 0 {
            assert!(Instant::now() < deadline, "{:?}", self.usage("c")?.memory);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    pub(crate) async fn create_refused(&self, setup: Setup) -> Result<CallError> {
        let created =
            self.client.create(&setup.id, &setup.bundle.write()?, &Default::default(), &[]).await;
        created.err().ok_or_else(|| "it was created".into())
    }

    pub(crate) async fn start_refused(&self, setup: Setup) -> Result<CallError> {
        self.client.create(&setup.id, &setup.bundle.write()?, &Default::default(), &[]).await?;
        let started = self.client.start(setup.id.as_str()).await;
        started.err().ok_or_else(|| "it was started".into())
    }
}

impl Setup {
    /// One of `io.runwasi.http.*`.
    pub(crate) fn annotation(self, key: &str, value: &str) -> Self {
        Self { bundle: self.bundle.annotation(&format!("io.runwasi.http.{key}"), value), ..self }
    }

    pub(crate) fn env(self, entry: &str) -> Self {
        Self { bundle: self.bundle.env(entry), ..self }
    }

    pub(crate) fn memory_limit(self, bytes: u64) -> Self {
        Self { bundle: self.bundle.memory_limit(bytes), ..self }
    }

    pub(crate) fn at(self, address: SocketAddr) -> Self {
        let setup = self.annotation("address", &address.to_string());
        Self { address, ..setup }
    }
}

impl Served {
    pub(crate) async fn get(&self, path: &str) -> Result<Reply> {
        Client::connect(self.address).await?.get(path).await
    }

    pub(crate) async fn kill(&self, signal: u32) -> Result {
        Ok(self.client.kill(self.id.as_str(), signal).await?)
    }

    pub(crate) async fn ended(self) -> Result<Ended> {
        let status = self.client.wait(self.id.as_str()).await?;
        self.client.delete(self.id.as_str()).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ended { status, stdout: text(self.stdout.await??), stderr: text(self.stderr.await??) })
    }

    /// Ends it politely; it has nothing left to do.
    pub(crate) async fn stop(self) -> Result<Ended> {
        self.kill(SIGTERM).await?;
        let ended = timeout(SOON, self.ended()).await??;
        if ended.status != 0 {
            return Err(format!("{ended:?}").into());
        }
        Ok(ended)
    }
}

/// What a client has got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and text.
    pub(crate) fn said(&self) -> (u16, String) {
        (self.status.as_u16(), self.text())
    }
}

/// A connection of HTTP/1.
pub(crate) struct Client<B = Full<Bytes>> {
    sender: http1::SendRequest<B>,
    address: SocketAddr,
}

impl<B> Client<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        Self::over(TcpStream::connect(address).await?, address).await
    }

    pub(crate) async fn over(stream: TcpStream, address: SocketAddr) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The test sees how it ends in what its requests give.
        TokioExecutor::new().execute(async { drop(connection.await) });
        Ok(Self { sender, address })
    }

    /// Until the head.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: B,
    ) -> Result<Response<Incoming>> {
        self.sender.ready().await?;
        let request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        Ok(timeout(3 * SOON, self.sender.send_request(request.body(body)?)).await??)
    }

    /// Waits until the server has closed it.
    pub(crate) async fn closed(&self) -> Result {
        let closed = async {
            while !self.sender.is_closed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        Ok(timeout(SOON, closed).await?)
    }
}

impl Client {
    pub(crate) async fn get(&mut self, path: &str) -> Result<Reply> {
        let response = self.send("GET", path, Full::default()).await?;
        reply(response).await
    }
}

pub(crate) async fn reply(response: Response<Incoming>) -> Result<Reply> {
    let (head, body) = response.into_parts();
    let body = timeout(3 * SOON, body.collect()).await??.to_bytes().to_vec();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(Reply { status: head.status, headers, body })
}

pub(crate) fn nothing() -> Empty<Bytes> {
    Empty::new()
}

/// Sends these very bytes, and reads what comes until the server closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
