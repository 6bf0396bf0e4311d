//! Whom HTTPS trusts; the cases are listed in `main.rs`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, poll_until};

use crate::authority::Authority;
use crate::fixture::{Guest, Network, P2, P3};
use crate::servers::{serve_tls, serve_tls_counted};

pub(crate) fn https_trusts_the_systems_roots_and_nobody_else(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let trusted = Authority::of_tests()?;
    let right = serve_tls(&network.namespace, trusted.server("web.test")?, "secret")?;
    let stranger = Authority::new()?;
    let wrong = serve_tls(&network.namespace, stranger.server("web.test")?, "secret")?;
    let by_address = serve_tls(&network.namespace, trusted.server("127.0.0.1")?, "secret")?;
    let mut guest =
        Guest::new(c, Some(&network))?.file("/etc/hosts", "127.0.0.1 web.test other.test\n")?;
    let get = |host: &str, port: &str| format!("https://{host}:{port}/");
    for url in [get("web.test", &right), get("127.0.0.1", &by_address)] {
        let said = guest.prints(c, &["http-get", &url])?;
        ensure!(said == "200\nsecret", "{url}: {said}");
    }
    for url in [get("other.test", &right), get("web.test", &wrong), get("web.test", &by_address)] {
        guest.fails_with(c, &["http-get", &url], "TlsCertificateError")?;
    }
    drop(network);
    c.fixture.becomes_clean()
}

/// Where a container has its certificates.
#[derive(Clone, Copy, Debug)]
enum Place {
    Bundle,
    File,
    Directory,
}

/// A guest that knows `web.test` and has these root certificates in its image.
fn with_roots(
    c: &Containers,
    network: &Network,
    program: &'static str,
    place: Place,
    roots: &str,
) -> Result<Guest> {
    let guest = Guest::new(c, Some(network))?.of(program);
    let guest = guest.file("/etc/hosts", "127.0.0.1 web.test\n")?;
    match place {
        Place::Bundle => guest.file("/etc/ssl/certs/ca-certificates.crt", roots),
        Place::File => guest.file("/own/ca.pem", roots)?.env("SSL_CERT_FILE=/own/ca.pem"),
        Place::Directory => guest.file("/own/1234.0", roots)?.env("SSL_CERT_DIR=/none-here:/own"),
    }
}

pub(crate) fn https_trusts_the_containers_own_roots_instead(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let own = Authority::new()?;
    let right = serve_tls(&network.namespace, own.server("web.test")?, "own")?;
    let of_host = Authority::of_tests()?.server("web.test")?;
    let wrong = serve_tls(&network.namespace, of_host, "host")?;
    let roots = std::fs::read_to_string(own.file()?.path())?;
    for program in [P2, P3] {
        for place in [Place::Bundle, Place::File, Place::Directory] {
            let mut guest = with_roots(c, &network, program, place, &roots)?;
            if matches!(place, Place::Directory) {
                guest = guest.directory("/none-here")?;
            }
            let said = guest.prints(c, &["http-get", &format!("https://web.test:{right}/")])?;
            ensure!(said == "200\nown", "{program}, {place:?}: {said}");
            let url = format!("https://web.test:{wrong}/");
            guest.fails_with(c, &["http-get", &url], "TlsCertificateError")?;
        }
    }
    drop(network);
    c.fixture.becomes_clean()
}

pub(crate) fn roots_that_cannot_be_read_fail_the_request_with_their_name(
    c: &mut Containers,
) -> Result<()> {
    let network = Network::new(c, "net")?;
    let of_host = Authority::of_tests()?.server("web.test")?;
    let port = serve_tls(&network.namespace, of_host, "host")?;
    let url = format!("https://web.test:{port}/");
    let large = "x".repeat((4 << 20) + 1);
    for (place, text, reason) in [
        (Place::Bundle, "nothing", "no certificates"),
        (Place::File, large.as_str(), "/own/ca.pem: has more than 4194304 bytes"),
        (Place::Directory, "nothing", "/none-here: No such file"),
    ] {
        let mut guest = with_roots(c, &network, P2, place, text)?;
        guest.fails_with(c, &["http-get", &url], reason)?;
    }
    drop(network);
    c.fixture.becomes_clean()
}

/// A link in the image must not lead to the host's files.
pub(crate) fn roots_of_the_container_are_those_inside_its_root(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let stranger = Authority::new()?;
    let port = serve_tls(&network.namespace, stranger.server("web.test")?, "stranger")?;
    let outside = stranger.file()?;
    let mut guest = Guest::new(c, Some(&network))?
        .file("/etc/hosts", "127.0.0.1 web.test\n")?
        .link("/etc/ssl/certs/ca-certificates.crt", outside.path())?;
    let url = format!("https://web.test:{port}/");
    guest.fails_with(c, &["http-get", &url], "TlsCertificateError")?;
    drop(network);
    c.fixture.becomes_clean()
}

/// By a resumed session a server knows who was there before.
pub(crate) fn sessions_are_resumed_by_the_same_container_only(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let server = Authority::of_tests()?.server("web.test")?;
    let (port, resumed) = serve_tls_counted(&network.namespace, server, "again")?;
    let url = format!("https://web.test:{port}/");
    for containers in 1..=3 {
        let mut guest =
            Guest::new(c, Some(&network))?.file("/etc/hosts", "127.0.0.1 web.test\n")?;
        let said = guest.prints(c, &["http-get", &url, "2"])?;
        ensure!(said == "200\nagain".repeat(2), "{said}");
        // The server counts behind its answer.
        let resumed = || resumed.load(Ordering::Relaxed);
        let counted = || (resumed() >= containers).then_some(());
        poll_until("a resumed session", Duration::from_secs(20), counted)?;
        ensure!(resumed() == containers, "{} sessions of {containers}", resumed());
    }
    drop(network);
    c.fixture.becomes_clean()
}
