//! Sockets in the sandbox's network that the host uses for a guest.
//!
//! Only the making of a socket happens inside the namespace, see [`Network::run`]; whatever a socket does later it does there, on
//! whichever thread.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use runwasi_core::network::Network;
use tokio::net::{TcpSocket, UdpSocket};

/// A UDP socket inside that is connected to `to`.
pub(crate) fn udp(network: &Network, to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let made = network.run(move || {
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        io::Result::Ok(socket)
    });
    UdpSocket::from_std(made??)
}

/// A TCP socket inside, of the family of `to`.
pub(crate) fn tcp(network: &Network, to: SocketAddr) -> io::Result<TcpSocket> {
    network.run(move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })?
}
