//! A collector with TLS: a server in front of one without; the cases are those of `start`.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runwasi_tests::Containers;
use runwasi_tests::collector::Collector;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// The server, and the certificate by which it is trusted.
pub(crate) struct Secured {
    pub(crate) address: SocketAddr,
    authority: NamedTempFile,
}

impl Secured {
    /// Passes on what it gets to this address.
    pub(crate) fn before(collector: SocketAddr) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = NamedTempFile::new()?;
        std::fs::write(authority.path(), issuer.pem())?;
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        let certificate = params.signed_by(&key, &issuer)?.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        thread::spawn(move || {
            // An error: no client can be accepted any more.
            drop(runtime.block_on(serve(listener, acceptor, collector)));
        });
        Ok(Self { address, authority })
    }

    /// The file with the certificate of its authority.
    pub(crate) fn authority(&self) -> &Path {
        self.authority.path()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, collector: SocketAddr) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            let mut client = acceptor.accept(stream).await?;
            let mut server = TcpStream::connect(collector).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}

/// The daemon has not been told the authority of its collector.
pub(crate) fn collector_that_is_not_trusted_gets_no_span(
    c: &mut Containers,
    collector: &Collector,
) -> Result<()> {
    c.run(&c.id("one"), &["exit", "0"])?.ok()?;
    let daemon = c.fixture.daemon()?;
    let warned = runwasi_tests::poll_until("a warning", super::SOON, || {
        let log = daemon.log();
        log.contains("the collector does not take spans").then_some(log)
    });
    let log = warned.context("no warning")?;
    ensure!(collector.spans().is_empty(), "{:#?}", collector.spans());
    let reasons = log.matches("no connection to the collector").count();
    ensure!(reasons == 1 && log.contains("invalid peer certificate: UnknownIssuer"), "{log}");
    c.fixture.becomes_clean()
}
