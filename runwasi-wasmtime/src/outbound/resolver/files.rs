//! The container's own `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Guest and image control these files. So they are opened inside the guest's file system, must be
//! regular files, and are limited in size. A missing or unfit file counts as empty.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    str::FromStr,
    time::Duration,
};

use runwasi_core::{
    network::Network,
    regular_file::{ReadError, read_opened},
    rootfs::Rootfs,
};

use crate::{outbound::sockets, turns};

pub(super) const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Largest size of a file, in bytes.
const MAX_HOSTS: u64 = 1 << 20;
const MAX_RESOLV_CONF: u64 = 64 << 10;
/// Most addresses of a name from `/etc/hosts`, and of each family from a name server. For each the
/// kernel is asked for a route. A DNS answer by UDP has less than 100.
pub(super) const MAX_ADDRESSES: usize = 256;
/// Lines of `/etc/hosts` that are searched in one turn: some 100 microseconds.
const LINES: usize = 1000;

/// The limits of glibc, which has no limit for the search list: that one is ours.
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 32;
const MAX_NDOTS: u32 = 15;
const MAX_TIMEOUT: u32 = 30;
const MAX_ATTEMPTS: u32 = 5;

const DNS_PORT: u16 = 53;

/// Contents of both files.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameFiles {
    hosts: String,
    pub(crate) resolver: ResolverConfig,
}

/// Contents of `/etc/resolv.conf`, with the defaults for missing options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolverConfig {
    /// Name servers, at least one.
    pub(crate) servers: Vec<Server>,
    /// Domains to append to a name.
    pub(crate) search: Vec<String>,
    /// A name with at least so many dots is first tried as it is.
    pub(crate) ndots: usize,
    /// Time limit of one query.
    pub(crate) timeout: Duration,
    /// Rounds through all servers.
    pub(crate) attempts: u32,
    /// Each lookup begins with the next server.
    pub(crate) rotate: bool,
    /// Query by TCP only.
    pub(crate) tcp: bool,
    /// Query IPv4 addresses only.
    pub(crate) no_ipv6: bool,
}

/// A name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    address: IpAddr,
    /// Number or name of the interface that leads to a link-local address.
    zone: Option<String>,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self::parse(&[])
    }
}

impl NameFiles {
    /// Reads both. Blocks. Opens the files with the credentials of the calling thread, so it has to
    /// be called as the host.
    pub(crate) fn read(rootfs: &Rootfs) -> Self {
        let hosts = read(rootfs, HOSTS, MAX_HOSTS);
        let resolver = ResolverConfig::parse(&read(rootfs, RESOLV_CONF, MAX_RESOLV_CONF));
        // Lossy: a line with other bytes must not hide the remaining lines.
        Self { hosts: String::from_utf8_lossy(&hosts).into_owned(), resolver }
    }

    /// The first [`MAX_ADDRESSES`] addresses of a name in `/etc/hosts`, in the order of the file.
    /// True if there are more.
    pub(crate) async fn hosts(&self, name: &str) -> (Vec<IpAddr>, bool) {
        let mut found = Vec::new();
        for (n, line) in self.hosts.lines().enumerate() {
            if n % LINES == LINES - 1 {
                turns::end().await;
            }
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            // The zone of a link-local address names an interface. Lookups return no zones.
            let address = words.next().and_then(|word| word.split('%').next()?.parse().ok());
            let Some(address) = address else { continue };
            let is_it =
                |word: &str| word.strip_suffix('.').unwrap_or(word).eq_ignore_ascii_case(name);
            // All lines of a name count: it may have addresses of both families.
            if words.any(is_it) && !found.contains(&address) {
                if found.len() == MAX_ADDRESSES {
                    return (found, true);
                }
                found.push(address);
            }
        }
        (found, false)
    }
}

impl ResolverConfig {
    fn parse(text: &[u8]) -> Self {
        // As glibc does: a bad line is ignored, and the others hold.
        let (config, _errors) = resolv_conf::Config::parse_with_errors(text);
        let mut servers: Vec<_> = servers(text).take(MAX_SERVERS).collect();
        // glibc's default, too.
        if servers.is_empty() {
            servers.push(Server { address: Ipv4Addr::LOCALHOST.into(), zone: None });
        }
        let domains = config.get_last_search_or_domain().take(MAX_SEARCH);
        let domain = |domain: &String| domain.trim_matches('.').to_ascii_lowercase();
        Self {
            servers,
            search: domains.map(domain).filter(|domain| !domain.is_empty()).collect(),
            ndots: config.ndots.min(MAX_NDOTS) as usize,
            timeout: Duration::from_secs(config.timeout.clamp(1, MAX_TIMEOUT).into()),
            attempts: config.attempts.clamp(1, MAX_ATTEMPTS),
            rotate: config.rotate,
            tcp: config.use_vc,
            no_ipv6: config.no_aaaa,
        }
    }
}

/// The name servers of the file.
// Not those of `resolv_conf`, which has no interface with a name such as `eth0.7` or `br-lan`.
fn servers(text: &[u8]) -> impl Iterator<Item = Server> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = str::from_utf8(line).ok()?.split(['#', ';']).next()?;
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        words.next()?.parse().ok()
    })
}

impl FromStr for Server {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let zoned = text.split_once('%').filter(|(address, _)| address.contains(':'));
        let (address, zone) = zoned.map_or((text, None), |(address, zone)| (address, Some(zone)));
        Ok(Self { address: address.parse()?, zone: zone.map(str::to_owned) })
    }
}

impl Server {
    /// Its socket address in the sandbox's network.
    pub(super) fn address(&self, network: &Network) -> io::Result<SocketAddr> {
        let mut address = SocketAddr::new(self.address, DNS_PORT);
        if let SocketAddr::V6(v6) = &mut address
            && let Some(zone) = &self.zone
        {
            v6.set_scope_id(match zone.parse() {
                Ok(number) => number,
                Err(_) => sockets::interface(network, zone.clone())?,
            });
        }
        Ok(address)
    }
}

fn read(rootfs: &Rootfs, path: &str, most: u64) -> Vec<u8> {
    // The image may have a FIFO or a device in its place.
    let opened = rootfs.open(Path::new(path)).map_err(ReadError::from);
    let read = opened.and_then(|file| read_opened(&file, most));
    read.unwrap_or_else(|error| {
        tracing::debug!(path, %error, "says nothing about names");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> NameFiles {
        NameFiles { hosts: text.into(), resolver: ResolverConfig::default() }
    }

    fn found(files: &NameFiles, name: &str) -> Vec<IpAddr> {
        searched(files, name).0
    }

    fn searched(files: &NameFiles, name: &str) -> (Vec<IpAddr>, bool) {
        let mut found = std::pin::pin!(files.hosts(name));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(found) = found.as_mut().poll(&mut context) {
                return found;
            }
        }
    }

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_has_the_addresses_of_all_its_lines_in_hosts_in_any_case() {
        let files = hosts(
            "127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # loopback\n\
             # 192.0.2.9 one\n192.0.2.1 One one.test.\r\n\
             nonsense one\n2001:db8::1 one\n192.0.2.1 one\nfe80::1%eth0 link\n",
        );
        assert_eq!(found(&files, "localhost"), addresses(&["127.0.0.1", "::1"]));
        assert_eq!(found(&files, "one"), addresses(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(found(&files, "one.test"), addresses(&["192.0.2.1"]));
        assert_eq!(found(&files, "link"), addresses(&["fe80::1"]));
        assert_eq!(found(&files, "loopback"), addresses(&[]));
        assert_eq!(found(&files, "192.0.2.1"), addresses(&[]), "an address is no name");
    }

    #[test]
    fn a_name_has_a_limited_number_of_addresses_and_a_long_file_is_searched_in_turns() {
        let files = hosts(
            &(0..90_000u32)
                .map(|n| format!("{} a\n", std::net::Ipv4Addr::from(n)))
                .chain(["192.0.2.1 last\n".into()])
                .collect::<String>(),
        );
        let (addresses, has_more) = searched(&files, "a");
        assert_eq!((addresses.len(), has_more), (MAX_ADDRESSES, true));
        assert_eq!(addresses[MAX_ADDRESSES - 1], IpAddr::from([0, 0, 0, 255]));
        let mut turns = 0;
        let mut last = std::pin::pin!(files.hosts("last"));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while last.as_mut().poll(&mut context).is_pending() {
            turns += 1;
        }
        assert_eq!(turns, 90_001 / LINES);
    }

    fn shown(servers: &[Server]) -> Vec<String> {
        let network = Network::of_process();
        let shown = |server: &Server| match server.address(&network) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        servers.iter().map(shown).collect()
    }

    #[test]
    fn interface_of_a_name_server_has_a_number_or_a_name() {
        let text = "nameserver fe80::1%lo # here\nnameserver fe80::2%7;\n\
                    nameserver fe80::3%no-such.0\nnameserver fe80::4%5\n";
        let config = ResolverConfig::parse(text.as_bytes());
        let [lo, number, absent] = &shown(&config.servers)[..] else { panic!("not three") };
        assert_eq!((lo.as_str(), number.as_str()), ("[fe80::1%1]:53", "[fe80::2%7]:53"));
        assert!(absent.contains("No such device"), "{absent}");
        let wrong = "nameserver 192.0.2.1%lo\nnameserver\nnameservers 192.0.2.1\n";
        assert_eq!(shown(&ResolverConfig::parse(wrong.as_bytes()).servers), ["127.0.0.1:53"]);
    }

    #[test]
    fn resolv_conf_is_read_as_glibc_does() {
        let config = ResolverConfig::parse(
            b"# by somebody\nnameserver 192.0.2.1\nnameserver fe80::5%2\nnameserver bad\n\
              nameserver 192.0.2.3\nnameserver 192.0.2.4\n\
              domain old.test\nsearch a.Test. b.test\n\
              options ndots:5 timeout:1 attempts:4 rotate use-vc unknown:7\n\xff\xfe\n",
        );
        let expected = ResolverConfig {
            servers: ["192.0.2.1", "fe80::5%2", "192.0.2.3"].map(|s| s.parse().unwrap()).into(),
            search: vec!["a.test".into(), "b.test".into()],
            ndots: 5,
            timeout: Duration::from_secs(1),
            attempts: 4,
            rotate: true,
            tcp: true,
            no_ipv6: false,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn without_resolv_conf_the_name_server_is_localhost() {
        let config = ResolverConfig::default();
        assert_eq!(shown(&config.servers), ["127.0.0.1:53"]);
        assert_eq!((config.ndots, config.timeout, config.attempts), (1, Duration::from_secs(5), 2));
        assert!(config.search.is_empty());
    }

    #[test]
    fn options_and_search_list_of_resolv_conf_are_limited() {
        let text =
            format!("search {}\noptions ndots:99 timeout:0 attempts:1000", "a.test ".repeat(100));
        let config = ResolverConfig::parse(text.as_bytes());
        assert_eq!((config.search.len(), config.ndots, config.attempts), (MAX_SEARCH, 15, 5));
        assert_eq!(config.timeout, Duration::from_secs(1));
    }
}
