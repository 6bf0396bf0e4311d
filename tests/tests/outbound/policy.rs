//! What the annotation forbids; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, says};

use crate::fixture::{Guest, Network};
use crate::servers::{serve, serve_names};

const OUTBOUND: &str = "io.runwasi.network.outbound";
const HOSTS: &str = "127.0.0.1 one.test two.test\n";

pub(crate) fn none_lets_nothing_out(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    serve_names(&network.namespace, "web.test")?;
    let ports = serve(&network.namespace, "here")?;
    let mut guest =
        Guest::new(c, Some(&network))?.annotation(OUTBOUND, "none").file("/etc/hosts", HOSTS)?;
    guest.fails_with(c, &["tcp-connect", "127.0.0.1", &ports.tcp, "x"], "access-denied")?;
    guest.fails_with(c, &["udp-send", "127.0.0.1", &ports.udp, "x"], "access-denied")?;
    guest.fails_with(c, &["resolve", "one.test"], "access-denied")?;
    guest.fails_with(c, &["resolve", "web.test"], "access-denied")?;
    let url = format!("http://127.0.0.1:{}/", ports.http);
    guest.fails_with(c, &["http-get", &url], "DestinationIpProhibited")?;
    drop(network);
    c.fixture.becomes_clean()
}

pub(crate) fn list_lets_out_what_it_names(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let ports = serve(&network.namespace, "here")?;
    let list = format!("one.test:{}, 127.0.0.0/8:{}", ports.http, ports.tcp);
    let mut guest =
        Guest::new(c, Some(&network))?.annotation(OUTBOUND, &list).file("/etc/hosts", HOSTS)?;
    guest.prints(c, &["tcp-connect", "127.0.0.1", &ports.tcp, "x"])?;
    guest.fails_with(c, &["udp-send", "127.0.0.1", &ports.udp, "x"], "access-denied")?;
    let said = guest.prints(c, &["http-get", &format!("http://one.test:{}/", ports.http)])?;
    ensure!(said == "200\nhere", "{said}");
    guest.fails_with(
        c,
        &["http-get", &format!("http://two.test:{}/", ports.http)],
        "HttpRequestDenied",
    )?;
    // The address alone, before a name has led to it.
    guest.fails_with(
        c,
        &["http-get", &format!("http://127.0.0.1:{}/", ports.http)],
        "DestinationIpProhibited",
    )?;
    drop(network);
    c.fixture.becomes_clean()
}

pub(crate) fn mapped_addresses_of_a_list_are_those_of_ipv4(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let ports = serve(&network.namespace, "here")?;
    let list = format!("[::ffff:127.0.0.0/104]:{}", ports.tcp);
    let mut guest = Guest::new(c, Some(&network))?.annotation(OUTBOUND, &list);
    guest.prints(c, &["tcp-connect", "127.0.0.1", &ports.tcp, "x"])?;
    guest.fails_with(c, &["udp-send", "127.0.0.1", &ports.udp, "x"], "access-denied")?;
    drop(network);
    c.fixture.becomes_clean()
}

pub(crate) fn wrong_item_fails_the_create_with_its_name(c: &mut Containers) -> Result<()> {
    let mut guest = Guest::new(c, None)?.annotation(OUTBOUND, "example.com,10.0.0.1/8");
    let said = guest.run(c, &["cwd"])?.refused()?;
    says(&said, &[OUTBOUND, "10.0.0.1/8"], &["beyond its prefix"])?;
    c.fixture.becomes_clean()
}
