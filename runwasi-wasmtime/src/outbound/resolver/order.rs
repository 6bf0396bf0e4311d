//! Order of the addresses of a name: which to try first (RFC 6724, 6, with the tables of glibc).
//!
//! The kernel is asked for the source address of each destination. A pod with a private address of
//! IPv6 (`fd00::/8`) and one of IPv4 has a route to the whole Internet in both, and in most
//! clusters only the one by IPv4 leads there: the labels of the tables tell.
//!
//! Left out are the rules that need more than the two addresses (3, 4, 7), and the longest common
//! prefix (9), which would undo the turns that a name server takes among its addresses.

use std::{
    cell::LazyCell,
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, connect, connect_unspec, getsockname, socket_with,
};

/// Scopes of addresses (RFC 4291, 2.7).
const LINK: u8 = 2;
const SITE: u8 = 5;
const GLOBAL: u8 = 14;

/// Source addresses of connections to `addresses` in the network of the calling thread. Absent for
/// those without a route.
pub(super) fn sources(addresses: &[IpAddr]) -> Vec<Option<IpAddr>> {
    // One socket of each family for all of them, made for its first address.
    let udp = |family| socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok();
    let v4 = LazyCell::new(|| udp(AddressFamily::INET));
    let v6 = LazyCell::new(|| udp(AddressFamily::INET6));
    let source = |address: &IpAddr| {
        let socket = if address.is_ipv4() { &*v4 } else { &*v6 };
        let socket = socket.as_ref()?;
        // To connect a UDP socket looks up the route and sends nothing. The port does not matter.
        connect(socket, &SocketAddr::new(*address, 9)).ok()?;
        let source = getsockname(socket).ok().and_then(|own| SocketAddr::try_from(own).ok());
        // The next address must not be looked up from the source address of this one.
        connect_unspec(socket).ok()?;
        source.map(|own| own.ip())
    };
    addresses.iter().map(source).collect()
}

/// Sorts addresses by their sources. What the rules leave open stays in its order.
pub(super) fn sorted(addresses: Vec<IpAddr>, sources: Vec<Option<IpAddr>>) -> Vec<IpAddr> {
    let mut all: Vec<_> = addresses.into_iter().zip(sources).collect();
    all.sort_by_cached_key(|(address, source)| {
        let differs = |of: fn(IpAddr) -> u8| source.is_some_and(|own| of(own) != of(*address));
        // The rules 1, 2, 5, 6 and 8.
        let precedence = Reverse(precedence(*address));
        (source.is_none(), differs(scope), differs(label), precedence, scope(*address))
    });
    all.into_iter().map(|(address, _)| address).collect()
}

fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_link_local() => LINK,
        IpAddr::V4(_) => GLOBAL,
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unicast_link_local() => LINK,
        IpAddr::V6(v6) => match v6.octets() {
            [0xff, scope, ..] => scope & 0xf,
            [0xfe, 0xc0..=0xff, ..] => SITE,
            _ => GLOBAL,
        },
    }
}

fn label(address: IpAddr) -> u8 {
    let IpAddr::V6(v6) = address else { return 4 };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 0,
        [0x2002, ..] => 2,
        [0, 0, 0, 0, 0, 0, _, _] => 3,
        [0xfec0..=0xfeff, ..] => 5,
        [0xfc00..=0xfdff, ..] => 6,
        [0x2001, 0, ..] => 7,
        _ => 1,
    }
}

fn precedence(address: IpAddr) -> u8 {
    let IpAddr::V6(v6) = address else { return 10 };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => 50,
        [0x2002, ..] => 30,
        [0, 0, 0, 0, 0, 0, _, _] => 20,
        _ => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The addresses of a list of destinations and sources, in their order.
    fn order(list: &[(&str, &str)]) -> Vec<String> {
        let destinations = list.iter().map(|(to, _)| to.parse().unwrap()).collect();
        let sources = list.iter().map(|(_, from)| from.parse().ok()).collect();
        sorted(destinations, sources).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn addresses_without_a_route_come_last() {
        let list = [("2001:db8::1", "-"), ("192.0.2.1", "10.0.0.2"), ("::1", "::1")];
        assert_eq!(order(&list), ["::1", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(
            order(&[("192.0.2.1", "-"), ("2001:db8::1", "-")]),
            ["2001:db8::1", "192.0.2.1"]
        );
    }

    #[test]
    fn ipv6_comes_first_unless_its_source_is_a_private_address() {
        let v4 = ("192.0.2.1", "10.0.0.2");
        assert_eq!(order(&[v4, ("2001:db8::1", "2001:db8::2")]), ["2001:db8::1", "192.0.2.1"]);
        assert_eq!(order(&[("2001:db8::1", "fd00::2"), v4]), ["192.0.2.1", "2001:db8::1"]);
        // Of the cluster itself.
        assert_eq!(order(&[("10.96.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])[0], "fd00::1");
        // A router is there, and no address of its network.
        assert_eq!(order(&[("2001:db8::1", "fe80::2"), v4]), ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn near_addresses_come_first_and_equal_ones_keep_their_order() {
        let list = [("192.0.2.1", "192.0.2.1"), ("127.0.0.1", "127.0.0.1")];
        assert_eq!(order(&list), ["127.0.0.1", "192.0.2.1"]);
        let list = ["192.0.2.9", "198.51.100.3", "192.0.2.1"].map(|to| (to, "10.0.0.2"));
        assert_eq!(order(&list), ["192.0.2.9", "198.51.100.3", "192.0.2.1"]);
    }

    #[test]
    fn source_is_that_of_the_route() {
        let addresses = ["127.0.0.1", "127.0.0.9"].map(|text| text.parse::<IpAddr>().unwrap());
        let local = Some(addresses[0]);
        assert_eq!(sources(&addresses), [local, local]);
    }
}
