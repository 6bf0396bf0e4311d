//! Names by the container's own files; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::Containers;

use crate::fixture::{Guest, Network, P2, P3};
use crate::servers::{serve, serve_names};

const RESOLV_CONF: &str = "search corp.test\nnameserver 127.0.0.1\noptions timeout:2\n";

pub(crate) fn name_servers_of_the_container_are_asked_in_its_network(
    c: &mut Containers,
) -> Result<()> {
    let network = Network::new(c, "net")?;
    serve_names(&network.namespace, "web.corp.test")?;
    let ports = serve(&network.namespace, "found")?;
    let mut guest = Guest::new(c, Some(&network))?
        .file("/etc/resolv.conf", "")?
        .mounted("/etc/resolv.conf", RESOLV_CONF)?;
    for name in ["web", "web.corp.test", "WEB.corp.test."] {
        let said = guest.prints(c, &["resolve", name])?;
        ensure!(said == "127.0.0.1\n", "{name}: {said}");
    }
    let mut guest = guest.of(P3);
    let said = guest.prints(c, &["resolve", "web"])?;
    ensure!(said == "127.0.0.1\n", "{said}");
    let mut guest = guest.of(P2);
    guest.fails_with(c, &["resolve", "db.corp.test"], "name-unresolvable")?;
    let said = guest.prints(c, &["http-get", &format!("http://web:{}/", ports.http)])?;
    ensure!(said == "200\nfound", "{said}");
    let said = guest.prints(c, &["tcp-connect", "web.corp.test", &ports.tcp, "hello "])?;
    ensure!(said == "hello found\n", "{said}");
    // The same files in a network where nobody answers.
    let silent = Network::new(c, "silent")?;
    let mut elsewhere = Guest::new(c, Some(&silent))?.file("/etc/resolv.conf", RESOLV_CONF)?;
    elsewhere.fails_with(c, &["resolve", "web"], "temporary-resolver-failure")?;
    drop((network, silent));
    c.fixture.becomes_clean()
}

pub(crate) fn search_domain_whose_server_fails_is_passed_over(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    serve_names(&network.namespace, "web.corp.test")?;
    let search = format!("search failing.test refused.test\n{RESOLV_CONF}");
    let search = search.replacen("\nsearch", "", 1);
    let mut guest = Guest::new(c, Some(&network))?.file("/etc/resolv.conf", &search)?;
    let said = guest.prints(c, &["resolve", "web"])?;
    ensure!(said == "127.0.0.1\n", "{said}");
    // The answer for the name as it is decides.
    guest.fails_with(c, &["resolve", "db"], "name-unresolvable")?;
    drop(network);
    c.fixture.becomes_clean()
}

pub(crate) fn hosts_of_the_container_win(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    serve_names(&network.namespace, "web.test")?;
    let guest = Guest::new(c, Some(&network))?
        .file("/etc/resolv.conf", RESOLV_CONF)?
        .file("/etc/hosts", "")?;
    let mut guest =
        guest.mounted("/etc/hosts", "127.0.0.7 web.test other.test\n::1 other.test\n")?;
    ensure!(guest.prints(c, &["resolve", "web.test"])? == "127.0.0.7\n");
    let said = guest.prints(c, &["resolve", "other.test"])?;
    ensure!(said == "::1\n127.0.0.7\n", "{said}");
    drop(network);
    c.fixture.becomes_clean()
}

/// As `getaddrinfo(3)` has it: the private address of IPv6 is none to reach the Internet from.
pub(crate) fn addresses_are_in_the_order_of_libc(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    for command in [
        "link add d0 type veth peer name d1",
        "link set d0 up",
        "link set d1 up",
        "addr add 10.7.0.2/24 dev d0",
        "addr add fd00:7::2/64 dev d0 nodad",
        "route add default via 10.7.0.1",
        "-6 route add default via fd00:7::1 dev d0",
    ] {
        network.namespace.ip(&command.split(' ').collect::<Vec<_>>())?;
    }
    let hosts = "2001:db8::1 far\n192.0.2.1 far\n10.96.0.1 near\nfd00::1 near\n\
                 ::ffff:192.0.2.7 mapped\n";
    for program in [P2, P3] {
        let mut guest = Guest::new(c, Some(&network))?.of(program).file("/etc/hosts", hosts)?;
        for (name, expected) in [
            ("far", "192.0.2.1\n2001:db8::1\n"),
            ("near", "fd00::1\n10.96.0.1\n"),
            ("mapped", "192.0.2.7\n"),
        ] {
            let said = guest.prints(c, &["resolve", name])?;
            ensure!(said == expected, "{program}, {name}: {said}");
        }
    }
    drop(network);
    c.fixture.becomes_clean()
}
