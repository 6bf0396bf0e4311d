//! Outbound network policy of a container: the annotation [`ANNOTATION`].
//!
//! The annotation is parsed when a process is created. The policy is checked before a connection, a
//! datagram or a lookup leaves.
//!
//! The policy is about traffic that guests initiate. It does not restrict listening, accepting and
//! receiving, nor the responses on an accepted connection. A datagram in response to another one
//! counts as a datagram sent.
//!
//! | item | destinations |
//! |---|---|
//! | `10.0.0.0/8`, `192.0.2.1`, `[2001:db8::/32]` | these addresses |
//! | `example.com` | the addresses that a lookup of this name has returned |
//! | `*.example.com` | the same for every name below it |
//!
//! A `:PORT` behind an item restricts it to this port. An address is checked when it is used,
//! independently of the name that led to it. So a name that suddenly resolves to another address
//! (DNS rebinding) opens nothing that the list does not name.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use runwasi_core::lock::Mutex;

use super::learned::Addresses;

/// Annotation: a list of items with commas in between, or one of the words `all` and `none`. The
/// default is `all`, as for any container.
pub(crate) const ANNOTATION: &str = "io.runwasi.network.outbound";

/// Bits before the IPv4 address in an IPv4-mapped address (RFC 4291, 2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// Largest number of items of a list.
// Every connection and datagram searches the list, and no hand-written list has more.
const MAX_ITEMS: usize = 1024;
/// Largest length of a name in DNS.
const MAX_NAME: usize = 253;
/// Largest length of a label in DNS.
const MAX_LABEL: usize = 63;

/// Error of the annotation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    /// An item is neither a name nor an address.
    #[error("annotations[{ANNOTATION:?}]: item {item:?} {reason}")]
    Item { item: String, reason: &'static str },
    /// The list has too many items.
    #[error("annotations[{ANNOTATION:?}]: has more than {MAX_ITEMS} items")]
    TooMany,
}

/// Outbound policy of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    All,
    None,
    List(Vec<Item>),
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    target: Target,
    /// Allowed port. Without it every port is allowed.
    port: Option<u16>,
}

/// Destinations of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Network(IpNet),
    Name(String),
    /// Every name that ends in a dot and this text.
    Below(String),
}

impl Policy {
    /// Parses the annotation's value. Without an annotation everything is allowed.
    pub(crate) fn parse(value: Option<&str>) -> Result<Self, PolicyError> {
        match value.map(str::trim) {
            None | Some("all") => Ok(Self::All),
            Some("none") => Ok(Self::None),
            Some(list) => {
                let items = list.split(',').map(str::trim);
                if items.clone().count() > MAX_ITEMS {
                    return Err(PolicyError::TooMany);
                }
                let parsed = items.map(|item| {
                    // Bounded: the text of an item is unlimited and ends up in an error text.
                    let shown = || item.chars().take(2 * MAX_NAME).collect();
                    Item::parse(item).map_err(|reason| PolicyError::Item { item: shown(), reason })
                });
                parsed.collect::<Result<_, _>>().map(Self::List)
            }
        }
    }

    fn items(&self) -> &[Item] {
        match self {
            Self::List(items) => items,
            Self::All | Self::None => &[],
        }
    }
}

impl Item {
    fn parse(item: &str) -> Result<Self, &'static str> {
        if ["all", "none"].contains(&item) {
            return Err("stands alone or not at all");
        }
        let (target, port) = match item.strip_prefix('[') {
            Some(rest) => {
                let (inside, port) = rest.split_once(']').ok_or("has no closing bracket")?;
                let network = network(inside)?.ok_or("has no address in its brackets")?;
                let port = if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':').ok_or("is no address")?)
                };
                (Target::Network(network), port)
            }
            // More than one colon: an address of IPv6 without a port.
            None => match item.split_once(':') {
                Some((host, port)) if !port.contains(':') => (target(host)?, Some(port)),
                _ => (target(item)?, None),
            },
        };
        Ok(Self { target, port: port.map(self::port).transpose()? })
    }

    /// Checks whether the item lists `name`.
    fn names(&self, name: &str) -> bool {
        match &self.target {
            Target::Network(_) => false,
            Target::Name(named) => named == name,
            // More than the dot has to remain: `.example.com` is not below `example.com`. Without
            // the dot `evilexample.com` would be.
            Target::Below(suffix) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }

    /// Checks whether the item is a network that contains `to`.
    fn holds(&self, to: SocketAddr) -> bool {
        matches!(&self.target, Target::Network(network) if network.contains(&to.ip()))
            && has(self.port, to.port())
    }
}

fn has(allowed: Option<u16>, port: u16) -> bool {
    allowed.is_none_or(|allowed| allowed == port)
}

fn port(text: &str) -> Result<u16, &'static str> {
    // `parse` would also take a leading plus sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port != 0)
        .ok_or("has no port from 1 to 65535 after its colon")
}

fn target(text: &str) -> Result<Target, &'static str> {
    if let Some(network) = network(text)? {
        return Ok(Target::Network(network));
    }
    match text.strip_prefix("*.") {
        Some(suffix) => name(suffix).map(Target::Below),
        None => name(text).map(Target::Name),
    }
}

/// Parses an address or a network, if the text looks like one.
fn network(text: &str) -> Result<Option<IpNet>, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Some(IpNet::from(address.to_canonical())));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return if text.contains('/') { Err("is no network: ADDRESS/BITS") } else { Ok(None) };
    };
    // Else it is unclear if the author meant the address or the network.
    if network.addr() != network.network() {
        return Err("has bits of its address beyond its prefix");
    }
    of_ipv4(network).map(Some)
}

/// The IPv4 network that a network of IPv4-mapped addresses stands for; any other as it is.
// A destination `::ffff:10.0.0.1` is checked as 10.0.0.1, which a mapped network would not contain.
fn of_ipv4(network: IpNet) -> Result<IpNet, &'static str> {
    let IpNet::V6(mapped) = network else { return Ok(network) };
    let Some(address) = mapped.addr().to_ipv4_mapped() else { return Ok(network) };
    let bits = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let network = bits.and_then(|bits| Ipv4Net::new(address, bits).ok());
    network.map(IpNet::V4).ok_or("holds more than the IPv4-mapped addresses")
}

fn name(text: &str) -> Result<String, &'static str> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let fits = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= MAX_LABEL && label.bytes().all(known)
    };
    if text.len() > MAX_NAME || !text.split('.').all(fits) {
        return Err("is neither a name, nor an address, nor a network");
    }
    // No top-level domain is a number: this is a mistyped address, such as `300.1.1.1`.
    if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("is a bad address");
    }
    Ok(text.to_ascii_lowercase())
}

/// Policy of a container together with the addresses from its lookups.
#[derive(Debug)]
pub(crate) struct OutboundRules {
    policy: Policy,
    /// Addresses of listed names. Locked for one look or change.
    learned: Mutex<Addresses>,
}

impl OutboundRules {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, learned: Mutex::default() }
    }

    /// Checks whether the policy lists names.
    pub(crate) fn goes_by_names(&self) -> bool {
        self.policy.items().iter().any(|item| !matches!(item.target, Target::Network(_)))
    }

    /// Checks whether the guest may connect or send to an address.
    pub(crate) fn allows(&self, to: SocketAddr) -> bool {
        // `::ffff:10.0.0.1` reaches 10.0.0.1, so it is checked as that address.
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        match &self.policy {
            Policy::All => true,
            Policy::None => false,
            Policy::List(items) => {
                items.iter().any(|item| item.holds(to))
                    || self.learned.lock().has(to.ip(), to.port())
            }
        }
    }

    /// Checks whether a name may be looked up. `name` is the guest's name, alone or with a search
    /// domain appended, in lower case and without a dot at its end.
    pub(crate) fn allows_lookup(&self, name: &str) -> bool {
        match &self.policy {
            Policy::All => true,
            Policy::None => false,
            Policy::List(items) => items.iter().any(|item| item.names(name)),
        }
    }

    /// Remembers the addresses from a lookup of `name`, for the items that list it.
    pub(crate) fn learn(&self, name: &str, addresses: &[IpAddr]) {
        let named = self.policy.items().iter().filter(|item| item.names(name));
        let ports: Vec<_> = named.map(|item| item.port).collect();
        self.learned.lock().add(addresses, &ports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(list: &str) -> OutboundRules {
        OutboundRules::new(Policy::parse(Some(list)).unwrap())
    }

    fn to(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn no_annotation_and_all_allow_everything_and_none_nothing() {
        for value in [None, Some("all"), Some(" all ")] {
            let rules = OutboundRules::new(Policy::parse(value).unwrap());
            assert!(rules.allows(to("192.0.2.1:1")) && rules.allows_lookup("example.com"));
        }
        let none = rules("none");
        assert!(!none.allows(to("127.0.0.1:80")) && !none.allows_lookup("localhost"));
        none.learn("localhost", &[to("127.0.0.1:0").ip()]);
        assert!(!none.allows(to("127.0.0.1:80")));
    }

    #[test]
    fn a_list_allows_only_its_networks_and_ports() {
        let rules =
            rules("10.0.0.0/8, 192.0.2.1:443,172.16.0.0/12:80,[2001:db8::/32]:53,::1,fd00::/8");
        for (address, allowed) in [
            ("172.16.5.5:80", true),
            ("172.16.5.5:81", false),
            ("[fd00::1]:7", true),
            ("10.255.0.1:1", true),
            ("11.0.0.1:1", false),
            ("192.0.2.1:443", true),
            ("192.0.2.1:80", false),
            ("[2001:db8::5]:53", true),
            ("[2001:db8::5]:54", false),
            ("[::1]:9", true),
            ("[::ffff:10.1.1.1]:9", true),
            ("[::ffff:11.1.1.1]:9", false),
        ] {
            assert_eq!(rules.allows(to(address)), allowed, "{address}");
        }
        assert!(!rules.allows_lookup("example.com") && !rules.goes_by_names());
    }

    #[test]
    fn mapped_addresses_in_a_list_are_those_of_ipv4() {
        let rules = rules("::ffff:192.0.2.1,[::ffff:10.0.0.0/104]:80");
        for (address, allowed) in [
            ("192.0.2.1:5", true),
            ("[::ffff:192.0.2.1]:5", true),
            ("192.0.2.2:5", false),
            ("10.9.9.9:80", true),
            ("[::ffff:10.9.9.9]:80", true),
            ("10.9.9.9:81", false),
            ("11.9.9.9:80", false),
        ] {
            assert_eq!(rules.allows(to(address)), allowed, "{address}");
        }
    }

    #[test]
    fn a_name_allows_the_addresses_of_its_lookup_on_its_port() {
        let rules = rules("Example.COM:443,*.cluster.local");
        assert!(rules.goes_by_names());
        for (name, allowed) in [
            ("example.com", true),
            ("www.example.com", false),
            ("db.cluster.local", true),
            ("a.b.cluster.local", true),
            ("cluster.local", false),
            ("evilcluster.local", false),
            (".cluster.local", false),
        ] {
            assert_eq!(rules.allows_lookup(name), allowed, "{name}");
        }
        assert!(!rules.allows(to("192.0.2.7:443")), "not looked up yet");
        rules.learn("example.com", &[to("192.0.2.7:0").ip()]);
        rules.learn("other.com", &[to("192.0.2.8:0").ip()]);
        rules.learn("db.cluster.local", &[to("[::ffff:192.0.2.9]:0").ip()]);
        assert!(rules.allows(to("192.0.2.7:443")) && !rules.allows(to("192.0.2.7:80")));
        assert!(!rules.allows(to("192.0.2.8:443")));
        assert!(rules.allows(to("192.0.2.9:1")));
    }

    #[test]
    fn an_invalid_item_is_refused_with_its_text() {
        for (list, wrong) in [
            ("", ""),
            ("a.test,,b.test", ""),
            ("a.test, all", "all"),
            ("10.0.0.1/8", "10.0.0.1/8"),
            ("10.0.0.0/33", "10.0.0.0/33"),
            ("300.1.1.1", "300.1.1.1"),
            ("a.test:0", "a.test:0"),
            ("a.test:+1", "a.test:+1"),
            ("a.test:65536", "a.test:65536"),
            ("a.test:", "a.test:"),
            ("*.", "*."),
            ("*", "*"),
            ("a.*.test", "a.*.test"),
            ("http://a.test", "http://a.test"),
            ("[::1", "[::1"),
            ("[::1]80", "[::1]80"),
            ("[a.test]:80", "[a.test]:80"),
            ("::1:x", "::1:x"),
            ("a b", "a b"),
        ] {
            let error = Policy::parse(Some(list)).unwrap_err();
            assert!(
                matches!(&error, PolicyError::Item { item, .. } if item == wrong),
                "{list}: {error}"
            );
            assert!(error.to_string().contains(ANNOTATION));
        }
        assert_eq!(Policy::parse(Some(&"a,".repeat(MAX_ITEMS))), Err(PolicyError::TooMany));
    }
}
