//! Sockets in the sandbox's network that the host uses for a guest.
//!
//! A socket belongs to the network namespace it was created in. So only its creation runs inside
//! the namespace, see [`Network::run`]. Any thread may use it later.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use runwasi_core::network::Network;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};
use tokio::net::{TcpSocket, UdpSocket};

/// UDP socket in the sandbox's network, connected to `to`.
pub(crate) fn udp(network: &Network, to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let made = network.run(move || {
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(to)?;
        // `from_std` demands it.
        socket.set_nonblocking(true)?;
        io::Result::Ok(socket)
    });
    // Out here: it registers the socket with the runtime of the calling thread.
    UdpSocket::from_std(made??)
}

/// Number of an interface of the sandbox's network.
pub(crate) fn interface(network: &Network, name: String) -> io::Result<u32> {
    let number = network.run(move || {
        let any = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        io::Result::Ok(name_to_index(any, &name)?)
    });
    number?
}

/// TCP socket in the sandbox's network, of the address family of `to`.
pub(crate) fn tcp(network: &Network, to: SocketAddr) -> io::Result<TcpSocket> {
    // It is registered with the runtime by `connect`, outside.
    network.run(move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })?
}
