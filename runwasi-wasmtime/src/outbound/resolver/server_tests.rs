//! Lookups against simulated name servers on port 53 of private networks.
//!
//! These tests need root, because they create network namespaces.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use runwasi_core::{
    bundle::config::Config,
    network::{Entrance, Network},
    rootfs::Rootfs,
    testing::BundleBuilder,
};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, RData},
};
use tempfile::TempDir;
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::{LookupError, Resolver};
use crate::outbound::policy::{OutboundRules, Policy};

/// Behavior of a simulated server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behavior {
    /// Answers the query.
    Answer,
    /// Cuts its answers by UDP in the middle of a record.
    Truncate,
    /// Answers with `SERVFAIL`.
    Fail,
    /// Sends forged datagrams before its answer.
    Forge,
    /// Never answers by UDP.
    Silent,
}

/// A private network and a container's files in it. Servers are added by [`Scene::serve`].
struct Scene {
    network: Network,
    directory: TempDir,
    rootfs: Arc<Rootfs>,
    rules: Arc<OutboundRules>,
    resolver: Resolver,
}

impl Scene {
    fn new(hosts: &str, resolv_conf: &str, policy: &str) -> Self {
        let network = Network::with_process(Entrance::New)
            .expect("a network namespace; these tests run as root");
        let directory = tempfile::tempdir().unwrap();
        let bundle = directory.path().join("bundle");
        let files = BundleBuilder::new(&bundle, &["/x"])
            .file("/etc/hosts", hosts)
            .file("/etc/resolv.conf", resolv_conf);
        files.write().unwrap();
        let rootfs =
            Arc::new(Rootfs::mount(&bundle, &Config::load(&bundle).unwrap(), &[]).unwrap());
        let rules = Arc::new(OutboundRules::new(Policy::parse(Some(policy)).unwrap()));
        let resolver = Resolver::new(network.clone(), rules.clone(), &rootfs);
        Self { network, directory, rootfs, rules, resolver }
    }

    /// Starts a server at `address`. Returns its number of queries by UDP.
    fn serve(&self, address: &'static str, behavior: Behavior) -> Arc<AtomicUsize> {
        let asked = Arc::new(AtomicUsize::new(0));
        let bind = move || {
            (UdpSocket::bind((address, 53)).unwrap(), TcpListener::bind((address, 53)).unwrap())
        };
        // Bound before this returns, so that no query comes too early.
        let (udp, tcp) = self.network.run(bind).unwrap();
        let count = asked.clone();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                // Counted before the answer goes out: a test reads the number after its lookup.
                count.fetch_add(1, Ordering::Relaxed);
                if behavior == Behavior::Forge {
                    for wrong in forgeries(&buffer[..length]) {
                        udp.send_to(&wrong, from).unwrap();
                    }
                }
                if behavior != Behavior::Silent {
                    udp.send_to(&answer(&buffer[..length], behavior), from).unwrap();
                }
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut question).unwrap();
                let answer = answer(&question, Behavior::Answer);
                stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        asked
    }

    async fn look_up(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let found = self.resolver.look_up(name).await?;
        Ok(found.iter().map(IpAddr::to_string).collect())
    }
}

/// Answer of a server. All servers have the same zone.
fn answer(question: &[u8], behavior: Behavior) -> Vec<u8> {
    let question = Packet::parse(question).unwrap();
    let mut packet = Packet::new_reply(question.id());
    packet.questions = question.questions.clone();
    let asked = &question.questions[0];
    let name = asked.qname.to_string();
    let mut give = |rdata| {
        packet.answers.push(ResourceRecord::new(
            Name::new(&name).unwrap().into_owned(),
            CLASS::IN,
            60,
            rdata,
        ))
    };
    match (name.as_str(), asked.qtype) {
        _ if behavior == Behavior::Fail => *packet.rcode_mut() = RCODE::ServerFailure,
        ("one.test" | "one.corp.test", QTYPE::TYPE(TYPE::A)) => {
            give(RData::A(A { address: 0xc000_0201 }))
        }
        _ if name.ends_with(".failing.test") => *packet.rcode_mut() = RCODE::ServerFailure,
        _ if name.ends_with(".refused.test") => *packet.rcode_mut() = RCODE::Refused,
        ("one.test", QTYPE::TYPE(TYPE::AAAA)) => give(RData::AAAA(AAAA { address: 1 })),
        ("many.test", QTYPE::TYPE(TYPE::A)) => {
            // 99 records need more than the 512 bytes of a datagram.
            (1..100).for_each(|n| give(RData::A(A { address: 0xc633_6400 + n })))
        }
        // These names exist, without an address of the queried family.
        ("one.corp.test" | "many.test" | "empty.test", _) => {}
        _ => *packet.rcode_mut() = RCODE::NameError,
    }
    if behavior == Behavior::Truncate {
        packet.set_flags(PacketFlag::TRUNCATION);
    }
    let mut message = packet.build_bytes_vec_compressed().unwrap();
    if behavior == Behavior::Truncate {
        // Behind the question, which has 15 bytes.
        message.truncate(12 + 15 + 3);
    }
    message
}

/// Datagrams of an attacker: wrong id, wrong name, a cut answer, and the query itself.
fn forgeries(question: &[u8]) -> [Vec<u8>; 4] {
    let truth = answer(question, Behavior::Answer);
    let mut other_id = truth.clone();
    other_id[0] ^= 1;
    let mut other_name = truth.clone();
    // The first letter of the queried name: 12 bytes of header and a length come before it.
    other_name[13] = b'x';
    [other_id, other_name, truth[..11].to_vec(), question.to_vec()]
}

/// `resolv.conf` with one server.
const LOCAL: &str = "nameserver 127.0.0.1\noptions timeout:1\n";

#[tokio::test]
async fn a_server_of_the_containers_network_is_queried_for_both_families() {
    let scene = Scene::new("", LOCAL, "all");
    scene.serve("127.0.0.1", Behavior::Answer);
    // Of both addresses only ::1 has a route, so it comes first.
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["::1".into(), "192.0.2.1".into()]));
    assert_eq!(scene.look_up("ONE.test.").await, Ok(vec!["::1".into(), "192.0.2.1".into()]));
    assert_eq!(scene.look_up("none.test").await, Err(LookupError::NoAddress));
    assert_eq!(scene.look_up("empty.test").await, Err(LookupError::NoAddress));
}

#[tokio::test]
async fn hosts_comes_first_and_is_read_at_every_lookup() {
    let scene = Scene::new("192.0.2.77 one.test\n", LOCAL, "all");
    let asked = scene.serve("127.0.0.1", Behavior::Answer);
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["192.0.2.77".into()]));
    assert_eq!(scene.look_up("localhost").await.map(|found| found.len()), Ok(2));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    std::fs::write(scene.directory.path().join("bundle/rootfs/etc/hosts"), "192.0.2.78 one.test")
        .unwrap();
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["192.0.2.78".into()]));
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn log_tells_once_of_a_name_with_too_many_addresses() {
    let hosts: String = (0..300_u32).map(|n| format!("{} a\n", IpAddr::V4(n.into()))).collect();
    let scene = Scene::new(&hosts, LOCAL, "all");
    let warnings = Warnings::default();
    // Of this thread, on which all of a lookup runs that may tell.
    let _counting = tracing::subscriber::set_default(warnings.clone());
    for _ in 0..3 {
        assert_eq!(scene.look_up("a").await.map(|found| found.len()), Ok(256));
    }
    assert_eq!(warnings.0.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn mapped_addresses_are_those_of_ipv4() {
    let hosts = "::ffff:192.0.2.1 one\n192.0.2.1 one\n::ffff:192.0.2.2 one\n";
    let scene = Scene::new(hosts, LOCAL, "all");
    assert_eq!(scene.look_up("one").await, Ok(vec!["192.0.2.1".into(), "192.0.2.2".into()]));
    assert_eq!(scene.look_up("::ffff:192.0.2.1").await, Ok(vec!["192.0.2.1".into()]));
    assert_eq!(scene.look_up("[::ffff:192.0.2.1]").await, Ok(vec!["192.0.2.1".into()]));
}

#[tokio::test]
async fn a_truncated_answer_is_repeated_by_tcp() {
    let scene = Scene::new("", LOCAL, "all");
    scene.serve("127.0.0.1", Behavior::Truncate);
    assert_eq!(scene.look_up("many.test").await.map(|found| found.len()), Ok(99));
}

#[tokio::test]
async fn forged_datagrams_are_ignored() {
    let scene = Scene::new("", LOCAL, "all");
    scene.serve("127.0.0.1", Behavior::Forge);
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["::1".into(), "192.0.2.1".into()]));
}

#[tokio::test]
async fn the_next_server_is_queried_if_one_is_missing_fails_or_is_silent() {
    let resolv_conf = "nameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver 127.0.0.1\n\
                       options timeout:1 attempts:1\n";
    let scene = Scene::new("", resolv_conf, "all");
    scene.serve("127.0.0.1", Behavior::Answer);
    assert_eq!(scene.look_up("one.test").await.map(|found| found.len()), Ok(2), "two are away");
    let failing = scene.serve("127.0.0.2", Behavior::Fail);
    let silent = scene.serve("127.0.0.3", Behavior::Silent);
    let start = Instant::now();
    assert_eq!(scene.look_up("one.test").await.map(|found| found.len()), Ok(2));
    // The silent server costs its timeout. Two queries each: one for each family.
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((failing.load(Ordering::Relaxed), silent.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test]
async fn without_an_answer_the_failure_is_temporary() {
    let scene = Scene::new("", LOCAL, "all");
    assert_eq!(scene.look_up("one.test").await, Err(LookupError::Temporary), "nobody is there");
    scene.serve("127.0.0.1", Behavior::Fail);
    assert_eq!(scene.look_up("one.test").await, Err(LookupError::Temporary));
}

#[tokio::test]
async fn search_domains_are_tried_and_rotating_servers_take_turns() {
    let resolv_conf =
        "search corp.test\nnameserver 127.0.0.1\nnameserver 127.0.0.2\noptions rotate timeout:1\n";
    let scene = Scene::new("", resolv_conf, "all");
    let first = scene.serve("127.0.0.1", Behavior::Answer);
    let second = scene.serve("127.0.0.2", Behavior::Answer);
    for _ in 0..4 {
        assert_eq!(scene.look_up("one").await, Ok(vec!["192.0.2.1".into()]));
    }
    // Two lookups begin with each server. A lookup sends a query for each family.
    assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (4, 4));
    assert_eq!(scene.look_up("one.").await, Err(LookupError::NoAddress), "absolute");
}

#[tokio::test]
async fn search_domain_that_fails_or_refuses_does_not_end_the_lookup() {
    let domains = ["failing.test", "refused.test", "failing.test refused.test"];
    for domains in domains {
        let resolv_conf = format!("search {domains} corp.test\n{LOCAL}options ndots:2\n");
        let scene = Scene::new("", &resolv_conf, "all");
        let asked = scene.serve("127.0.0.1", Behavior::Answer);
        assert_eq!(scene.look_up("one").await, Ok(vec!["192.0.2.1".into()]), "{domains}");
        // The name as it is comes last.
        assert_eq!(scene.look_up("one.test").await.map(|found| found.len()), Ok(2), "{domains}");
        assert_eq!(scene.look_up("none").await, Err(LookupError::NoAddress), "{domains}");
        // Two families, two rounds of servers that fail, one for each candidate.
        let failing = domains.split(' ').count();
        let each = |candidates: usize| 2 * (2 * failing + candidates);
        let expected = each(1) + each(2) + each(2);
        assert_eq!(asked.load(Ordering::Relaxed), expected, "{domains}");
    }
}

#[tokio::test]
async fn a_list_allows_lookups_of_its_names_and_connections_to_their_addresses() {
    let scene = Scene::new(
        "192.0.2.50 inside\n",
        &format!("search corp.test\n{LOCAL}"),
        "one.test:80,*.corp.test",
    );
    let asked = scene.serve("127.0.0.1", Behavior::Answer);
    scene.resolver.begin().await.unwrap();
    let to = |address: &str| address.parse().unwrap();
    assert_eq!(
        scene.look_up("none.test").await,
        Err(LookupError::NoAddress),
        "none.test.corp.test might be meant"
    );
    assert_eq!(scene.look_up("none.test.").await, Err(LookupError::Denied));
    let before = asked.load(Ordering::Relaxed);
    assert!(!scene.rules.allows(to("192.0.2.1:80")));
    assert_eq!(scene.look_up("one.test.").await.map(|found| found.len()), Ok(2));
    assert!(asked.load(Ordering::Relaxed) > before);
    assert!(scene.rules.allows(to("192.0.2.1:80")) && !scene.rules.allows(to("192.0.2.1:81")));
    assert_eq!(scene.look_up("one").await, Ok(vec!["192.0.2.1".into()]), "one.corp.test");
    // `*.corp.test` has no port.
    assert!(scene.rules.allows(to("192.0.2.1:81")));
}

#[tokio::test]
async fn a_guest_under_a_list_cannot_redefine_names() {
    let scene = Scene::new("192.0.2.1 one.test\n", LOCAL, "one.test");
    // The files are read here. The guest changes them afterwards.
    scene.resolver.begin().await.unwrap();
    std::fs::write(scene.directory.path().join("bundle/rootfs/etc/hosts"), "10.0.0.1 one.test")
        .unwrap();
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["192.0.2.1".into()]));
    assert!(!scene.rules.allows("10.0.0.1:80".parse().unwrap()));
}

#[tokio::test]
async fn the_policy_none_denies_names_and_queries_no_server() {
    let scene = Scene::new("192.0.2.1 one.test\n", LOCAL, "none");
    let asked = scene.serve("127.0.0.1", Behavior::Answer);
    assert_eq!(scene.look_up("one.test").await, Err(LookupError::Denied));
    assert_eq!(scene.look_up("localhost").await, Err(LookupError::Denied));
    assert_eq!(
        scene.look_up("192.0.2.1").await,
        Ok(vec!["192.0.2.1".into()]),
        "an address is not looked up"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_fifo_or_an_outward_link_counts_as_an_empty_file() {
    let scene = Scene::new("", LOCAL, "all");
    let etc = scene.directory.path().join("bundle/rootfs/etc");
    std::fs::remove_file(etc.join("hosts")).unwrap();
    // Opening a FIFO without a writer would block, were it not opened with `O_NONBLOCK`.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        etc.join("hosts"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    std::fs::remove_file(etc.join("resolv.conf")).unwrap();
    std::fs::write(scene.directory.path().join("outside"), "nameserver 192.0.2.1\n").unwrap();
    // The link would leave the root file system. Without the file the server is 127.0.0.1.
    std::os::unix::fs::symlink("../../../outside", etc.join("resolv.conf")).unwrap();
    scene.serve("127.0.0.1", Behavior::Answer);
    assert_eq!(
        scene.look_up("one.test").await.map(|found| found.len()),
        Ok(2),
        "the local server is asked"
    );
}

#[tokio::test]
async fn lookups_fail_after_the_last_process() {
    let mut scene = Scene::new("", LOCAL, "all");
    let other = Scene::new("", LOCAL, "all");
    // Drops the only strong reference to the root file system of `scene`.
    scene.rootfs = other.rootfs.clone();
    assert_eq!(scene.look_up("one.test").await, Err(LookupError::Permanent));
}
