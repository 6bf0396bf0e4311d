//! UDP by `wasi:sockets`.

use std::error::Error;

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::IpSocketAddress;
use wasip2::sockets::udp::{
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::tcp::{named, until};
use crate::{Outcome, name, print};

pub(crate) fn send(host: &str, port: u16, text: &str) -> Outcome {
    let remote = name::address(host, port)?;
    let socket = bound(0, &remote)?;
    let (incoming, outgoing) = socket.stream(Some(remote)).map_err(named("stream"))?;
    transmit(&outgoing, text.as_bytes().to_vec(), None)?;
    let (data, _) = receive(&incoming)?;
    print(&String::from_utf8_lossy(&data))
}

pub(crate) fn echo(port: u16) -> Outcome {
    let socket = bound(port, &name::any(port))?;
    let (incoming, outgoing) = socket.stream(None).map_err(named("stream"))?;
    print("listening")?;
    let (data, sender) = receive(&incoming)?;
    transmit(&outgoing, data, Some(sender))
}

/// A socket of the family of `peer`, bound to `port` of all addresses; 0 is a free one.
fn bound(port: u16, peer: &IpSocketAddress) -> Result<UdpSocket, Box<dyn Error>> {
    let socket = create_udp_socket(name::family(peer)).map_err(named("create"))?;
    let local = match peer {
        IpSocketAddress::Ipv4(_) => name::any(port),
        IpSocketAddress::Ipv6(_) => name::address("::", port)?,
    };
    socket.start_bind(&instance_network(), local).map_err(named("bind"))?;
    until(&socket.subscribe(), || socket.finish_bind()).map_err(named("bind"))?;
    Ok(socket)
}

fn transmit(
    outgoing: &OutgoingDatagramStream,
    data: Vec<u8>,
    remote_address: Option<IpSocketAddress>,
) -> Outcome {
    let ready = outgoing.subscribe();
    while outgoing.check_send().map_err(named("send"))? == 0 {
        ready.block();
    }
    let sent =
        outgoing.send(&[OutgoingDatagram { data, remote_address }]).map_err(named("send"))?;
    if sent == 1 { Ok(()) } else { Err("send: the datagram was not taken".into()) }
}

fn receive(
    incoming: &IncomingDatagramStream,
) -> Result<(Vec<u8>, IpSocketAddress), Box<dyn Error>> {
    let ready = incoming.subscribe();
    loop {
        if let Some(datagram) = incoming.receive(1).map_err(named("receive"))?.pop() {
            return Ok((datagram.data, datagram.remote_address));
        }
        ready.block();
    }
}
