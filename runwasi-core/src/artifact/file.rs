//! Programs in the container's root file system: search by name, look at the head, bounded reads.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::FileType;

use super::{
    Artifact, ArtifactBytes, ArtifactError, FileIdentity, MAX_BYTES, MAX_TEXT_BYTES, Program,
    Source,
    attributes::Attributes,
    bytes::Room,
    kind,
    sections::{self, PREAMBLE},
    sharing::Origin,
};
use crate::{
    digest::{Digest, Hasher},
    rootfs::Rootfs,
};

/// Age of the last change, in seconds, that a file must exceed to have an identity.
const MIN_AGE: i64 = 1;

/// Bytes that are read and hashed at a time.
const PIECE: u64 = 256 << 10;

/// Init programs that clients put before the program of a container: Docker, nerdctl, Podman.
const INITS: [&str; 3] = ["/sbin/docker-init", "/sbin/tini", "/run/podman-init"];
/// Advice for a container with one of them.
const NO_INIT: &str = "; it is an init for native programs, so run the container without --init (in Docker's \
     daemon.json and in compose files: without \"init\")";

impl FileIdentity {
    fn of(attributes: &Attributes, layers: Option<Digest>) -> Option<Self> {
        let &Attributes { inode, bytes, modified, changed, .. } = attributes;
        let identity = Self { layers: layers?, inode, bytes, modified, changed };
        // File systems that are built as images may store times in whole seconds, so that many
        // files have the same time.
        (changed.1 != 0 && settled(attributes)).then_some(identity)
    }
}

/// True if a later change of the file shows in its times.
fn settled(attributes: &Attributes) -> bool {
    // A file that has just changed may change again within the same tick of its clock.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).is_ok_and(|now| now - attributes.changed.0 > MIN_AGE)
}

/// Finds the file that `args[0]` names. Blocks.
///
/// A name with a slash is absolute or relative to `cwd`. Any other name is searched for in `PATH`,
/// then in `cwd`. A suffix `#name` selects the export to call.
pub(crate) fn locate(
    args: &[String],
    cwd: &Path,
    path: Option<&str>,
    rootfs: &Rootfs,
) -> Result<Program, ArtifactError> {
    let (file, function) = split_function(args);
    let candidates = candidates(file, cwd, path);
    for path in &candidates {
        let failed = |source| ArtifactError::Read { path: path.clone(), source: Arc::new(source) };
        // Not for reading: it is only looked at here. What cannot be read is told by `Opened`.
        let file = match rootfs.find(path) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => continue,
            // A program that cannot be opened must not be replaced by one further down PATH.
            Err(source) => return Err(failed(source)),
        };
        let attributes = Attributes::of(file).map_err(failed)?;
        // Like `execvp(3)`, skips a directory of that name in PATH.
        if candidates.len() > 1 && attributes.kind == FileType::Directory {
            continue;
        }
        let layers = rootfs.layers_of(attributes.mount);
        let source = Source::File { identity: FileIdentity::of(&attributes, layers) };
        return Ok(Program { path: path.clone(), function, source });
    }
    let looked_at: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(ArtifactError::NotFound {
        name: file.to_owned(),
        looked_at: looked_at.join(", "),
        image: None,
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A program that [`locate`] found, open, and as far checked as its head allows.
pub(super) struct Opened {
    program: Program,
    file: File,
    attributes: Attributes,
    layers: Option<Digest>,
}

impl Opened {
    /// Opens a program. Blocks.
    pub(super) fn open(program: Program, rootfs: &Rootfs) -> Result<Self, ArtifactError> {
        let path = &program.path;
        // The name may lead to another file by now: everything below refers to the file opened
        // here.
        let file = rootfs.open(path).map_err(|error| unreadable(path, error))?;
        let attributes = Attributes::of(&file).map_err(|error| unreadable(path, error))?;
        let reason = match checked(&file, &attributes).map_err(|error| unreadable(path, error))? {
            Ok(()) => {
                let layers = rootfs.layers_of(attributes.mount);
                return Ok(Self { program, file, attributes, layers });
            }
            Err(reason) => reason,
        };
        Err(not_wasm(path, reason))
    }

    /// Length of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.attributes.bytes
    }

    /// Identifies the content for reads at the same time, unless the file has just changed.
    pub(super) fn origin(&self) -> Option<Origin> {
        let Attributes { device, inode, bytes, modified, changed, .. } = self.attributes;
        let layers = self.layers;
        settled(&self.attributes).then_some(Origin::File {
            layers,
            device,
            inode,
            bytes,
            modified,
            changed,
        })
    }

    /// Reads the program. Blocks.
    pub(super) fn read(self, room: Option<Room>) -> Result<Artifact, ArtifactError> {
        let Self { program, file, attributes, layers } = self;
        let path = &program.path;
        let (bytes, digest) =
            hashed(&file, attributes.bytes).map_err(|error| unreadable(path, error))?;
        let kind = match kind(&bytes) {
            Ok(kind) => kind,
            Err(reason) => return Err(not_wasm(path, reason)),
        };
        // If the file changed during the read, its bytes belong to no identity.
        let after = Attributes::of(&file).map_err(|error| unreadable(path, error))?;
        let before = FileIdentity::of(&attributes, layers);
        let after = FileIdentity::of(&after, layers);
        let identity = before.filter(|before| Some(*before) == after);
        let bytes = ArtifactBytes::within(bytes, room);
        Ok(Artifact {
            path: program.path,
            function: program.function,
            kind,
            bytes,
            digest,
            identity,
        })
    }
}

fn not_wasm(path: &Path, reason: String) -> ArtifactError {
    let advice = if is_init(path) { NO_INIT } else { "" };
    ArtifactError::NotWasm { path: path.to_owned(), reason: format!("{reason}{advice}") }
}

/// True for an init program that a client has put before the program of a container.
pub(crate) fn is_init(path: &Path) -> bool {
    INITS.iter().any(|init| path == Path::new(init))
}

fn unreadable(path: &Path, error: io::Error) -> ArtifactError {
    ArtifactError::Read { path: path.to_owned(), source: Arc::new(error) }
}

/// Checks all that its first bytes and its sections' headers tell about a file.
fn checked(file: &File, attributes: &Attributes) -> io::Result<Result<(), String>> {
    let length = attributes.bytes;
    if attributes.kind != FileType::RegularFile {
        // Docker ends with 126 by these words, as execve(2) fails for a directory.
        return Ok(Err("is not a regular file: permission denied".into()));
    }
    if length > MAX_BYTES {
        return Ok(Err(format!("has {length} bytes, more than {MAX_BYTES}")));
    }
    let mut head = Vec::new();
    file.take(PREAMBLE).read_to_end(&mut head)?;
    if head.starts_with(b"\0asm") {
        return match kind(&head) {
            Ok(_) => sections::check(file, length),
            Err(reason) => Ok(Err(reason)),
        };
    }
    if length > MAX_TEXT_BYTES {
        // Too large for text and no binary: the rest of the file need not be read.
        let reason = kind(&head).err();
        return Ok(Err(
            reason.unwrap_or_else(|| format!("is text of more than {MAX_TEXT_BYTES} bytes"))
        ));
    }
    Ok(Ok(()))
}

/// Reads a file from its begin, and hashes each piece while it is in the processor's cache.
fn hashed(mut file: &File, length: u64) -> io::Result<(Vec<u8>, Digest)> {
    file.rewind()?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))?;
    let mut hasher = Hasher::default();
    // The file may grow while it is read: no more than its length, which was checked.
    let mut left = file.take(length);
    loop {
        let begin = bytes.len();
        if left.by_ref().take(PIECE).read_to_end(&mut bytes)? == 0 {
            return Ok((bytes, hasher.finish()));
        }
        hasher.update(&bytes[begin..]);
    }
}

/// Paths to search for a program: those of `execvp(3)`, then the working directory.
// The working directory, because images that are built from scratch often have no useful PATH.
fn candidates(name: &str, cwd: &Path, path: Option<&str>) -> Vec<PathBuf> {
    if name.contains('/') {
        // `join` returns an absolute name unchanged.
        return vec![cwd.join(name)];
    }
    let directories =
        path.unwrap_or_default().split(':').filter(|directory| directory.starts_with('/'));
    directories.map(Path::new).chain([cwd]).map(|directory| directory.join(name)).collect()
}

/// Splits `args[0]` into the name of a file or layer and that of an export.
pub(super) fn split_function(args: &[String]) -> (&str, Option<String>) {
    let name = args.first().map(String::as_str).unwrap_or_default();
    match name.rsplit_once('#') {
        // At the last `#`: a file name may contain `#` as well.
        Some((file, function)) if !function.is_empty() => (file, Some(function.to_owned())),
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settled_files_of_an_overlay_have_an_identity() {
        let layers = Some(Digest::of(b"/snapshots/2/fs:/snapshots/1/fs"));
        // Not the test's own program, which may have been linked within the last second.
        let old = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
        let old = Attributes::of(&old).unwrap();
        assert!(FileIdentity::of(&old, layers).is_some());
        assert_eq!(FileIdentity::of(&old, None), None);
        let new = Attributes::of(tempfile::tempfile().unwrap()).unwrap();
        assert_eq!(FileIdentity::of(&new, layers), None);
    }

    #[test]
    fn an_init_for_native_programs_is_refused_with_advice() {
        let text = |path| not_wasm(Path::new(path), "is not wasm".into()).to_string();
        assert_eq!(text("/bin/sh"), "/bin/sh: is not wasm");
        let refusal = text("/sbin/docker-init");
        assert!(
            refusal.contains("is not wasm; ") && refusal.contains("without --init"),
            "{refusal}"
        );
    }

    #[test]
    fn candidates_follow_execvp_with_cwd_last() {
        let at = |name, path| candidates(name, Path::new("/work"), path);
        assert_eq!(at("/a.wasm", Some("/bin")), [Path::new("/a.wasm")]);
        assert_eq!(at("sub/a.wasm", Some("/bin")), [Path::new("/work/sub/a.wasm")]);
        assert_eq!(at("./a.wasm", None), [Path::new("/work/./a.wasm")]);
        assert_eq!(
            at("a.wasm", Some("/bin:/usr/bin")),
            [Path::new("/bin/a.wasm"), Path::new("/usr/bin/a.wasm"), Path::new("/work/a.wasm")]
        );
        assert_eq!(at("a.wasm", Some("relative:")), [Path::new("/work/a.wasm")]);
    }
}
