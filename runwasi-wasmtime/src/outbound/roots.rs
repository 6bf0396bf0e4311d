//! Root certificates of the container, for its outgoing HTTPS.
//!
//! | looked at, in this order | |
//! |---|---|
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` of the environment | what they name counts, and nothing else |
//! | [`BUNDLES`] | the first file that is there |
//!
//! Guest and image control these files. So they are opened inside the guest's file system, must be
//! regular files, and are limited in size. One that is named and unfit is an error, never a reason
//! to trust others.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use runwasi_core::{InstanceSpec, regular_file::read_opened, rootfs::Rootfs};
use rustix::fs::Dir;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

/// Variables of the environment, as OpenSSL reads them.
const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// Bundles of the distributions: Debian, Alpine and Arch; Fedora; openSUSE; older ones; OpenSSL.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Most bytes of all files together. Mozilla's bundle has a quarter of a megabyte.
const MAX_BYTES: u64 = 4 << 20;
/// Most files of the directories together.
const MAX_FILES: usize = 1024;

/// Paths in the environment of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    file: Option<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Named {
    pub(super) fn of(spec: &InstanceSpec) -> Self {
        Self::new(&spec.cwd, spec.env(FILE), spec.env(DIRECTORIES))
    }

    fn new(cwd: &Path, file: Option<&str>, directories: Option<&str>) -> Self {
        let path = |text: &str| cwd.join(text);
        let directories = directories.unwrap_or_default().split(':');
        Self {
            file: file.filter(|file| !file.is_empty()).map(path),
            directories: directories.filter(|text| !text.is_empty()).map(path).collect(),
        }
    }

    /// Reads the container's certificates. Absent if it has no place for them. An error names the
    /// file. Blocks. Opens the files with the credentials of the calling thread, so it has to be
    /// called as the host.
    pub(super) fn read(
        &self,
        rootfs: &Rootfs,
    ) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
        let mut found = CertificateReader { rootfs, certificates: Vec::new(), left: MAX_BYTES };
        if *self != Self::default() {
            if let Some(file) = &self.file {
                found.file(file)?;
            }
            self.directories.iter().try_for_each(|directory| found.directory(directory))?;
            return found.some().map(Some);
        }
        for bundle in BUNDLES.map(Path::new) {
            if found.exists(bundle)? {
                found.file(bundle)?;
                return found.some().map(Some);
            }
        }
        Ok(None)
    }
}

struct CertificateReader<'a> {
    rootfs: &'a Rootfs,
    certificates: Vec<CertificateDer<'static>>,
    /// Bytes that may still be read.
    left: u64,
}

impl CertificateReader<'_> {
    fn exists(&self, path: &Path) -> Result<bool, String> {
        match self.rootfs.open(path) {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(false)
            }
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn file(&mut self, path: &Path) -> Result<(), String> {
        let wrong = |reason: String| format!("{}: {reason}", path.display());
        let file = self.rootfs.open(path).map_err(|error| wrong(error.to_string()))?;
        let bytes = read_opened(&file, self.left).map_err(|error| wrong(error.to_string()))?;
        self.left -= bytes.len() as u64;
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            self.certificates.push(certificate.map_err(|error| wrong(error.to_string()))?);
        }
        Ok(())
    }

    /// All files of a directory, as `openssl rehash` leaves them: with links to the same files.
    fn directory(&mut self, path: &Path) -> Result<(), String> {
        let wrong = |reason: String| format!("{}: {reason}", path.display());
        let directory = self.rootfs.open(path).map_err(|error| wrong(error.to_string()))?;
        let entries = Dir::read_from(&directory).map_err(|error| wrong(error.to_string()))?;
        for (n, entry) in entries.enumerate() {
            if n >= MAX_FILES {
                return Err(wrong(format!("has more than {MAX_FILES} files")));
            }
            let entry = entry.map_err(|error| wrong(error.to_string()))?;
            let file = path.join(&*entry.file_name().to_string_lossy());
            // Directories are no certificates, and a link may lead nowhere.
            let opened = self.rootfs.open(&file).and_then(|file| file.metadata());
            if opened.is_ok_and(|metadata| metadata.is_file()) {
                self.file(&file)?;
            }
        }
        Ok(())
    }

    fn some(self) -> Result<Vec<CertificateDer<'static>>, String> {
        match self.certificates.is_empty() {
            true => Err(format!("no certificates in the files of {FILE}, {DIRECTORIES} or /etc")),
            false => Ok(self.certificates),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_environment_are_those_of_the_container() {
        let named = |file, directories| Named::new(Path::new("/work"), file, directories);
        assert_eq!(named(None, None), Named::default());
        assert_eq!(named(Some(""), Some(":")), Named::default());
        let both = named(Some("ca.pem"), Some("/a::b"));
        assert_eq!(both.file.as_deref(), Some(Path::new("/work/ca.pem")));
        assert_eq!(both.directories, [Path::new("/a"), Path::new("/work/b")]);
    }
}
