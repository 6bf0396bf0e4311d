//! Trust of outgoing HTTPS: the root certificates of the system this process runs on, as OpenSSL
//! finds them. `SSL_CERT_FILE` and `SSL_CERT_DIR` of this process name others.
//!
//! The container's own certificates do not count: an image does not decide which roots its host
//! trusts. The roots are read once for all containers, at the first request that needs them. A
//! change of the roots needs a restart.

use std::sync::Arc;

use tokio::{sync::OnceCell, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    rustls::{AlertDescription, ClientConfig, Error as TlsError, RootCertStore, crypto::ring},
};
use wasmtime_wasi_http::Error;

/// Configuration of all connections, with the system's root certificates.
static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

/// Connector for outgoing TLS connections.
pub(super) async fn connector() -> Result<TlsConnector, Error> {
    // The cell stores no error: after a failure the next request tries again.
    let config = CONFIG.get_or_try_init(|| async {
        // On the blocking pool: many files, and milliseconds of parsing.
        let loaded = spawn_blocking(load).await;
        loaded.unwrap_or(Err(Error::ConfigurationError)).map(Arc::new)
    });
    config.await.cloned().map(TlsConnector::from)
}

fn load() -> Result<ClientConfig, Error> {
    let found = rustls_native_certs::load_native_certs();
    // One unreadable file is no reason to distrust the rest.
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's root certificates cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "root certificates");
    if roots.is_empty() {
        tracing::warn!("the system has no root certificates: outgoing HTTPS fails");
        return Err(Error::TlsCertificateError);
    }
    // The provider is named, so that no feature of another crate can change it.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions();
    let config = config.map_err(|_| Error::ConfigurationError)?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // The client speaks only HTTP/1.1: the server must not choose HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Translates the error of a failed handshake.
pub(super) fn meaning(error: &std::io::Error) -> Error {
    // tokio-rustls wraps errors of TLS in `io::Error`. Other errors are the connection's.
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(TlsError::InvalidCertificate(reason)) => {
            tracing::debug!(?reason, "the server's certificate is refused");
            Error::TlsCertificateError
        }
        Some(TlsError::AlertReceived(alert)) => alert_received(*alert),
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

fn alert_received(alert: AlertDescription) -> Error {
    Error::TlsAlertReceived {
        alert_id: Some(alert.into()),
        alert_message: Some(format!("{alert:?}")),
    }
}
