//! Lookups against name servers that play parts, in private networks where these have the port 53. Needs root, as making a
//! network namespace does.

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

use super::{LookupError, Resolver};
use crate::outbound::policy::{OutboundRules, Policy};

/// What a server does with a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Answers it.
    Know,
    /// Says by UDP that the answer does not fit.
    Truncate,
    /// Says that it cannot.
    Fail,
    /// Sends datagrams that are no answers first.
    Confuse,
    /// Says nothing.
    Silent,
}

/// One network, with the container's files and the servers that they name.
struct Scene {
    network: Network,
    directory: TempDir,
    rootfs: Arc<Rootfs>,
    rules: Arc<OutboundRules>,
    resolver: Resolver,
}

impl Scene {
    fn new(hosts: &str, resolv_conf: &str, policy: &str) -> Self {
        let network =
            Network::parked(Entrance::New).expect("a network namespace; these tests run as root");
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

    /// A server at this address; the answer counts the questions it was asked.
    fn serve(&self, address: &'static str, part: Part) -> Arc<AtomicUsize> {
        let asked = Arc::new(AtomicUsize::new(0));
        let bind = move || {
            (UdpSocket::bind((address, 53)).unwrap(), TcpListener::bind((address, 53)).unwrap())
        };
        let (udp, tcp) = self.network.run(bind).unwrap();
        let count = asked.clone();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::Relaxed);
                if part == Part::Confuse {
                    for wrong in confusion(&buffer[..length]) {
                        udp.send_to(&wrong, from).unwrap();
                    }
                }
                if part != Part::Silent {
                    udp.send_to(&answer(&buffer[..length], part), from).unwrap();
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
                let answer = answer(&question, Part::Know);
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

/// The zone that all servers know.
fn answer(question: &[u8], part: Part) -> Vec<u8> {
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
        _ if part == Part::Fail => *packet.rcode_mut() = RCODE::ServerFailure,
        _ if part == Part::Truncate => packet.set_flags(PacketFlag::TRUNCATION),
        ("one.test" | "one.corp.test", QTYPE::TYPE(TYPE::A)) => {
            give(RData::A(A { address: 0xc000_0201 }))
        }
        ("one.test", QTYPE::TYPE(TYPE::AAAA)) => give(RData::AAAA(AAAA { address: 1 })),
        ("many.test", QTYPE::TYPE(TYPE::A)) => {
            (1..100).for_each(|n| give(RData::A(A { address: 0xc633_6400 + n })))
        }
        ("one.corp.test" | "many.test" | "empty.test", _) => {}
        _ => *packet.rcode_mut() = RCODE::NameError,
    }
    packet.build_bytes_vec_compressed().unwrap()
}

/// What somebody sends who guesses.
fn confusion(question: &[u8]) -> [Vec<u8>; 4] {
    let truth = answer(question, Part::Know);
    let mut other_id = truth.clone();
    other_id[0] ^= 1;
    let mut other_name = truth.clone();
    // The first letter of the name asked for.
    other_name[13] = b'x';
    [other_id, other_name, truth[..11].to_vec(), question.to_vec()]
}

const LOCAL: &str = "nameserver 127.0.0.1\noptions timeout:1\n";

#[tokio::test]
async fn a_name_server_of_the_containers_network_is_asked_for_both_families() {
    let scene = Scene::new("", LOCAL, "all");
    scene.serve("127.0.0.1", Part::Know);
    // There is a way to ::1 only.
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["::1".into(), "192.0.2.1".into()]));
    assert_eq!(scene.look_up("ONE.test.").await, Ok(vec!["::1".into(), "192.0.2.1".into()]));
    assert_eq!(scene.look_up("none.test").await, Err(LookupError::NoAddress));
    assert_eq!(scene.look_up("empty.test").await, Err(LookupError::NoAddress));
}

#[tokio::test]
async fn hosts_comes_first_and_is_read_at_every_lookup() {
    let scene = Scene::new("192.0.2.77 one.test\n", LOCAL, "all");
    let asked = scene.serve("127.0.0.1", Part::Know);
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["192.0.2.77".into()]));
    assert_eq!(scene.look_up("localhost").await.map(|found| found.len()), Ok(2));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    std::fs::write(scene.directory.path().join("bundle/rootfs/etc/hosts"), "192.0.2.78 one.test")
        .unwrap();
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["192.0.2.78".into()]));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_comes_by_tcp() {
    let scene = Scene::new("", LOCAL, "all");
    scene.serve("127.0.0.1", Part::Truncate);
    assert_eq!(scene.look_up("many.test").await.map(|found| found.len()), Ok(99));
}

#[tokio::test]
async fn datagrams_that_answer_something_else_are_ignored() {
    let scene = Scene::new("", LOCAL, "all");
    scene.serve("127.0.0.1", Part::Confuse);
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["::1".into(), "192.0.2.1".into()]));
}

#[tokio::test]
async fn the_next_server_is_asked_if_one_fails_is_silent_or_away() {
    let resolv_conf = "nameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
    let scene = Scene::new("", resolv_conf, "all");
    scene.serve("127.0.0.1", Part::Know);
    assert_eq!(scene.look_up("one.test").await.map(|found| found.len()), Ok(2), "two are away");
    let failing = scene.serve("127.0.0.2", Part::Fail);
    let silent = scene.serve("127.0.0.3", Part::Silent);
    let start = Instant::now();
    assert_eq!(scene.look_up("one.test").await.map(|found| found.len()), Ok(2));
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((failing.load(Ordering::Relaxed), silent.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test]
async fn without_an_answer_the_failure_is_temporary() {
    let scene = Scene::new("", LOCAL, "all");
    assert_eq!(scene.look_up("one.test").await, Err(LookupError::Temporary), "nobody is there");
    scene.serve("127.0.0.1", Part::Fail);
    assert_eq!(scene.look_up("one.test").await, Err(LookupError::Temporary));
}

#[tokio::test]
async fn search_domains_are_tried_and_rotating_servers_take_turns() {
    let resolv_conf =
        "search corp.test\nnameserver 127.0.0.1\nnameserver 127.0.0.2\noptions rotate timeout:1\n";
    let scene = Scene::new("", resolv_conf, "all");
    let (first, second) =
        (scene.serve("127.0.0.1", Part::Know), scene.serve("127.0.0.2", Part::Know));
    for _ in 0..4 {
        assert_eq!(scene.look_up("one").await, Ok(vec!["192.0.2.1".into()]));
    }
    assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (4, 4));
    assert_eq!(scene.look_up("one.").await, Err(LookupError::NoAddress), "absolute");
}

#[tokio::test]
async fn a_list_lets_listed_names_be_looked_up_and_opens_what_they_give() {
    let scene = Scene::new(
        "192.0.2.50 inside\n",
        &format!("search corp.test\n{LOCAL}"),
        "one.test:80,*.corp.test",
    );
    let asked = scene.serve("127.0.0.1", Part::Know);
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
    assert!(scene.rules.allows(to("192.0.2.1:81")));
}

#[tokio::test]
async fn a_guest_under_a_list_cannot_give_names_a_meaning() {
    let scene = Scene::new("192.0.2.1 one.test\n", LOCAL, "one.test");
    scene.resolver.begin().await.unwrap();
    std::fs::write(scene.directory.path().join("bundle/rootfs/etc/hosts"), "10.0.0.1 one.test")
        .unwrap();
    assert_eq!(scene.look_up("one.test").await, Ok(vec!["192.0.2.1".into()]));
    assert!(!scene.rules.allows("10.0.0.1:80".parse().unwrap()));
}

#[tokio::test]
async fn none_asks_nobody() {
    let scene = Scene::new("192.0.2.1 one.test\n", LOCAL, "none");
    let asked = scene.serve("127.0.0.1", Part::Know);
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
async fn fifos_and_links_in_the_place_of_the_files_say_nothing() {
    let scene = Scene::new("", LOCAL, "all");
    let etc = scene.directory.path().join("bundle/rootfs/etc");
    std::fs::remove_file(etc.join("hosts")).unwrap();
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
    std::os::unix::fs::symlink("../../../outside", etc.join("resolv.conf")).unwrap();
    scene.serve("127.0.0.1", Part::Know);
    assert_eq!(
        scene.look_up("one.test").await.map(|found| found.len()),
        Ok(2),
        "the local server is asked"
    );
}

#[tokio::test]
async fn after_the_last_process_there_are_no_names() {
    let mut scene = Scene::new("", LOCAL, "all");
    let other = Scene::new("", LOCAL, "all");
    scene.rootfs = other.rootfs.clone();
    assert_eq!(scene.look_up("one.test").await, Err(LookupError::Permanent));
}
