//! A certificate authority of the tests' own; told to the shims as the system's, used by the servers of `servers`.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;

/// One that certifies whatever it is asked to.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// The one that fixtures trust.
    pub(crate) fn of_tests() -> Result<&'static Self> {
        static AUTHORITY: OnceLock<Authority> = OnceLock::new();
        if let Some(authority) = AUTHORITY.get() {
            return Ok(authority);
        }
        // Of two that are made at once, the first counts.
        let made = Self::new()?;
        Ok(AUTHORITY.get_or_init(|| made))
    }

    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its certificate, for `SSL_CERT_FILE`.
    pub(crate) fn file(&self) -> Result<NamedTempFile> {
        let file = NamedTempFile::new()?;
        std::fs::write(file.path(), self.0.pem()).context("the authority's certificate")?;
        Ok(file)
    }

    /// What a server of that name or address needs.
    pub(crate) fn server(&self, name: &str) -> Result<Arc<ServerConfig>> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &self.0)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }
}
