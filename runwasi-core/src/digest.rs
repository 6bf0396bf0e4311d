//! SHA-256 digests: names of artifacts, blobs and code, and of other things that need a name of
//! fixed length.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// As OCI writes it: `sha256:…`.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

/// A digest of bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    /// Adds the next piece.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl Digest {
    /// Parses a digest as OCI writes it: SHA-256 only, hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?.as_bytes();
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.chunks(2)) {
            // `from_str_radix` alone would accept a sign and upper case.
            let is_hex = pair.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            *byte = u8::from_str_radix(str::from_utf8(pair).ok().filter(|_| is_hex)?, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Lower-case hexadecimal.
    pub fn hex(&self) -> String {
        use std::fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_as_it_is_written_is_parsed() {
        let digest = Digest::of(b"wasm");
        let text = digest.to_string();
        assert_eq!(Digest::parse(&text), Some(digest));
        let hex = digest.hex();
        let wrong = [
            hex.clone(),
            format!("sha512:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            text[..70].to_owned(),
        ];
        for wrong in wrong
            .into_iter()
            .chain([format!("sha256:+{}", &hex[1..]), format!("sha256:ä{}", &hex[2..])])
        {
            assert_eq!(Digest::parse(&wrong), None, "{wrong}");
        }
    }
}
