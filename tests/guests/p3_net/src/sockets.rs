//! TCP, UDP and names, by `wasi:sockets`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
    UdpSocket,
};
use wasip3::{spawn, wit_stream};

use crate::Outcome;

pub(crate) async fn tcp(address: &str, port: &str, text: &str) -> Outcome {
    let (remote, family) = remote(address, port)?;
    let socket = TcpSocket::create(family).map_err(|error| format!("create: {error:?}"))?;
    socket.connect(remote).await.map_err(|error| format!("connect: {error:?}"))?;
    let (mut to, data) = wit_stream::new();
    let sent = socket.send(data);
    let text = text.as_bytes().to_vec();
    spawn(async move {
        to.write_all(text).await;
    });
    sent.await.map_err(|error| format!("send: {error:?}"))?;
    let (from, received) = socket.receive();
    let answer = from.collect().await;
    received.await.map_err(|error| format!("receive: {error:?}"))?;
    Ok(format!("{}\n", String::from_utf8_lossy(&answer)))
}

pub(crate) async fn udp(address: &str, port: &str, text: &str) -> Outcome {
    let (remote, family) = remote(address, port)?;
    let socket = UdpSocket::create(family).map_err(|error| format!("create: {error:?}"))?;
    socket
        .send(text.as_bytes().to_vec(), Some(remote))
        .await
        .map_err(|error| format!("send: {error:?}"))?;
    let (answer, _) = socket.receive().await.map_err(|error| format!("receive: {error:?}"))?;
    Ok(format!("{}\n", String::from_utf8_lossy(&answer)))
}

pub(crate) async fn resolve(name: &str) -> Outcome {
    let found = resolve_addresses(name.to_owned())
        .await
        .map_err(|error| format!("resolve {name}: {error:?}"))?;
    let shown = |address: IpAddress| match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from(Ipv4Addr::new(a, b, c, d)),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
            IpAddr::from(Ipv6Addr::new(a, b, c, d, e, f, g, h))
        }
    };
    Ok(found.into_iter().map(|address| format!("{}\n", shown(address))).collect())
}

fn remote(address: &str, port: &str) -> Result<(IpSocketAddress, IpAddressFamily), String> {
    let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    Ok(match address.parse().map_err(|_| format!("{address:?} is no address"))? {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            (
                IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) }),
                IpAddressFamily::Ipv4,
            )
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments();
            let address = (a, b, c, d, e, f, g, h);
            let remote = Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 };
            (IpSocketAddress::Ipv6(remote), IpAddressFamily::Ipv6)
        }
    })
}
