//! TCP sockets of p3 in their streams. Part of `guests.rs`.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use async_trait::async_trait;
use runwasi_core::{
    Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, Signal, SignalResponse,
    testing::Harness,
};
use runwasi_wasmtime::{Settings, WasmtimeEngine};
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};

use super::{Duration, Result, SIGKILL};

/// A command with TCP sockets. `GO` is the body of its `run`, whose result is its status.
const SOCKETS: &str = include_str!("sockets.wat");
/// Bytes that are sent to the guest.
const ALL: usize = 24 << 20;
/// Most bytes of a turn: those of the buffers between the ends, too.
const TURN: usize = 4 << 20;
/// Open files and sockets of a container.
const FILES: u32 = 20;
const SOON: Duration = Duration::from_secs(20);

/// wasmtime as the engine, which counts the polls of a guest.
struct Counted {
    engine: WasmtimeEngine,
    polls: Arc<AtomicUsize>,
}

struct CountedInstance {
    instance: Arc<dyn Instance>,
    polls: Arc<AtomicUsize>,
}

#[async_trait]
impl Engine for Counted {
    async fn prepare(
        &self,
        spec: InstanceSpec,
    ) -> std::result::Result<Arc<dyn Instance>, EngineError> {
        let instance = self.engine.prepare(spec).await?;
        Ok(Arc::new(CountedInstance { instance, polls: self.polls.clone() }))
    }
}

#[async_trait]
impl Instance for CountedInstance {
    async fn run(
        self: Arc<Self>,
        context: GuestContext,
    ) -> std::result::Result<ExitStatus, EngineError> {
        let mut run = pin!(self.instance.clone().run(context));
        poll_fn(|cx| {
            self.polls.fetch_add(1, Relaxed);
            run.as_mut().poll(cx)
        })
        .await
    }

    fn signal(&self, signal: Signal) -> SignalResponse {
        self.instance.signal(signal)
    }
}

/// A listener whose connections have room for all bytes, and its port.
fn listener() -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    set_socket_send_buffer_size_force(&listener, ALL)?;
    set_socket_recv_buffer_size_force(&listener, ALL)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

fn accepted(listener: TcpListener) -> thread::JoinHandle<std::io::Result<TcpStream>> {
    thread::spawn(move || Ok(listener.accept()?.0))
}

#[tokio::test]
async fn forwarding_from_socket_to_socket_ends_turns() -> Result {
    let polls = Arc::new(AtomicUsize::new(0));
    let settings = Settings { slots: 4, cache: None, ..Settings::default() };
    let engine = Counted { engine: WasmtimeEngine::new(&settings)?, polls: polls.clone() };
    let harness = Harness::start(engine)?;
    let client = harness.client().await?;
    let (source, from) = listener()?;
    let (sink, to) = listener()?;
    // Begins to forward when all bytes wait for it.
    let go = format!(
        "(call $receive (call $to (call $socket) (i32.const {from})) (i32.const 64))
         (call $wait (i64.const 500000000))
         (drop (call $send (call $to (call $socket) (i32.const {to})) (i32.load (i32.const 64))))
         (call $wait (i64.const 100000000000)) (i32.const 0)"
    );
    let bundle = harness.bundle("c", &["/c"]).file("/c", SOCKETS.replace("GO", &go)).write()?;
    client.create("c", &bundle, &Default::default(), &[]).await?;
    let source = accepted(source);
    let sink = accepted(sink);
    client.start("c").await?;
    let mut source = source.join().map_err(|_| "the source")??;
    let sent: Vec<_> = (0..ALL).map(|n| u8::try_from(n / 7 % 251).unwrap_or(0)).collect();
    let bytes = sent.clone();
    let source = thread::spawn(move || source.write_all(&bytes).map(|()| source));
    let mut sink = sink.join().map_err(|_| "the sink")??;
    let before = polls.load(Relaxed);
    let received = tokio::task::spawn_blocking(move || {
        let mut received = vec![0; ALL];
        sink.read_exact(&mut received).map(|()| received)
    });
    let received = tokio::time::timeout(SOON, received).await???;
    let turns = polls.load(Relaxed) - before;
    assert!(received == sent, "other bytes");
    assert!(turns >= ALL / TURN, "{turns} turns for {ALL} bytes");
    println!("{turns} turns for {} MiB", ALL >> 20);
    // It has sent all.
    drop(source.join().map_err(|_| "the source")??);
    client.kill("c", SIGKILL).await?;
    assert_eq!(client.wait("c").await?, 137);
    Ok(())
}

/// Opens sockets until one is refused, and keeps only what `keep` makes of each. Ends with status 1
/// if the hundredth is not refused.
async fn hoard(keep: &str) -> Result<u32> {
    let go = format!(
        "(loop $next
           (local.set $socket (call $socket))
           (if (i32.eqz (local.get $socket)) (then (return (i32.const 0))))
           {keep}
           (call $drop (local.get $socket))
           (local.set $count (i32.add (local.get $count) (i32.const 1)))
           (br_if $next (i32.lt_u (local.get $count) (i32.const 100))))
         (i32.const 1)"
    );
    let settings = Settings {
        slots: 4,
        cache: None,
        container_descriptors: Some(FILES),
        ..Settings::default()
    };
    let harness = Harness::start(WasmtimeEngine::new(&settings)?)?;
    let client = harness.client().await?;
    let bundle = harness.bundle("c", &["/c"]).file("/c", SOCKETS.replace("GO", &go)).write()?;
    client.create("c", &bundle, &Default::default(), &[]).await?;
    client.start("c").await?;
    Ok(tokio::time::timeout(SOON, client.wait("c")).await??)
}

#[tokio::test]
async fn sockets_that_only_streams_hold_count_as_open_files() -> Result {
    let (listener, port) = listener()?;
    let connections =
        thread::spawn(move || listener.incoming().take(200).flatten().collect::<Vec<_>>().len());
    let connected = format!("(drop (call $to (local.get $socket) (i32.const {port})))");
    let receives = "(call $receive (local.get $socket) (i32.const 64))";
    // Without a stream each is closed by its drop.
    assert_eq!(hoard(&connected).await?, 1);
    assert_eq!(hoard(&format!("{connected} {receives}")).await?, 0);
    assert_eq!(hoard("(drop (call $listens (local.get $socket)))").await?, 0);
    // Ends with the test.
    drop(connections);
    Ok(())
}
