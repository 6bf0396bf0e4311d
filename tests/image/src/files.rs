//! The files of a plain image's one layer. Filled by [`crate::ImageBuilder`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What `cli` and callers give when they name no mode.
pub const FILE_MODE: u32 = 0o644;
/// Mode of directories, also of those that only exist because a file lies in them.
pub const DIRECTORY_MODE: u32 = 0o755;

/// A tree of files and directories, kept sorted: the tar's order does not depend on the order of the calls, and a
/// directory always comes before what lies in it.
#[derive(Clone, Debug, Default)]
pub struct Files {
    nodes: BTreeMap<PathBuf, Node>,
}

#[derive(Clone, Debug)]
enum Node {
    /// `explicit` when the caller asked for it (and its mode), not merely for something in it.
    Directory {
        mode: u32,
        explicit: bool,
    },
    File {
        mode: u32,
        content: Vec<u8>,
    },
}

impl Files {
    /// Takes the file `source` of this machine as `destination` of the image.
    pub fn add_file(&mut self, source: &Path, destination: &str, mode: u32) -> Result<()> {
        let content = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        let path = self.place(destination)?;
        match self.nodes.entry(path) {
            Entry::Occupied(_) => bail!("{destination} is in the image twice"),
            Entry::Vacant(free) => free.insert(Node::File { mode, content }),
        };
        Ok(())
    }

    /// Creates a directory, or sets the mode of one that exists because something lies in it.
    pub fn add_directory(&mut self, destination: &str, mode: u32) -> Result<()> {
        let path = self.place(destination)?;
        match self.nodes.get(&path) {
            Some(Node::Directory { explicit: false, .. }) | None => {}
            Some(_) => bail!("{destination} is in the image twice"),
        }
        let explicit = true;
        self.nodes.insert(path, Node::Directory { mode, explicit });
        Ok(())
    }

    /// Checks a destination, creates its parents and returns its name in the tar.
    fn place(&mut self, destination: &str) -> Result<PathBuf> {
        let path = relative(destination)?;
        let mut parent = PathBuf::new();
        for part in path.parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            match self.nodes.entry(parent.clone()) {
                Entry::Occupied(node) => {
                    if let Node::File { .. } = node.get() {
                        bail!("{destination}: /{} is a file", parent.display());
                    }
                }
                Entry::Vacant(free) => {
                    free.insert(Node::Directory { mode: DIRECTORY_MODE, explicit: false });
                }
            }
        }
        Ok(path)
    }

    /// The layer: an uncompressed tar, everything owned by root, all times zero.
    pub fn to_tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_ustar();
            let (kind, mode, content) = match node {
                Node::Directory { mode, .. } => (tar::EntryType::Directory, *mode, &[][..]),
                Node::File { mode, content } => (tar::EntryType::Regular, *mode, &content[..]),
            };
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, path, content)
                .with_context(|| format!("add /{} to the layer", path.display()))?;
        }
        tar.into_inner().context("finish the layer")
    }
}

/// `/a/b` as `a/b`; anything that is not a plain absolute path is refused.
fn relative(destination: &str) -> Result<PathBuf> {
    let mut parts = Path::new(destination).components();
    if parts.next() != Some(Component::RootDir) {
        bail!("destination {destination:?} is not an absolute path");
    }
    let path = PathBuf::from_iter(parts.clone());
    if path.as_os_str().is_empty() || parts.any(|part| !matches!(part, Component::Normal(_))) {
        bail!("destination {destination:?} does not name a file below /");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn parents_come_first_and_order_of_calls_does_not_matter() {
        let mut one = Files::default();
        one.add_directory("/tmp", 0o1777).unwrap();
        one.add_file(Path::new("Cargo.toml"), "/a/b/c", 0o600).unwrap();
        let mut other = Files::default();
        other.add_file(Path::new("Cargo.toml"), "/a/b/c", 0o600).unwrap();
        other.add_directory("/tmp", 0o1777).unwrap();

        let bytes = one.to_tar().unwrap();
        assert_eq!(bytes, other.to_tar().unwrap());
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
            let path = entry.path().unwrap().display().to_string();
            seen.push((path, header.mode().unwrap(), content.len()));
        }
        let size = fs::read("Cargo.toml").unwrap().len();
        let expected = [
            ("a", DIRECTORY_MODE, 0),
            ("a/b", DIRECTORY_MODE, 0),
            ("a/b/c", 0o600, size),
            ("tmp", 0o1777, 0),
        ];
        let expected: Vec<_> = expected.map(|(p, m, s)| (p.to_owned(), m, s)).into();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_directory_that_a_file_created_takes_a_mode_later() {
        let mut files = Files::default();
        files.add_file(Path::new("Cargo.toml"), "/tmp/a", FILE_MODE).unwrap();
        files.add_directory("/tmp", 0o1777).unwrap();
        assert!(files.add_directory("/tmp", 0o700).is_err());
    }

    #[test]
    fn destinations_outside_the_image_or_in_the_way_are_refused() {
        let mut files = Files::default();
        for bad in ["", "a", "/", "/..", "/a/../../b", "a:/b"] {
            let error = files.add_directory(bad, DIRECTORY_MODE).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
        files.add_file(Path::new("Cargo.toml"), "/a", FILE_MODE).unwrap();
        let error = files.add_directory("/a/b", DIRECTORY_MODE).unwrap_err();
        assert_eq!(error.to_string(), "/a/b: /a is a file");
        let error = files.add_file(Path::new("Cargo.toml"), "/a", FILE_MODE).unwrap_err();
        assert_eq!(error.to_string(), "/a is in the image twice");
    }

    #[test]
    fn an_unreadable_source_is_named() {
        let error =
            Files::default().add_file(Path::new("/no/such/file"), "/a", FILE_MODE).unwrap_err();
        assert_eq!(error.to_string(), "read /no/such/file");
    }
}
