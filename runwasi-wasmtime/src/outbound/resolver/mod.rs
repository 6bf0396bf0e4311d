//! From a name to addresses, as libc in the container would find them.
//!
//! | module | one thing |
//! |---|---|
//! | `files` | the container's `/etc/hosts` and `/etc/resolv.conf` |
//! | `dns` | one question to one name server |
//!
//! An address is its own answer; `hosts` comes before the name servers; a name below `localhost` is this host. The files are read at
//! every lookup. If the policy goes by names, they are read once, before any code of the container runs: a guest that
//! could give names a meaning would choose its own list.

mod dns;
mod files;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use runwasi_core::{network::Network, rootfs::Rootfs};
use tokio::{
    sync::{OnceCell, Semaphore},
    task::spawn_blocking,
};
use url::Host;

use self::{
    dns::{Answer, Family},
    files::{NameFiles, ResolverConfig},
};
use super::policy::OutboundRules;

/// Lookups of a container at the same time.
const AT_ONCE: usize = 32;

/// Why a name has no addresses: what WASI's errors tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The policy does not let the guest ask.
    #[error("the container may not look this name up")]
    Denied,
    /// It is none.
    #[error("is no name")]
    Invalid,
    /// Those who know say that it has none.
    #[error("has no address")]
    NoAddress,
    /// No server has answered.
    #[error("no name server has an answer now")]
    Temporary,
    /// The host cannot.
    #[error("names cannot be looked up")]
    Permanent,
}

/// A container's way from names to addresses. Shared by its processes.
#[derive(Debug)]
pub(crate) struct Resolver {
    network: Network,
    rules: Arc<OutboundRules>,
    rootfs: Weak<Rootfs>,
    /// If the files are to be read once.
    first: OnceCell<Arc<NameFiles>>,
    /// With which server the next lookup begins, if they are to take turns.
    turn: AtomicUsize,
    /// Each lookup has two sockets: so many go on at once, others wait.
    at_once: Semaphore,
}

impl Resolver {
    pub(crate) fn new(network: Network, rules: Arc<OutboundRules>, rootfs: &Arc<Rootfs>) -> Self {
        let rootfs = Arc::downgrade(rootfs);
        Self {
            network,
            rules,
            rootfs,
            first: OnceCell::new(),
            turn: AtomicUsize::new(0),
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// Before code of the container runs.
    pub(crate) async fn begin(&self) -> Result<(), LookupError> {
        if self.rules.goes_by_names() { self.files().await.map(drop) } else { Ok(()) }
    }

    /// The addresses of `name`, the ones that can be reached first.
    pub(crate) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let name = match self::name(name)? {
            Name::Address(address) => return Ok(vec![address]),
            Name::Name(name) => name,
        };
        // Never closed.
        let _permit = self.at_once.acquire().await;
        let files = self.files_for(&name).await?;
        let found = self.find(&name, &files).await;
        tracing::debug!(name = name.text, ?found, "looked up");
        Ok(self.sorted(found?))
    }

    /// The files, unless no name that could be meant may be looked up.
    async fn files_for(&self, name: &AskedName) -> Result<Arc<NameFiles>, LookupError> {
        let files = self.files().await?;
        let may = |candidate: &String| self.may_ask(name, candidate);
        if candidates(name, &files.resolver).iter().any(may) {
            Ok(files)
        } else {
            Err(LookupError::Denied)
        }
    }

    async fn files(&self) -> Result<Arc<NameFiles>, LookupError> {
        if self.rules.goes_by_names() {
            self.first.get_or_try_init(|| self.read()).await.cloned()
        } else {
            self.read().await
        }
    }

    async fn read(&self) -> Result<Arc<NameFiles>, LookupError> {
        // The last process of the container is ending.
        let rootfs = self.rootfs.upgrade().ok_or(LookupError::Permanent)?;
        let read = spawn_blocking(move || NameFiles::read(&rootfs)).await;
        read.map(Arc::new).map_err(|_| LookupError::Permanent)
    }

    async fn find(&self, name: &AskedName, files: &NameFiles) -> Result<Vec<IpAddr>, LookupError> {
        let hosts = files.hosts(&name.text);
        if !hosts.is_empty() {
            self.learn(name, &name.text, &hosts);
            return Ok(hosts);
        }
        if name.text == "localhost" || name.text.ends_with(".localhost") {
            let loopback = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            self.learn(name, &name.text, &loopback);
            return Ok(loopback);
        }
        for candidate in candidates(name, &files.resolver)
            .iter()
            .filter(|candidate| self.may_ask(name, candidate))
        {
            let found = self.ask_servers(candidate, &files.resolver).await?;
            if !found.is_empty() {
                self.learn(name, candidate, &found);
                return Ok(found);
            }
        }
        Err(LookupError::NoAddress)
    }

    /// A listed name may be searched for in every domain: the domains are the container's.
    fn may_ask(&self, name: &AskedName, candidate: &str) -> bool {
        self.rules.allows_lookup(&name.text) || self.rules.allows_lookup(candidate)
    }

    fn learn(&self, name: &AskedName, candidate: &str, addresses: &[IpAddr]) {
        self.rules.learn(&name.text, addresses);
        if candidate != name.text {
            self.rules.learn(candidate, addresses);
        }
    }

    /// Both families at once. One that has no answer is no reason to forget the other's.
    async fn ask_servers(
        &self,
        name: &str,
        config: &ResolverConfig,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let first = if config.rotate { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let ipv6 = async {
            if config.no_ipv6 {
                Ok(Vec::new())
            } else {
                self.ask_in_turn(name, Family::V6, config, first).await
            }
        };
        match tokio::join!(self.ask_in_turn(name, Family::V4, config, first), ipv6) {
            (Ok(v4), Ok(v6)) => Ok([v6, v4].concat()),
            (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.is_empty() => Ok(some),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn ask_in_turn(
        &self,
        name: &str,
        family: Family,
        config: &ResolverConfig,
        first: usize,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let servers = config.servers.len();
        for n in 0..servers * config.attempts as usize {
            let server = config.servers[(first + n) % servers];
            match dns::ask(&self.network, server, name, family, config.tcp, config.timeout).await {
                Ok(Answer::Addresses(found)) => return Ok(found),
                Ok(Answer::NoName) | Err(dns::DnsError::BadName) => return Ok(Vec::new()),
                Err(error) => tracing::debug!(name, %server, %error, "asking the next name server"),
            }
        }
        Err(LookupError::Temporary)
    }

    /// Those first that there is a way to, IPv6 before IPv4: many programs try the first only.
    fn sorted(&self, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        if addresses.len() < 2 {
            return addresses;
        }
        let asked = addresses.clone();
        let ways = self.network.run(move || asked.into_iter().map(has_way).collect::<Vec<_>>());
        if let Ok(ways) = ways {
            let mut ranked: Vec<_> = ways.into_iter().zip(addresses).collect();
            ranked.sort_by_key(|(way, address)| (!way, address.is_ipv4()));
            addresses = ranked.into_iter().map(|(_, address)| address).collect();
        }
        addresses
    }
}

/// Whether the calling thread's network has a route: to connect a UDP socket sends nothing.
fn has_way(address: IpAddr) -> bool {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    std::net::UdpSocket::bind(any).and_then(|socket| socket.connect((address, 9))).is_ok()
}

/// What a guest asks for.
enum Name {
    Address(IpAddr),
    Name(AskedName),
}

struct AskedName {
    /// In lower case and without a dot at its end.
    text: String,
    /// Whether it had one: no search domain belongs behind it.
    absolute: bool,
}

/// As a name of the web: with letters beyond ASCII translated, and numbers as addresses.
fn name(text: &str) -> Result<Name, LookupError> {
    if let Ok(address) = text.parse() {
        return Ok(Name::Address(address));
    }
    let text = match Host::parse(text).map_err(|_| LookupError::Invalid)? {
        Host::Ipv4(address) => return Ok(Name::Address(address.into())),
        Host::Ipv6(address) => return Ok(Name::Address(address.into())),
        Host::Domain(text) => text,
    };
    let (text, absolute) = match text.strip_suffix('.') {
        Some(text) => (text.to_owned(), true),
        None => (text, false),
    };
    let fits = |label: &str| !label.is_empty() && label.len() <= 63;
    if text.len() > 253 || !text.split('.').all(fits) {
        return Err(LookupError::Invalid);
    }
    Ok(Name::Name(AskedName { text: text.to_ascii_lowercase(), absolute }))
}

/// What name servers are asked for, in this order.
fn candidates(name: &AskedName, config: &ResolverConfig) -> Vec<String> {
    let as_it_is = [name.text.clone()];
    if name.absolute {
        return as_it_is.into();
    }
    let searched = config.search.iter().map(|domain| format!("{}.{domain}", name.text));
    if name.text.matches('.').count() >= config.ndots {
        as_it_is.into_iter().chain(searched).collect()
    } else {
        searched.chain(as_it_is).collect()
    }
}

#[cfg(test)]
mod server_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> AskedName {
        match name(text).unwrap() {
            Name::Name(name) => name,
            Name::Address(address) => panic!("{address} is an address"),
        }
    }

    #[test]
    fn addresses_are_their_own_answer() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[::1]", "::1"),
            ("0x7f.1", "127.0.0.1"),
        ] {
            let Ok(Name::Address(found)) = name(text) else { panic!("{text} is no address") };
            assert_eq!(found, address.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn names_are_made_comparable_and_what_is_none_is_invalid() {
        assert_eq!(asked("WWW.Example.COM.").text, "www.example.com");
        assert!(asked("a.test.").absolute && !asked("a.test").absolute);
        assert_eq!(asked("bücher.test").text, "xn--bcher-kva.test");
        assert_eq!(asked("_dmarc.a_b.test").text, "_dmarc.a_b.test");
        for bad in ["", ".", "a..b", "a b", "a/b", "a:80", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(name(bad).err(), Some(LookupError::Invalid), "{bad:?}");
        }
    }

    #[test]
    fn search_domains_come_before_or_after_the_name_by_its_dots() {
        let config = ResolverConfig {
            search: vec!["x.test".into(), "test".into()],
            ndots: 2,
            ..ResolverConfig::default()
        };
        assert_eq!(candidates(&asked("a.b"), &config), ["a.b.x.test", "a.b.test", "a.b"]);
        assert_eq!(candidates(&asked("a.b.c"), &config), ["a.b.c", "a.b.c.x.test", "a.b.c.test"]);
        assert_eq!(candidates(&asked("a.b."), &config), ["a.b"]);
    }
}
