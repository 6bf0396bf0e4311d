//! Whom HTTPS trusts; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::Containers;

use crate::authority::Authority;
use crate::fixture::{Guest, Network};
use crate::servers::serve_tls;

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
    // What the container itself believes does not count.
    let roots = std::fs::read_to_string(stranger.file()?.path())?;
    let mut believer = Guest::new(c, Some(&network))?
        .file("/etc/hosts", "127.0.0.1 web.test\n")?
        .file("/etc/ca.pem", &roots)?;
    believer.fails_with(c, &["http-get", &get("web.test", &wrong)], "TlsCertificateError")?;
    drop(network);
    c.fixture.becomes_clean()
}
