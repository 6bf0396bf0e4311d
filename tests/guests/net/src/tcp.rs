//! TCP by `wasi:sockets`.

use std::error::Error;
use std::io::{self, Read, Write};

use wasip2::cli::exit;
use wasip2::io::poll::Pollable;
use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::{Outcome, name, print};

/// A socket with its two streams, which must go before it.
struct Connection {
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
}

pub(crate) fn connect(host: &str, port: u16, text: &str) -> Outcome {
    let mut connection = open(host, port)?;
    connection.output.write_all(text.as_bytes())?;
    connection.output.flush()?;
    connection.socket.shutdown(ShutdownType::Send).map_err(named("shutdown"))?;
    let mut answer = String::new();
    connection.input.read_to_string(&mut answer)?;
    print(&answer)
}

pub(crate) fn hold(host: &str, port: u16) -> Outcome {
    let mut connection = open(host, port)?;
    print("connected")?;
    io::copy(&mut connection.input, &mut io::sink())?;
    print("closed")
}

pub(crate) fn leave(host: &str, port: u16) -> Outcome {
    let connection = open(host, port)?;
    let failed = |error| format!("write: {error:?}");
    let mut sent = 0;
    loop {
        let room = connection.output.check_write().map_err(failed)?;
        if room == 0 {
            break;
        }
        connection.output.write(&vec![b'x'; room.try_into()?]).map_err(failed)?;
        sent += room;
    }
    print(&sent.to_string())?;
    exit::exit_with_code(0);
    Ok(())
}

pub(crate) fn echo(port: u16) -> Outcome {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(named("create"))?;
    let ready = socket.subscribe();
    socket.start_bind(&instance_network(), name::any(port)).map_err(named("bind"))?;
    until(&ready, || socket.finish_bind()).map_err(named("bind"))?;
    socket.start_listen().map_err(named("listen"))?;
    until(&ready, || socket.finish_listen()).map_err(named("listen"))?;
    print("listening")?;
    let (socket, input, output) = until(&ready, || socket.accept()).map_err(named("accept"))?;
    let mut connection = Connection { input, output, socket };
    io::copy(&mut connection.input, &mut connection.output)?;
    connection.output.flush()?;
    connection.socket.shutdown(ShutdownType::Both).map_err(named("shutdown"))?;
    Ok(())
}

fn open(host: &str, port: u16) -> Result<Connection, Box<dyn Error>> {
    let address = name::address(host, port)?;
    let socket = create_tcp_socket(name::family(&address)).map_err(named("create"))?;
    let ready = socket.subscribe();
    socket.start_connect(&instance_network(), address).map_err(named("connect"))?;
    let (input, output) = until(&ready, || socket.finish_connect()).map_err(named("connect"))?;
    Ok(Connection { input, output, socket })
}

/// Waits as long as the socket says that it would.
pub(crate) fn until<T>(
    ready: &Pollable,
    mut step: impl FnMut() -> Result<T, ErrorCode>,
) -> Result<T, ErrorCode> {
    loop {
        match step() {
            Err(ErrorCode::WouldBlock) => ready.block(),
            other => return other,
        }
    }
}

/// An error with what was tried.
pub(crate) fn named(what: &str) -> impl Fn(ErrorCode) -> String {
    move |error| format!("{what}: {}", error.name())
}
