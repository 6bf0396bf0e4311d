//! Name resolution, with the results that libc in the container would give.
//!
//! | module | one thing |
//! |---|---|
//! | `files` | the container's `/etc/hosts` and `/etc/resolv.conf` |
//! | `dns`, `message` | one query to one name server, and its messages |
//! | `order` | which address to try first |
//!
//! An address is its own result. `/etc/hosts` comes before the name servers. `localhost` and names
//! below it are the loopback addresses.
//!
//! The files are read at every lookup. If the policy goes by names, they are read once, before any
//! code of the container runs: a guest that could redefine names would choose its own list.

mod dns;
mod files;
mod message;
mod order;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use runwasi_core::{blocking::blocking, network::Network, rootfs::Rootfs};
use tokio::sync::{OnceCell, Semaphore};
use url::Host;

use self::{
    dns::Answer,
    files::{HOSTS, MAX_ADDRESSES, NameFiles, ResolverConfig},
    message::Family,
};
use super::policy::OutboundRules;
use crate::turns;

/// Largest number of concurrent lookups of a container.
const AT_ONCE: usize = 32;
/// Addresses that are looked at in one turn.
const ROUTES: usize = 64;
/// Most bytes of a text to look up: some microseconds of its translation. Four times as many as a
/// name may have in DNS, as it may have letters beyond ASCII.
const LONGEST: usize = 1024;

/// Error of a lookup. The variants are those that WASI's error codes tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The policy does not allow the lookup.
    #[error("the container may not look this name up")]
    Denied,
    /// The text is not a name.
    #[error("is no name")]
    Invalid,
    /// The files and servers have no address for the name.
    #[error("has no address")]
    NoAddress,
    /// No name server has answered.
    #[error("no name server has an answer now")]
    Temporary,
    /// The host cannot look up names.
    #[error("names cannot be looked up")]
    Permanent,
}

/// Why the servers have given no answer to one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// None of them has answered, or can be reached.
    Silent,
    /// One has said that it has failed or refuses (`SERVFAIL`, `REFUSED`).
    Failed,
}

/// Resolver of a container. Shared by its processes.
#[derive(Debug)]
pub(crate) struct Resolver {
    network: Network,
    rules: Arc<OutboundRules>,
    rootfs: Weak<Rootfs>,
    /// The files, if the policy goes by names.
    first: OnceCell<Arc<NameFiles>>,
    /// Counter that selects the first server of a lookup, with the option `rotate`.
    turn: AtomicUsize,
    /// The log tells of a name with too many addresses.
    told: AtomicBool,
    /// Limits the lookups: each holds up to two sockets of the host. Further ones wait.
    at_once: Semaphore,
}

impl Resolver {
    pub(crate) fn new(network: Network, rules: Arc<OutboundRules>, rootfs: &Arc<Rootfs>) -> Self {
        // Weak: the file systems go with the container's last process. The container's extensions
        // hold this resolver for longer.
        let rootfs = Arc::downgrade(rootfs);
        Self {
            network,
            rules,
            rootfs,
            first: OnceCell::new(),
            turn: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    /// Reads the files if the policy goes by names. Has to be called before code of the container
    /// runs.
    pub(crate) async fn begin(&self) -> Result<(), LookupError> {
        if self.rules.goes_by_names() { self.files().await.map(drop) } else { Ok(()) }
    }

    /// Looks up `name`: its addresses, each once, from the one to try first to the last.
    /// IPv4-mapped ones are those of IPv4.
    pub(crate) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let name = match self::name(name)? {
            Name::Address(address) => return Ok(vec![address.to_canonical()]),
            Name::Name(name) => name,
        };
        // An error would mean a closed semaphore, and this one is never closed.
        let _permit = self.at_once.acquire().await;
        let files = self.files_for(&name).await?;
        let found = self.find(&name, &files).await;
        tracing::debug!(name = name.text, ?found, "looked up");
        Ok(self.sorted(canonical(found?)).await)
    }

    /// Reads the files. Fails if the policy denies all names that servers would be asked for.
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

    /// Reads the files on the blocking pool.
    async fn read(&self) -> Result<Arc<NameFiles>, LookupError> {
        // An error: the last process of the container is ending.
        let rootfs = self.rootfs.upgrade().ok_or(LookupError::Permanent)?;
        let read = move || Ok(Arc::new(NameFiles::read(&rootfs)));
        blocking(read, |_| LookupError::Permanent).await
    }

    /// Looks up a name in `/etc/hosts`, then at the name servers.
    async fn find(&self, name: &AskedName, files: &NameFiles) -> Result<Vec<IpAddr>, LookupError> {
        let (hosts, has_more) = files.hosts(&name.text).await;
        if has_more {
            self.tell_once(&name.text);
        }
        if !hosts.is_empty() {
            self.learn(name, &name.text, &hosts);
            return Ok(hosts);
        }
        // RFC 6761: a query for these names must not leave the host.
        if name.text == "localhost" || name.text.ends_with(".localhost") {
            let loopback = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            self.learn(name, &name.text, &loopback);
            return Ok(loopback);
        }
        let mut verdict = Verdict::default();
        for candidate in candidates(name, &files.resolver)
            .iter()
            .filter(|candidate| self.may_ask(name, candidate))
        {
            match self.ask_servers(candidate, &files.resolver).await {
                Ok(found) if !found.is_empty() => {
                    self.learn(name, candidate, &found);
                    return Ok(found);
                }
                // Another candidate would only wait for the same servers.
                Err(Unanswered::Silent) => return Err(LookupError::Temporary),
                answer => verdict.add(answer.is_err(), *candidate == name.text),
            }
        }
        Err(verdict.error())
    }

    /// Tells the log of a name with too many addresses.
    // Of one alone: the container has the file, and may look the name up without an end.
    fn tell_once(&self, name: &str) {
        // Relaxed: no other data depends on it.
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(name, limit = MAX_ADDRESSES, "too many addresses in {HOSTS}");
        }
    }

    /// Checks the policy for the name of the guest and for the candidate.
    fn may_ask(&self, name: &AskedName, candidate: &str) -> bool {
        // A listed name may be searched for in every domain of the container's `resolv.conf`.
        self.rules.allows_lookup(&name.text) || self.rules.allows_lookup(candidate)
    }

    /// Opens the addresses for the items of the policy that list the name.
    fn learn(&self, name: &AskedName, candidate: &str, addresses: &[IpAddr]) {
        self.rules.learn(&name.text, addresses);
        if candidate != name.text {
            self.rules.learn(candidate, addresses);
        }
    }

    /// Queries both families concurrently.
    async fn ask_servers(
        &self,
        name: &str,
        config: &ResolverConfig,
    ) -> Result<Vec<IpAddr>, Unanswered> {
        // Relaxed: the counter only spreads the load, and no other data depends on it.
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
            // A failure of one family does not discard the addresses of the other.
            (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.is_empty() => Ok(some),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Queries one server after the other until one has an answer.
    async fn ask_in_turn(
        &self,
        name: &str,
        family: Family,
        config: &ResolverConfig,
        first: usize,
    ) -> Result<Vec<IpAddr>, Unanswered> {
        let servers = config.servers.len();
        let mut why = Unanswered::Silent;
        for n in 0..servers * config.attempts as usize {
            let server = &config.servers[(first + n) % servers];
            match dns::ask(&self.network, server, name, family, config).await {
                Ok(Answer::Addresses(mut found)) => {
                    found.truncate(MAX_ADDRESSES);
                    return Ok(found);
                }
                // Final: another server would say the same, or refuse the name as well.
                Ok(Answer::NoName) | Err(dns::DnsError::BadName) => return Ok(Vec::new()),
                Err(error) => {
                    if matches!(error, dns::DnsError::Refused(_)) {
                        why = Unanswered::Failed;
                    }
                    tracing::debug!(name, ?server, %error, "asking the next name server");
                }
            }
        }
        Err(why)
    }

    /// Sorts addresses by what the routes of the sandbox's network say.
    async fn sorted(&self, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        // Many programs try only the first address.
        if addresses.len() < 2 {
            return addresses;
        }
        let mut sources = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(ROUTES) {
            let asked = part.to_vec();
            // Inside the namespace: its routes decide, not those of the host.
            match self.network.run(move || order::sources(&asked)) {
                Ok(found) => sources.extend(found),
                // The order stays as it is: every address may still be tried.
                Err(_) => return addresses,
            }
            turns::end().await;
        }
        order::sorted(addresses, sources)
    }
}

/// The addresses without the form for IPv4 that no socket of a guest takes, each once.
fn canonical(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    let addresses = addresses.iter().map(IpAddr::to_canonical);
    addresses.filter(|address| seen.insert(*address)).collect()
}

/// Outcome of a lookup whose candidates have no address.
// As glibc has it: a search domain that fails does not end the lookup, and the answer for the name
// as it is decides.
#[derive(Default)]
struct Verdict {
    failed: bool,
    /// The answer for the name as it is, once it was asked for: true if the servers failed.
    as_it_is: Option<bool>,
}

impl Verdict {
    fn add(&mut self, failed: bool, as_it_is: bool) {
        self.failed |= failed;
        if as_it_is {
            self.as_it_is = Some(failed);
        }
    }

    fn error(&self) -> LookupError {
        match self.as_it_is.unwrap_or(self.failed) {
            true => LookupError::Temporary,
            false => LookupError::NoAddress,
        }
    }
}

/// Text that a guest looks up.
enum Name {
    Address(IpAddr),
    Name(AskedName),
}

/// Valid name in its normal form.
struct AskedName {
    /// In lower case and without a dot at its end.
    text: String,
    /// It had a dot at its end: no search domain is appended.
    absolute: bool,
}

/// Parses a name or an address.
fn name(text: &str) -> Result<Name, LookupError> {
    // Before the translation, which takes time by the length of the text.
    if text.len() > LONGEST {
        return Err(LookupError::Invalid);
    }
    if let Ok(address) = text.parse() {
        return Ok(Name::Address(address));
    }
    // As a host of a URL: it translates letters beyond ASCII to Punycode and takes numbers such as
    // `0x7f.1` for addresses.
    let text = match Host::parse(text).map_err(|_| LookupError::Invalid)? {
        Host::Ipv4(address) => return Ok(Name::Address(address.into())),
        Host::Ipv6(address) => return Ok(Name::Address(address.into())),
        Host::Domain(text) => text,
    };
    let (text, absolute) = match text.strip_suffix('.') {
        Some(text) => (text.to_owned(), true),
        None => (text, false),
    };
    // The limits of DNS for a label and a name (RFC 1035).
    let fits = |label: &str| !label.is_empty() && label.len() <= 63;
    if text.len() > 253 || !text.split('.').all(fits) {
        return Err(LookupError::Invalid);
    }
    Ok(Name::Name(AskedName { text: text.to_ascii_lowercase(), absolute }))
}

/// Names to query, in this order.
fn candidates(name: &AskedName, config: &ResolverConfig) -> Vec<String> {
    let as_it_is = [name.text.clone()];
    if name.absolute {
        return as_it_is.into();
    }
    let searched = config.search.iter().map(|domain| format!("{}.{domain}", name.text));
    // `ndots` of `resolv.conf(5)`: a name with fewer dots is likely to be meant in a search domain.
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
    fn an_address_is_its_own_result() {
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
    fn names_are_normalized_and_other_texts_are_invalid() {
        assert_eq!(asked("WWW.Example.COM.").text, "www.example.com");
        assert!(asked("a.test.").absolute && !asked("a.test").absolute);
        assert_eq!(asked("bücher.test").text, "xn--bcher-kva.test");
        assert_eq!(asked("_dmarc.a_b.test").text, "_dmarc.a_b.test");
        for bad in ["", ".", "a..b", "a b", "a/b", "a:80", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(name(bad).err(), Some(LookupError::Invalid), "{bad:?}");
        }
    }

    #[test]
    fn long_text_is_refused_before_its_translation() {
        // Letters that the translation leaves out.
        let hyphens = |number| format!("a{}.test", "\u{ad}".repeat(number));
        assert_eq!(asked(&hyphens(500)).text, "a.test");
        assert_eq!(name(&hyphens(600)).err(), Some(LookupError::Invalid));
    }

    #[test]
    fn answer_for_the_name_as_it_is_decides() {
        let verdict = |answers: &[(bool, bool)]| {
            let mut verdict = Verdict::default();
            answers.iter().for_each(|(failed, as_it_is)| verdict.add(*failed, *as_it_is));
            verdict.error()
        };
        assert_eq!(verdict(&[(true, false), (false, true)]), LookupError::NoAddress);
        assert_eq!(verdict(&[(true, true), (false, false)]), LookupError::Temporary);
        assert_eq!(verdict(&[(true, false), (false, false)]), LookupError::Temporary);
        assert_eq!(verdict(&[]), LookupError::NoAddress);
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
