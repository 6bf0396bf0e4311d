//! Connections to the collector, with TLS or without. TLS is that of rustls, with the certificates
//! that the variables of OpenTelemetry name.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
    vec,
};

use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::connect::{self, Connection, HttpConnector, dns::Name},
    rt::TokioIo,
};
use runwasi_core::blocking::blocking;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::variables::{VariableError, Variables, first};

const ROOTS: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
const CERTIFICATES: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
const KEYS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];

/// Files of certificates and keys, in PEM.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TlsSettings {
    /// Trusted certificates; without one those of the system.
    roots: Option<NamedFile>,
    /// Certificate and key of this client.
    client: Option<(NamedFile, NamedFile)>,
}

/// A file and the variable that names it.
#[derive(Debug, PartialEq, Eq)]
struct NamedFile {
    variable: &'static str,
    path: PathBuf,
}

impl NamedFile {
    fn of(variables: Variables<'_>, names: [&'static str; 2]) -> Option<Self> {
        let (variable, path) = first(variables, names)?;
        Some(Self { variable, path: path.into() })
    }

    fn refused(&self, reason: impl fmt::Display) -> VariableError {
        VariableError::new(self.variable, format!("{}: {reason}", self.path.display()))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, VariableError> {
        let all = CertificateDer::pem_file_iter(&self.path);
        let all = all.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let all = all.map_err(|error| self.refused(error))?;
        if all.is_empty() { Err(self.refused("no certificate")) } else { Ok(all) }
    }
}

impl TlsSettings {
    pub(super) fn of(variables: Variables<'_>) -> Result<Self, VariableError> {
        let client = match (NamedFile::of(variables, CERTIFICATES), NamedFile::of(variables, KEYS))
        {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(certificate), None) => return Err(certificate.refused("its key is not named")),
            (None, Some(key)) => return Err(key.refused("its certificate is not named")),
        };
        Ok(Self { roots: NamedFile::of(variables, ROOTS), client })
    }

    /// TLS for this protocol. Reads the files. `endpoint` is the variable of the collector.
    pub(super) fn connector(
        &self,
        endpoint: &'static str,
        protocol: &[u8],
    ) -> Result<TlsConnector, VariableError> {
        let refused = |error: rustls::Error| VariableError::new(endpoint, error.to_string());
        let roots = self.trusted(endpoint)?;
        // The provider is named, so that no feature of another crate can change it.
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_root_certificates(roots);
        let mut config = match &self.client {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                // Read once: a new key needs a reload, as new settings do.
                let secret = PrivateKeyDer::from_pem_file(&key.path);
                let secret = secret.map_err(|error| key.refused(error))?;
                let config = config.with_client_auth_cert(certificate.certificates()?, secret);
                config.map_err(|error| key.refused(error))?
            }
        };
        // One only: an exporter speaks one protocol.
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config).into())
    }

    fn trusted(&self, endpoint: &'static str) -> Result<RootCertStore, VariableError> {
        let mut store = RootCertStore::empty();
        let Some(file) = &self.roots else {
            // One unreadable file is no reason to distrust the rest.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let none =
                || VariableError::new(endpoint, "the system has no root certificates".into());
            return if store.is_empty() { Err(none()) } else { Ok(store) };
        };
        for certificate in file.certificates()? {
            store.add(certificate).map_err(|error| file.refused(error))?;
        }
        Ok(store)
    }
}

/// Looks up the addresses of a collector.
// hyper's own asks on a thread of Tokio's pool. If the kernel refuses that thread, Tokio panics.
#[derive(Clone)]
struct Resolver;

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(blocking(move || (name.as_str(), 0).to_socket_addrs(), |lost| lost))
    }
}

/// Makes connections to the collector.
#[derive(Clone)]
pub(super) struct Connector {
    /// To the first address that answers, of those of both families.
    tcp: HttpConnector<Resolver>,
    /// Absent for a collector without TLS.
    tls: Option<TlsConnector>,
    /// Time for a connection.
    limit: Duration,
    /// True if the last attempt has failed: only the first failure is logged. Shared with clones.
    has_failed: Arc<AtomicBool>,
}

impl Connector {
    /// `request`: time for a connection and a request.
    pub(super) fn new(tls: Option<TlsConnector>, request: Duration) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        // TLS is added here.
        tcp.enforce_http(false);
        // At the end of the whole time the exporter drops the attempt and tells no reason.
        let limit = request * 4 / 5;
        Self { tcp, tls, limit, has_failed: Arc::default() }
    }

    /// Connects and shakes hands within the limit.
    async fn connect(&mut self, collector: &Uri) -> io::Result<Box<dyn Stream>> {
        let limit = self.limit;
        timeout(limit, self.handshake(collector)).await.unwrap_or_else(|_| {
            let text = format!("no connection within {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }

    async fn handshake(&mut self, collector: &Uri) -> io::Result<Box<dyn Stream>> {
        let stream = self.tcp.call(collector.clone()).await;
        let stream = stream.map_err(|error| io::Error::other(with_causes(&error)))?.into_inner();
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        // Brackets are of the URI, and not of an IPv6 address.
        let host = collector.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

/// Text of an error with those that it comes from.
fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the configuration, which has a key.
        formatter.write_str("Connector")
    }
}

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Connected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, collector: Uri) -> Self::Future {
        let mut connector = self.clone();
        Box::pin(async move {
            let connected = connector.connect(&collector).await;
            // Relaxed: the flag guards no other data.
            let failed_before = connector.has_failed.swap(connected.is_err(), Ordering::Relaxed);
            if let Err(error) = &connected
                && !failed_before
            {
                // Here: the exporter tells no more than that there was an error of the network.
                tracing::warn!(%collector, %error, "no connection to the collector");
            }
            Ok(Connected(TokioIo::new(connected?)))
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for T {}

/// A connection to the collector.
#[derive(Debug)]
pub(super) struct Connected(TokioIo<Box<dyn Stream>>);

impl Connection for Connected {
    fn connected(&self) -> connect::Connected {
        // Not as HTTP/2: the client that asks is made for HTTP/1.1.
        connect::Connected::new()
    }
}

impl Read for Connected {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Connected {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn collector(host: &str, listener: &TcpListener) -> Uri {
        let port = listener.local_addr().unwrap().port();
        format!("http://{host}:{port}/v1/traces").parse().unwrap()
    }

    #[tokio::test]
    async fn collector_is_found_by_its_name_and_a_refusal_has_its_reason() {
        let mut connector = Connector::new(None, Duration::from_secs(20));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = collector("localhost", &listener);
        connector.connect(&collector).await.unwrap();
        drop(listener);
        let error = connector.connect(&collector).await.unwrap_err().to_string();
        assert!(error.contains(": Connection refused"), "{error}");
    }

    #[tokio::test]
    async fn attempt_without_an_answer_ends_before_the_time_of_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        // Until the queue is full, and the kernel answers no more.
        let short = Duration::from_millis(50);
        let held: Vec<_> =
            std::iter::from_fn(|| TcpStream::connect_timeout(&address, short).ok()).collect();
        let mut connector = Connector::new(None, Duration::from_millis(500));
        let error = connector.connect(&collector("127.0.0.1", &listener)).await.unwrap_err();
        assert_eq!(error.to_string(), "no connection within 400ms", "{}", held.len());
    }

    fn read(lines: &'static str) -> Result<TlsSettings, String> {
        let variable = |name: &str| {
            let line = lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned)
        };
        TlsSettings::of(&variable).map_err(|error| error.to_string())
    }

    #[test]
    fn client_has_both_files_or_none() {
        assert_eq!(read(""), Ok(TlsSettings::default()));
        let error = read("OTEL_EXPORTER_OTLP_CLIENT_KEY=/k").unwrap_err();
        assert_eq!(error, "OTEL_EXPORTER_OTLP_CLIENT_KEY: /k: its certificate is not named");
        let error = read("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE=/c").unwrap_err();
        assert!(error.ends_with("/c: its key is not named"), "{error}");
    }

    #[test]
    fn missing_and_empty_files_are_refused_with_their_variable() {
        let variable = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        let empty = tempfile::NamedTempFile::new().unwrap();
        for path in ["/no/such.pem".into(), empty.path().to_owned()] {
            let roots = Some(NamedFile { variable, path });
            let settings = TlsSettings { roots, client: None };
            let made = settings.connector("ENDPOINT", b"h2").map(drop);
            let error = made.unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
        }
    }
}
