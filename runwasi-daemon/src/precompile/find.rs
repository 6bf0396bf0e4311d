//! Search for WebAssembly in files: in the file itself, or in the tars of an image. They may be
//! compressed and nested. All reads are bounded, since the sizes in a tar are not trusted.

use std::{
    cell::Cell,
    collections::HashSet,
    fmt::Display,
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
    rc::Rc,
};

use flate2::read::MultiGzDecoder;
use runwasi_core::{
    artifact::{Artifact, MAX_BYTES},
    digest::Digest,
    regular_file::{ReadError, open_regular},
    sanitize,
};

use super::zstd::{self, Zstd};

/// Most levels of tars and compressions that are opened within each other.
// A gzipped image with gzipped layers has four. There are files that unpack to themselves.
const MAX_DEPTH: u32 = 4;
/// Limit of all artifacts together, in bytes.
const MAX_TOTAL: u64 = 4 << 30;
/// Limit of the bytes that are read of one file and unpacked from it, at all depths together.
const MAX_UNPACKED: u64 = 16 << 30;

/// Number of bytes by which a format is recognized.
// The header of a tar. Its mark comes later than that of any other format.
const HEAD: usize = 512;
/// Place of the mark in the header of a tar.
const TAR_MARK: std::ops::Range<usize> = 257..262;

/// Result of a search: artifacts and faults.
#[derive(Default)]
pub(super) struct Finding {
    pub(super) artifacts: Vec<Artifact>,
    pub(super) faults: Vec<String>,
    /// Digests of the artifacts.
    seen: HashSet<Digest>,
    /// Bytes of all artifacts.
    total: u64,
    /// Bytes that may still be read of the current file. Shared with its readers.
    left: Rc<Cell<u64>>,
}

impl Finding {
    /// Searches a file of the command line, which must contain WebAssembly.
    pub(super) fn file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let found = open(path).and_then(|file| self.whole(&name, file, true));
        match found {
            Err(error) => self.fault(&name, &error),
            Ok(FileContent::Wasm) => {}
            Ok(FileContent::Tar(0)) => self.faults.push(format!("{name}: no wasm in it")),
            Ok(FileContent::Tar(_)) => {}
            Ok(FileContent::Other) => {
                self.faults.push(format!("{name}: neither wasm nor a tar with wasm in it"))
            }
        }
    }

    /// Searches a layer of an image, which may contain no WebAssembly. Returns the number of
    /// artifacts in it.
    pub(super) fn layer(&mut self, name: &str, bytes: Vec<u8>) -> usize {
        let name = &sanitize::line(name);
        match self.whole(name, Cursor::new(bytes), false) {
            Ok(FileContent::Wasm) => 1,
            Ok(FileContent::Tar(found)) => found,
            Ok(FileContent::Other) => 0,
            Err(error) => {
                self.fault(name, &error);
                0
            }
        }
    }

    /// Notes a fault of the file `name`.
    pub(super) fn fault(&mut self, name: &str, error: &dyn Display) {
        // Some errors name the file themselves.
        let text = error.to_string();
        self.faults.push(if text.starts_with(name) { text } else { format!("{name}: {text}") });
    }

    /// Searches a file or a layer, with a new limit of bytes.
    fn whole(&mut self, name: &str, bytes: impl Read, named: bool) -> io::Result<FileContent> {
        self.left.set(MAX_UNPACKED);
        let stream = self.bounded(bytes);
        self.stream(name, stream, 0, named)
    }

    /// A reader within the limit of the current file.
    fn bounded<R>(&self, inner: R) -> Bounded<R> {
        Bounded { left: self.left.clone(), inner }
    }

    /// Searches a stream of any format. A `named` stream may also be WebAssembly text, which has no
    /// mark.
    fn stream(
        &mut self,
        name: &str,
        mut stream: Bounded<impl Read>,
        depth: u32,
        named: bool,
    ) -> io::Result<FileContent> {
        let mut head = Vec::new();
        stream.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        // At the greatest depth nothing is opened any more, but WebAssembly is still taken.
        let kind = Kind::of(&head).filter(|kind| *kind == Kind::Wasm || depth < MAX_DEPTH);
        let mut stream = Cursor::new(head).chain(stream);
        // Boxed: with generic readers, each level would have a type that contains the one before
        // it, and the compiler would never come to an end.
        let inner: Box<dyn Read> = match kind {
            None if named => return self.artifact(name, stream),
            None => return Ok(FileContent::Other),
            Some(Kind::Wasm) => return self.artifact(name, stream),
            Some(Kind::Tar) => return self.tar(name, &mut stream, depth),
            Some(Kind::Gzip) => Box::new(MultiGzDecoder::new(stream)),
            Some(Kind::Zstd) => Box::new(Zstd::new(stream)),
        };
        // Bounded again: a few compressed bytes may unpack to any number.
        let inner = self.bounded(inner);
        self.stream(name, inner, depth + 1, named)
    }

    /// Searches all files in a tar.
    fn tar(&mut self, name: &str, stream: &mut dyn Read, depth: u32) -> io::Result<FileContent> {
        let mut found = 0;
        for entry in tar::Archive::new(stream).entries()? {
            let entry = entry?;
            // Links have no content of their own.
            if !entry.header().entry_type().is_file() {
                continue;
            }
            // On one line: the name of a file may have line breaks, and would forge lines.
            let path = sanitize::line(&String::from_utf8_lossy(&entry.path_bytes()));
            let inside = format!("{name}:{path}");
            let entry = self.bounded(Box::new(entry) as Box<dyn Read>);
            match self.stream(&inside, entry, depth + 1, false) {
                Ok(FileContent::Wasm) => found += 1,
                Ok(FileContent::Tar(more)) => found += more,
                Ok(FileContent::Other) => {}
                // Only a fault: the next entries may be valid. If the tar itself is damaged, the
                // next entry is an error, too, and ends the search.
                Err(error) => self.fault(&inside, &error),
            }
        }
        Ok(FileContent::Tar(found))
    }

    /// Takes the rest of a stream as an artifact.
    fn artifact(&mut self, name: &str, stream: impl Read) -> io::Result<FileContent> {
        let mut bytes = Vec::new();
        // One byte more than the limit, which tells a longer file from one at the limit.
        stream.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("{name}: more than {MAX_BYTES} bytes")));
        }
        let artifact = Artifact::of_bytes(name.into(), bytes).map_err(io::Error::other)?;
        // Images share layers, so an artifact may come more than once.
        if self.seen.insert(artifact.digest) {
            self.total += artifact.bytes.len() as u64;
            if self.total > MAX_TOTAL {
                return Err(io::Error::other(format!(
                    "more than {MAX_TOTAL} bytes of wasm at once"
                )));
            }
            self.artifacts.push(artifact);
        }
        Ok(FileContent::Wasm)
    }
}

/// Format of a stream by its first bytes. WebAssembly text cannot be recognized.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Wasm,
    Tar,
    Gzip,
    Zstd,
}

impl Kind {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [b'\0', b'a', b's', b'm', ..] => Some(Self::Wasm),
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            _ if zstd::begins(head) => Some(Self::Zstd),
            _ => (head.get(TAR_MARK) == Some(b"ustar".as_slice())).then_some(Self::Tar),
        }
    }
}

/// A reader of a file or of unpacked data. All readers of one file share its limit.
// Without it a small file could unpack to any size and hold the command for ever.
struct Bounded<R> {
    left: Rc<Cell<u64>>,
    inner: R,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.get().checked_sub(read as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other(format!("more than {MAX_UNPACKED} bytes in all"))),
        }
        Ok(read)
    }
}

/// Content of a file.
enum FileContent {
    Wasm,
    /// A tar with this number of artifacts.
    Tar(usize),
    Other,
}

/// Opens a regular file.
fn open(path: &Path) -> io::Result<File> {
    open_regular(path).map_err(|error| match error {
        ReadError::NotRegular => io::Error::other("not a regular file"),
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use flate2::{Compression, write::GzEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    const WASM: &[u8] = b"\0asm\x01\0\0\0";

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    /// Names of the artifacts, and the faults, with `F` for the path of the file.
    fn found(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, bytes).unwrap();
        let mut finding = Finding::default();
        finding.file(&path);
        let short = |text: String| text.replace(&path.display().to_string(), "F");
        let names =
            finding.artifacts.iter().map(|artifact| short(artifact.path.display().to_string()));
        (names.collect(), finding.faults.into_iter().map(short).collect())
    }

    #[test]
    fn wasm_is_found_as_binary_as_text_and_in_layers_of_an_image() {
        let (names, faults) = found(WASM);
        assert_eq!((names, faults), (vec!["F".to_owned()], vec![]));
        assert_eq!(found(b"(component)").0, ["F"]);
        let layer = gzip(&tar(&[
            ("bin/a.wasm", &[WASM, b"\0\x02\x01a"].concat()),
            ("bin/sh", b"\x7fELF"),
            ("t", b"(module)"),
        ]));
        let image = tar(&[
            ("blobs/sha256/1", &layer),
            ("blobs/sha256/2", WASM),
            ("again", WASM),
            ("index.json", b"{}"),
        ]);
        assert_eq!(found(&image).0, ["F:blobs/sha256/1:bin/a.wasm", "F:blobs/sha256/2"]);
        assert_eq!(found(&gzip(&image)).0.len(), 2);
        let zstd = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
        assert_eq!(
            found(&zstd(&tar(&[("layer", &zstd(&tar(&[("bin/a.wasm", WASM)])))]))).0,
            ["F:layer:bin/a.wasm"]
        );
    }

    #[test]
    fn name_in_a_tar_forges_no_line() {
        let (names, faults) = found(&tar(&[("a\nok: b\u{1b}[2J", WASM), ("c\nd", b"\0asm")]));
        assert_eq!(names, ["F:a\\nok: b\\u{1b}[2J"]);
        assert!(faults.len() == 1 && faults[0].starts_with("F:c\\nd: "), "{faults:?}");
    }

    #[test]
    fn a_file_without_wasm_is_a_fault() {
        for (bytes, fault) in [
            (tar(&[("a", b"x")]), "F: no wasm in it"),
            (b"{}".to_vec(), "F: is not wasm: it begins with 7b 7d"),
            (gzip(b"{}")[..12].to_vec(), "F: "),
        ] {
            let (names, faults) = found(&bytes);
            assert!(
                names.is_empty() && faults.len() == 1 && faults[0].starts_with(fault),
                "{faults:?}"
            );
        }
        let mut finding = Finding::default();
        finding.file(Path::new("/absent/x.wasm"));
        finding.file(Path::new("/"));
        assert_eq!(finding.faults.len(), 2);
    }

    #[test]
    fn levels_beyond_the_limit_are_not_opened() {
        let mut tarred = tar(&[("a.wasm", WASM)]);
        let mut gzipped = WASM.to_vec();
        for _ in 0..4 {
            tarred = tar(&[("next.tar", &tarred)]);
            gzipped = gzip(&gzipped);
        }
        assert_eq!(found(&gzipped).0.len(), 1);
        assert_eq!(found(&tarred).1, ["F: no wasm in it"]);
        assert_eq!(found(&gzip(&gzipped)).1, ["F: is not wasm: it begins with 1f 8b 08 00"]);
    }
}
