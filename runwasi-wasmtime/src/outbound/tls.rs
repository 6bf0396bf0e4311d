//! Whom outgoing HTTPS trusts: the roots of the system this process runs on, as OpenSSL finds them; `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` of this process name others.
//!
//! The container's own certificates do not count: its image is not trusted to say whom its host believes. The roots are read once
//! for all, at the first request that needs them, so others need a restart.

use std::sync::Arc;

use tokio::{sync::OnceCell, task::spawn_blocking};
use tokio_rustls::{
    TlsConnector,
    rustls::{AlertDescription, ClientConfig, Error as TlsError, RootCertStore, crypto::ring},
};
use wasmtime_wasi_http::Error;

static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

/// The means to become a client of HTTPS.
pub(super) async fn connector() -> Result<TlsConnector, Error> {
    // Many files, and milliseconds of parsing. What fails is tried again by the next request.
    let config = CONFIG.get_or_try_init(|| async {
        let loaded = spawn_blocking(load).await;
        loaded.unwrap_or(Err(Error::ConfigurationError)).map(Arc::new)
    });
    config.await.cloned().map(TlsConnector::from)
}

fn load() -> Result<ClientConfig, Error> {
    let found = rustls_native_certs::load_native_certs();
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
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions();
    let config = config.map_err(|_| Error::ConfigurationError)?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What a failed handshake means.
pub(super) fn meaning(error: &std::io::Error) -> Error {
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
