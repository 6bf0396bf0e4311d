//! Replacements for wasmtime-wasi's `send` and `receive` of TCP sockets of p3, around the same
//! functions.
//!
//! - A guest may send what the host gives it: what another socket receives, a file, its stdin. That
//!   copy runs no instruction of the guest, and wasmtime-wasi's ends of it never yield: two guests
//!   that forward to each other would hold their workers. So such bytes go through a buffer, whose
//!   other end ends the turn of the guest ([`Steps`]).
//! - A socket may be dropped while it lives on in its streams. It counts until their end.
//!
//! ```text
//!   stream of the host ─▶ Filling ─▶ buffer ─▶ Emptying ─▶ wasmtime-wasi ─▶ socket
//!   stream of the guest ──────────────────────────────────▶ wasmtime-wasi ─▶ socket
//! ```

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::oneshot,
};
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{
        Access, Destination, FutureConsumer, FutureReader, Linker, Resource, Source, StreamAny,
        StreamConsumer, StreamProducer, StreamReader, StreamResult, VecBuffer,
    },
};
use wasmtime_wasi::{
    p3::bindings::sockets::types::{ErrorCode, HostTcpSocketWithStore},
    sockets::{TcpSocket, WasiSockets, WasiSocketsView},
};

use super::streams_p3::{HOST_PART, consume, produce};
use crate::{component::store::Component, outbound::room::SocketLife, paced::Paced};

/// Bytes of the buffer between two ends in the host.
const BUFFER: usize = 64 << 10;

type Store<'a> = StoreContextMut<'a, Component>;
type Outcome = Result<(), ErrorCode>;

/// Replaces the functions that wasmtime-wasi has linked.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    let mut sockets = linker.instance("wasi:sockets/types@0.3.0")?;
    sockets
        .func_wrap("[method]tcp-socket.send", |store, (socket, data)| send(store, socket, data))?;
    sockets.func_wrap("[method]tcp-socket.receive", |store, (socket,)| receive(store, socket))
}

fn access<'a>(store: &'a mut Store<'_>) -> Access<'a, Component, WasiSockets> {
    Access::<Component, WasiSockets>::new(store.as_context_mut(), Component::sockets)
}

fn send(
    mut store: Store<'_>,
    socket: Resource<TcpSocket>,
    data: StreamReader<u8>,
) -> wasmtime::Result<(FutureReader<Outcome>,)> {
    let life = store.data_mut().life_of_socket(socket.rep());
    let data = paced(&mut store, data)?;
    let end =
        <WasiSockets as HostTcpSocketWithStore<Component>>::send(access(&mut store), socket, data)?;
    Ok((held(&mut store, end, life)?,))
}

type Received = (StreamReader<u8>, FutureReader<Outcome>);

fn receive(mut store: Store<'_>, socket: Resource<TcpSocket>) -> wasmtime::Result<(Received,)> {
    let life = store.data_mut().life_of_socket(socket.rep());
    let (data, end) =
        <WasiSockets as HostTcpSocketWithStore<Component>>::receive(access(&mut store), socket)?;
    Ok(((data, held(&mut store, end, life)?),))
}

/// A stream of the guest as it is, one of the host through the buffer.
fn paced(store: &mut Store<'_>, data: StreamReader<u8>) -> wasmtime::Result<StreamReader<u8>> {
    let data = StreamAny::try_from_stream_reader(&mut *store, data)?;
    // wasmtime knows the very type of a stream of the host. In a stream of the guest, a box is as
    // good as what is in it.
    let is_guests = data.clone().try_into_stream_reader::<Box<u8>>().is_ok();
    let data = data.try_into_stream_reader::<u8>()?;
    if is_guests {
        return Ok(data);
    }
    let (filled, emptied) = duplex(BUFFER);
    data.pipe(&mut *store, Filling(filled))?;
    StreamReader::new(store, Emptying(Paced::new(emptied)))
}

/// Begin of the buffer. Its drop is the end of the bytes.
struct Filling(DuplexStream);

impl StreamConsumer<Component> for Filling {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'_>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let write = |bytes: &[u8]| Pin::new(&mut self.0).poll_write(cx, bytes);
        // After a failure the socket is sent nothing more.
        consume(source.as_direct(store), finish, write, |_| StreamResult::Dropped)
    }
}

/// End of the buffer, which ends turns.
struct Emptying(Paced<DuplexStream>);

impl StreamProducer<Component> for Emptying {
    type Item = u8;
    type Buffer = VecBuffer<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'a>,
        destination: Destination<'a, u8, VecBuffer<u8>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let read = |buffer: &mut [u8]| {
            let mut buffer = ReadBuf::new(buffer);
            let polled = Pin::new(&mut self.0).poll_read(cx, &mut buffer);
            polled.map_ok(|()| buffer.filled().len())
        };
        produce(destination.as_direct(store, HOST_PART), finish, read, |_| StreamResult::Dropped)
    }
}

/// The end of a stream, with the socket held until then, whether the guest looks at it or not.
fn held(
    store: &mut Store<'_>,
    end: FutureReader<Outcome>,
    life: Arc<SocketLife>,
) -> wasmtime::Result<FutureReader<Outcome>> {
    let (sender, outcome) = oneshot::channel();
    end.pipe(&mut *store, Ending(Some((sender, life))))?;
    FutureReader::new(store, outcome)
}

/// The end of a stream.
struct Ending(Option<(oneshot::Sender<Outcome>, Arc<SocketLife>)>);

impl FutureConsumer<Component> for Ending {
    type Item = Outcome;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: Store<'_>,
        mut source: Source<'_, Outcome>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut outcome = None;
        source.read(store, &mut outcome)?;
        if let Some((sender, _life)) = self.0.take()
            && let Some(outcome) = outcome
        {
            // An error: the guest has dropped the future and does not want to know.
            let _ = sender.send(outcome);
        }
        Poll::Ready(Ok(()))
    }
}
