//! Certificates that a server sends beside its own, thinned before webpki looks for a path from the
//! server's certificate to a root.
//!
//! The time of that search has no bound that suits a worker: it is one poll, which neither a kill
//! nor the turn of another guest interrupts, and the server decides what it sends. So webpki gets
//! those certificates alone that may be on a path by their names: one of each name, and few
//! alternatives, for an authority that another one has signed, too. Each order that is left may
//! cost a signature for each of its certificates, a millisecond with P-384.

use std::sync::Arc;

use tokio_rustls::rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Most certificates that webpki gets, which takes no longer paths.
const MOST: usize = 6;
/// Most of them that have the name of another one.
const ALTERNATIVES: usize = 2;

/// First byte of an explicit version, which version 1 has not (RFC 5280, 4.1).
const VERSION: u8 = 0xa0;

/// rustls' own verifier behind a bound of its work.
#[derive(Debug)]
pub(super) struct Bounded(Arc<WebPkiServerVerifier>);

impl Bounded {
    pub(super) fn new(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self(verifier)
    }
}

impl ServerCertVerifier for Bounded {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(server, &on_a_path(server, others), name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, server, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, server, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The certificates that may lead from the server's to a root, the nearest first.
fn on_a_path<'a>(server: &'a [u8], others: &'a [CertificateDer<'_>]) -> Vec<CertificateDer<'a>> {
    let of = |other: &'a CertificateDer<'_>| Some((Names::of(other)?, &**other));
    let others: Vec<_> = others.iter().filter_map(of).collect();
    let mut issuers: Vec<_> = Names::of(server).map(|names| names.issuer).into_iter().collect();
    let mut found = Vec::new();
    let mut alternatives = ALTERNATIVES;
    let mut next = 0;
    while let Some(issuer) = issuers.get(next).copied() {
        let before = found.len();
        for (names, certificate) in others.iter().filter(|(names, _)| names.subject == issuer) {
            let certificate = CertificateDer::from(*certificate);
            // Some servers send one twice.
            if found.contains(&certificate) {
                continue;
            }
            let first = found.len() == before;
            if found.len() == MOST || !first && alternatives == 0 {
                break;
            }
            alternatives -= usize::from(!first);
            found.push(certificate);
            if !issuers.contains(&names.issuer) {
                issuers.push(names.issuer);
            }
        }
        next += 1;
    }
    found
}

/// Names of a certificate, as they are encoded.
struct Names<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
}

impl<'a> Names<'a> {
    /// Absent if these are no bytes of a certificate (RFC 5280, 4.1).
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let signed = Element::first_of(certificate)?.content;
        let fields = Element::first_of(signed)?.content;
        let fields = match fields.first() {
            Some(&VERSION) => Element::first_of(fields)?.rest,
            _ => fields,
        };
        let serial = Element::first_of(fields)?;
        let algorithm = Element::first_of(serial.rest)?;
        let issuer = Element::first_of(algorithm.rest)?;
        let validity = Element::first_of(issuer.rest)?;
        let subject = Element::first_of(validity.rest)?;
        Some(Self { issuer: issuer.content, subject: subject.content })
    }
}

/// An element of DER, without its type.
struct Element<'a> {
    content: &'a [u8],
    /// Bytes behind it.
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn first_of(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = match *bytes.get(1..)? {
            [length @ 0..=0x7f, ref rest @ ..] => (u16::from(length), rest),
            [0x81, length, ref rest @ ..] => (u16::from(length), rest),
            [0x82, high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
            // The certificates of a handshake are not that long.
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length.into())?;
        Some(Self { content, rest })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_rustls::rustls::{CertificateError, RootCertStore, crypto::ring};

    use super::*;

    /// Algorithm Ed25519, an extension for an authority, and one for the server `a.test`.
    const ALGORITHM: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";
    const AUTHORITY: &[u8] = b"\x30\x0c\x06\x03\x55\x1d\x13\x04\x05\x30\x03\x01\x01\xff";
    const SERVER: &[u8] = b"\x30\x11\x06\x03\x55\x1d\x11\x04\x0a\x30\x08\x82\x06a.test";

    fn element(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let head = match length {
            [0, length @ 0..=0x7f] => vec![kind, length],
            [0, length] => vec![kind, 0x81, length],
            [high, low] => vec![kind, 0x82, high, low],
        };
        [head, content].concat()
    }

    fn name(text: &str) -> Vec<u8> {
        let value = element(0x0c, &[text.as_bytes()]);
        let pair = element(0x30, &[b"\x06\x03\x55\x04\x03", &value]);
        element(0x30, &[&element(0x31, &[&pair])])
    }

    /// A certificate that nobody has signed, with a key of this number.
    fn certificate(
        number: u8,
        subject: &str,
        issuer: &str,
        extension: &[u8],
    ) -> CertificateDer<'static> {
        let time = |text: &str| element(0x17, &[text.as_bytes()]);
        let fields = element(
            0x30,
            &[
                b"\xa0\x03\x02\x01\x02\x02\x01\x01",
                ALGORITHM,
                &name(issuer),
                &element(0x30, &[&time("200101000000Z"), &time("400101000000Z")]),
                &name(subject),
                &element(0x30, &[ALGORITHM, &element(3, &[&[0], &[number; 32]])]),
                &element(0xa3, &[&element(0x30, &[extension])]),
            ],
        );
        element(0x30, &[&fields, ALGORITHM, &element(3, &[&[0; 65]])]).into()
    }

    fn authority(number: u8, subject: &str, issuer: &str) -> CertificateDer<'static> {
        certificate(number, subject, issuer, AUTHORITY)
    }

    fn server() -> CertificateDer<'static> {
        certificate(0, "server", "a", SERVER)
    }

    #[test]
    fn only_certificates_on_a_path_are_left_and_few_alternatives() {
        let sent = [
            authority(1, "b", "root"),
            authority(2, "other", "root"),
            authority(3, "a", "b"),
            authority(3, "a", "b"),
            authority(4, "a", "c"),
            CertificateDer::from(vec![0x30, 0x82]),
            authority(5, "a", "b"),
            authority(6, "a", "d"),
            authority(7, "c", "a"),
            authority(8, "c", "root"),
        ];
        let expected = [&sent[2], &sent[4], &sent[6], &sent[0], &sent[8]].map(Clone::clone);
        assert_eq!(on_a_path(&server(), &sent), expected);
        assert!(on_a_path(b"\x30", &sent).is_empty());
        assert!(on_a_path(&authority(1, "server", "nobody"), &sent).is_empty());
    }

    #[test]
    fn number_of_certificates_is_bounded() {
        let names: Vec<_> = ('a'..='z').map(String::from).collect();
        let sent: Vec<_> = names.windows(2).map(|two| authority(1, &two[0], &two[1])).collect();
        assert_eq!(on_a_path(&server(), &sent), sent[..MOST]);
    }

    #[test]
    fn alternatives_of_one_name_are_bounded() {
        let sent: Vec<_> = (1..=5).map(|number| authority(number, "a", "root")).collect();
        assert_eq!(on_a_path(&server(), &sent), sent[..=ALTERNATIVES]);
    }

    #[test]
    fn what_is_left_is_verified_by_webpki() {
        let mut roots = RootCertStore::empty();
        roots.add(authority(1, "root", "root")).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = Bounded::new(verifier.build().unwrap());
        let name = ServerName::try_from("a.test").unwrap();
        // In 2026.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_790_000_000));
        let refusal =
            |sent: &[_]| verifier.verify_server_cert(&server(), sent, &name, &[], now).unwrap_err();
        // Nothing is signed here, which is looked at once there is a path.
        let issued = authority(2, "a", "root");
        assert_eq!(refusal(&[issued]), CertificateError::BadSignature.into());
        assert_eq!(refusal(&[]), CertificateError::UnknownIssuer.into());
    }
}
