//! Which artifact a process runs: the file in its root file system that `args[0]` names, else a wasm layer of its image ([`oci`]).
//!

mod file;
pub mod oci;

use std::{fmt, io, path::PathBuf, sync::Arc};

use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

pub(crate) use self::file::locate;
use self::oci::{ImageError, Images, Layer};
use crate::{id::Id, rootfs::Rootfs};

/// Largest artifact that is read, in bytes.
pub const MAX_BYTES: u64 = 512 << 20;

/// Largest text module that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Wasm bytes and where they come from. Untrusted.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its path in the guest; of a layer, `IMAGE/TITLE`.
    pub path: PathBuf,
    /// The export to call instead of the default one, from `path#function`.
    pub function: Option<String>,
    /// What its first bytes say it is.
    pub kind: ArtifactKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// What tells that a file need not be read to know that it holds these bytes.
    pub identity: Option<Identity>,
}

/// What of a container runs: found, not yet read.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path in the guest; of a layer, `IMAGE/TITLE`.
    pub path: PathBuf,
    /// The export to call instead of the default one, from `path#function`.
    pub function: Option<String>,
    /// Where its bytes are.
    pub source: Source,
}

/// Where a program's bytes are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a file of the container.
    File {
        /// `None` where files cannot be told apart without reading them.
        identity: Option<Identity>,
    },
    /// In containerd's content store.
    Layer(Layer),
}

/// What tells a file of an image from all others: equal identities, equal bytes. Whoever makes a file system chooses its inodes and
/// times, so they count only among files of the same layers, which containerd has put together; and there nobody can give a file
/// another's time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub(crate) layers: Digest,
    pub(crate) inode: u64,
    pub(crate) bytes: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

/// A SHA-256: of an artifact, or of whatever else has to become a name of fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// What an artifact is, by its magic bytes or first word; its name says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArtifactKind {
    /// A core module, binary or text: `(module …)`.
    Module,
    /// A component, binary or text: `(component …)`.
    Component,
}

/// Why there is no artifact.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No file of that name is in any of the places looked at.
    #[error("{name}: not found in the container (looked at {looked_at}{})", besides(image))]
    NotFound {
        /// `args[0]` without the function.
        name: String,
        /// The paths tried.
        looked_at: String,
        /// Why the image has no such layer either, if it was looked at.
        image: Option<Box<ImageError>>,
    },
    /// The layer cannot be read.
    #[error("{}: {source}", path.display())]
    Layer {
        /// `IMAGE/TITLE`.
        path: PathBuf,
        /// Why.
        source: Box<ImageError>,
    },
    /// The file is there and cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Its path in the guest.
        path: PathBuf,
        /// The system's error; shared, so that the error can be kept until somebody asks for the artifact.
        source: Arc<io::Error>,
    },
    /// The file is no regular file, too large, or its first bytes are not those of wasm.
    #[error("{}: {reason}", path.display())]
    NotWasm {
        /// Its path in the guest.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
}

impl Artifact {
    /// Of bytes that are in no container.
    pub fn of_bytes(path: PathBuf, bytes: Vec<u8>) -> Result<Self, ArtifactError> {
        let digest = Digest::of(&bytes);
        Self::hashed(path, bytes, digest)
    }

    fn hashed(path: PathBuf, bytes: Vec<u8>, digest: Digest) -> Result<Self, ArtifactError> {
        match bounded_kind(&bytes) {
            Ok(kind) => Ok(Self { path, function: None, kind, digest, bytes, identity: None }),
            Err(reason) => Err(ArtifactError::NotWasm { path, reason }),
        }
    }
}

fn besides(image: &Option<Box<ImageError>>) -> String {
    image.as_ref().map_or_else(String::new, |reason| format!("; {reason}"))
}

impl Program {
    /// The digest of its bytes, if that is known before they are read.
    pub fn digest(&self) -> Option<Digest> {
        match &self.source {
            Source::File { .. } => None,
            Source::Layer(layer) => Some(layer.blob.digest),
        }
    }

    /// What tells that a file need not be read to know what it holds.
    pub fn identity(&self) -> Option<Identity> {
        match self.source {
            Source::File { identity } => identity,
            Source::Layer(_) => None,
        }
    }
}

/// As OCI writes it: `sha256:…`.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl Digest {
    /// A digest as OCI writes it; `None` if it is no SHA-256, or not in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?.as_bytes();
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.chunks(2)) {
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

/// What [`locate`] has found, or a wasm layer of the container's image.
pub(crate) async fn find(
    located: &Result<Program, ArtifactError>,
    args: &[String],
    container: &Id,
    images: &dyn Images,
) -> Result<Program, ArtifactError> {
    let (name, looked_at) = match located {
        Err(ArtifactError::NotFound { name, looked_at, .. }) => (name.clone(), looked_at.clone()),
        found_or_failed => return found_or_failed.clone(),
    };
    match oci::find(images, container, &name).await {
        Ok(layer) => {
            let (path, (_, function)) = (PathBuf::from(layer.name()), named(args));
            Ok(Program { path, function, source: Source::Layer(layer) })
        }
        Err(error) => Err(ArtifactError::NotFound { name, looked_at, image: Some(Box::new(error)) }),
    }
}

/// Reads a program.
pub(crate) async fn load(
    program: &Program,
    rootfs: &Arc<Rootfs>,
    images: &dyn Images,
) -> Result<Artifact, ArtifactError> {
    let Program { path, function, source } = program.clone();
    if let Source::Layer(layer) = source {
        return Ok(Artifact { function, ..layer_artifact(&layer, images).await? });
    }
    let (program, rootfs) = (program.clone(), rootfs.clone());
    on_pool(path, move || file::read(program, &rootfs)).await
}

/// Reads a layer, whoever it is for.
pub async fn layer_artifact(layer: &Layer, images: &dyn Images) -> Result<Artifact, ArtifactError> {
    let path = PathBuf::from(layer.name());
    let failed = |source| ArtifactError::Layer { path: path.clone(), source: Box::new(source) };
    let (bytes, layer) = (oci::read(images, layer).await.map_err(failed)?, layer.clone());
    on_pool(path.clone(), move || unpack(path, bytes, &layer)).await
}

/// What computes or blocks does so on the blocking pool.
async fn on_pool<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    let lost = |error| ArtifactError::Read { path, source: Arc::new(io::Error::other(error)) };
    spawn_blocking(work).await.map_err(lost)?
}

/// `args[0]` as the name of a file or layer and that of an export.
fn named(args: &[String]) -> (&str, Option<String>) {
    let name = args.first().map(String::as_str).unwrap_or_default();
    match name.rsplit_once('#') {
        Some((file, function)) if !function.is_empty() => (file, Some(function.to_owned())),
        _ => (name, None),
    }
}

fn unpack(path: PathBuf, bytes: Vec<u8>, layer: &Layer) -> Result<Artifact, ArtifactError> {
    let digest = Digest::of(&bytes);
    match layer.blob.check(&digest) {
        Ok(()) => Artifact::hashed(path, bytes, digest),
        Err(source) => Err(ArtifactError::Layer { path, source: Box::new(source) }),
    }
}

/// Text is worth less time than a binary.
fn bounded_kind(bytes: &[u8]) -> Result<ArtifactKind, String> {
    let kind = kind(bytes)?;
    if !bytes.starts_with(b"\0asm") && bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(format!("is text of more than {MAX_TEXT_BYTES} bytes"));
    }
    Ok(kind)
}

/// The binary format's preamble: magic, version, layer (component-model `Binary.md`).
fn kind(bytes: &[u8]) -> Result<ArtifactKind, String> {
    match bytes {
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(ArtifactKind::Module),
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(ArtifactKind::Component),
        [b'\0', b'a', b's', b'm', version @ ..] => {
            return Err(format!("is wasm of an unknown version ({})", hex(version)));
        }
        _ => {}
    }
    if let Some(kind) = text_format(bytes) {
        return Ok(kind);
    }
    Err(match bytes {
        [] => "is not wasm: it is empty".into(),
        // The mark that wasmtime gives its object files, where others name an operating system.
        [0x7f, b'E', b'L', b'F', _, _, _, 200, ..] => {
            "is precompiled code, which is never taken from an image: give the wasm it was made of".into()
        }
        [0x7f, b'E', b'L', b'F', ..] => "is not wasm: it is a native program (ELF)".into(),
        [b'#', b'!', ..] => "is not wasm: it is a script".into(),
        other => format!("is not wasm: it begins with {}", hex(other)),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// What text is: by the word after the first parenthesis, past white space and comments.
fn text_format(bytes: &[u8]) -> Option<ArtifactKind> {
    let mut text = std::str::from_utf8(bytes).ok()?;
    loop {
        text = text.trim_start();
        if let Some(comment) = text.strip_prefix(";;") {
            text = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = text.strip_prefix("(;") {
            text = comment.split_once(";)").map_or("", |(_, rest)| rest);
        } else {
            break;
        }
    }
    let list = text.strip_prefix('(')?.trim_start();
    let end = list.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(list.len());
    match &list[..end] {
        "module" => Some(ArtifactKind::Module),
        "component" => Some(ArtifactKind::Component),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasm_is_known_by_its_first_bytes() {
        assert_eq!(kind(b"\0asm\x01\0\0\0rest"), Ok(ArtifactKind::Module));
        assert_eq!(kind(b"\0asm\x0d\0\x01\0rest"), Ok(ArtifactKind::Component));
        assert_eq!(kind(b"(module)"), Ok(ArtifactKind::Module));
        assert_eq!(kind(b" ;; a comment\n(; another ;) ( component $c)"), Ok(ArtifactKind::Component));
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (b"\x7fELF\x02", "native program"),
            (b"\x7fELF\x02\x01\x01\xc8", "precompiled code, which is never taken"),
            (b"\x7fELF\x02\x01\x01\0", "native program"),
            (b"#!/bin/sh\n", "script"),
            (b"(modules)", "28 6d 6f 64"),
            (b"\0asm\x07\0\0\0", "unknown version (07 00 00 00)"),
            (b"\0as", "00 61 73"),
        ] {
            let error = kind(bytes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is() {
        let digest = Digest::of(b"wasm");
        let text = digest.to_string();
        assert_eq!(Digest::parse(&text), Some(digest));
        let hex = digest.hex();
        let wrong =
            [hex.clone(), format!("sha512:{hex}"), format!("sha256:{}", hex.to_uppercase()), text[..70].to_owned()];
        for wrong in wrong.into_iter().chain([format!("sha256:+{}", &hex[1..]), format!("sha256:ä{}", &hex[2..])]) {
            assert_eq!(Digest::parse(&wrong), None, "{wrong}");
        }
    }
}
