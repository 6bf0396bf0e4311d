//! Trust of outgoing HTTPS: the container's own root certificates ([`roots`]), read once at its
//! first request that needs them.
//!
//! Without any, those of the system this process runs on, as OpenSSL finds them. `SSL_CERT_FILE`
//! and `SSL_CERT_DIR` of this process name others. They are read once for all containers, and a
//! change of them needs a restart.

use std::sync::{Arc, Weak};

use runwasi_core::{
    Id, InstanceSpec, blocking::blocking, resources::memory::Memory, rootfs::Rootfs,
};
use tokio::sync::OnceCell;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        AlertDescription, ClientConfig, Error as TlsError, RootCertStore,
        client::{Resumption, WebPkiServerVerifier},
        crypto::ring,
        pki_types::CertificateDer,
    },
};
use wasmtime_wasi_http::Error;

use super::{chain::Bounded, roots::Named};

/// Configuration with the system's root certificates.
static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

/// Trust of a container, shared by its processes.
pub(super) struct Trust {
    container: Id,
    named: Named,
    // Weak: the file systems go with the container's last process.
    rootfs: Weak<Rootfs>,
    memory: Arc<Memory>,
    /// Absent inside if the container has no certificates. An error is kept, too: a guest could
    /// have the files read again and again.
    own: OnceCell<Result<Option<Arc<ClientConfig>>, String>>,
    /// With the system's root certificates, for a container without any.
    systems: OnceCell<Arc<ClientConfig>>,
}

impl Trust {
    pub(super) fn of(spec: &InstanceSpec) -> Self {
        Self {
            container: spec.container.clone(),
            named: Named::of(spec),
            rootfs: Arc::downgrade(&spec.rootfs),
            memory: spec.memory.clone(),
            own: OnceCell::new(),
            systems: OnceCell::new(),
        }
    }

    /// Connector for outgoing TLS connections.
    pub(super) async fn connector(&self) -> Result<TlsConnector, Error> {
        match self.own.get_or_init(|| self.read()).await {
            Ok(Some(config)) => Ok(config.clone().into()),
            Ok(None) => self.systems().await,
            Err(reason) => Err(Error::InternalError(Some(reason.clone()))),
        }
    }

    /// Connector with the system's root certificates. The cells store no error: after a failure the
    /// next request tries again.
    async fn systems(&self) -> Result<TlsConnector, Error> {
        let config = self.systems.get_or_try_init(|| async {
            // On the blocking pool: many files, and milliseconds of parsing.
            let loaded = async || blocking(load, |_| Error::ConfigurationError).await.map(Arc::new);
            CONFIG.get_or_try_init(loaded).await.map(|shared| Arc::new(alone(shared)))
        });
        config.await.cloned().map(TlsConnector::from)
    }

    async fn read(&self) -> Result<Option<Arc<ClientConfig>>, String> {
        // Absent: the last process of the container is ending.
        let rootfs = self.rootfs.upgrade().ok_or("the container is ending")?;
        let named = self.named.clone();
        let memory = self.memory.clone();
        let read = move || -> Result<_, String> {
            // Charged: the image decides on the number of certificates.
            let _charged = memory.enter();
            let Some(certificates) = named.read(&rootfs)? else { return Ok(None) };
            let config = trusting(certificates).map_err(|error| error.to_string())?;
            Ok(Some(Arc::new(config)))
        };
        let read = blocking(read, |error| error.to_string()).await;
        read.map_err(|reason| {
            let reason = format!("the container's root certificates: {reason}");
            tracing::warn!(container = %self.container, reason, "outgoing HTTPS fails");
            reason
        })
    }
}

/// The configuration for one container: by resumed sessions a server would know that two are of the
/// same node.
fn alone(shared: &ClientConfig) -> ClientConfig {
    let mut config = shared.clone();
    config.resumption = Resumption::default();
    config
}

fn load() -> Result<ClientConfig, Error> {
    let found = rustls_native_certs::load_native_certs();
    // One unreadable file is no reason to distrust the rest.
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's root certificates cannot be read");
    }
    trusting(found.certs).inspect_err(|_| {
        tracing::warn!("the system has no root certificates: outgoing HTTPS fails");
    })
}

/// Configuration of connections that trust these root certificates.
fn trusting(certificates: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    tracing::debug!(added, ignored, "root certificates");
    if roots.is_empty() {
        return Err(Error::TlsCertificateError);
    }
    // The provider is named, so that no feature of another crate can change it.
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = Bounded::new(verifier.build().map_err(|_| Error::ConfigurationError)?);
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|_| Error::ConfigurationError)?;
    // "Dangerous" is any verifier but rustls' own, which this one leads to.
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = config.with_no_client_auth();
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
