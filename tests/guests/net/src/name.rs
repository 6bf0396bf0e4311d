//! Names and addresses, by `wasi:sockets/ip-name-lookup`. Used by all that connect.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};

/// All addresses of a name; an address is its own.
pub(crate) fn resolve(name: &str) -> Result<Vec<IpAddress>, Box<dyn Error>> {
    let failed = |error: ErrorCode| format!("resolve {name}: {}", error.name());
    let stream = resolve_addresses(&instance_network(), name).map_err(failed)?;
    let mut found = Vec::new();
    loop {
        match stream.resolve_next_address() {
            Ok(Some(address)) => found.push(address),
            Ok(None) => return Ok(found),
            Err(ErrorCode::WouldBlock) => stream.subscribe().block(),
            Err(error) => return Err(failed(error).into()),
        }
    }
}

/// The first address of a name, with a port.
pub(crate) fn address(name: &str, port: u16) -> Result<IpSocketAddress, Box<dyn Error>> {
    let first =
        resolve(name)?.into_iter().next().ok_or_else(|| format!("{name} has no address"))?;
    Ok(match first {
        IpAddress::Ipv4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }),
        IpAddress::Ipv6(address) => {
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 })
        }
    })
}

/// All addresses of this machine.
pub(crate) fn any(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (0, 0, 0, 0) })
}

pub(crate) fn family(address: &IpSocketAddress) -> IpAddressFamily {
    match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

pub(crate) fn shown(address: IpAddress) -> String {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).to_string(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
            Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string()
        }
    }
}
