//! Allowed directories for bundles. Only root can send requests to the node daemon; this check
//! keeps a confused client from making it read and write elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Reason for which a directory is refused as a bundle.
#[derive(Debug, thiserror::Error)]
#[error("bundle {}: {reason}", bundle.display())]
pub struct BundleError {
    /// The path as given.
    pub bundle: PathBuf,
    /// The reason.
    pub reason: String,
}

/// Returns the bundle's real path, without links, if it lies below one of the roots. Blocks.
pub fn check(bundle: &Path, roots: &[PathBuf]) -> Result<PathBuf, BundleError> {
    let wrong = |reason: String| BundleError { bundle: bundle.to_owned(), reason };
    if !bundle.is_absolute() {
        return Err(wrong("is not an absolute path".into()));
    }
    // Resolved before the comparison: a link below a root may lead out of it.
    let real = fs::canonicalize(bundle).map_err(|error| wrong(error.to_string()))?;
    let inside = |root: &PathBuf| -> io::Result<bool> {
        let root = fs::canonicalize(root)?;
        Ok(real != root && real.starts_with(root))
    };
    // A missing root contains no bundle.
    if !roots.iter().any(|root| inside(root).unwrap_or(false)) {
        let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
        return Err(wrong(format!(
            "lies outside the allowed roots (bundle-roots: {})",
            roots.join(", ")
        )));
    }
    if !real.is_dir() {
        return Err(wrong("is not a directory".into()));
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_directories_that_resolve_to_below_a_root_are_bundles() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let outside = directory.path().join("outside");
        fs::create_dir_all(root.join("bundle")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink(&outside, root.join("link")).unwrap();
        symlink(root.join("bundle"), outside.join("way-in")).unwrap();
        let roots = [directory.path().join("nowhere"), root.clone()];
        let check = |path: PathBuf| super::check(&path, &roots).map_err(|error| error.to_string());
        assert_eq!(check(root.join("bundle")), Ok(root.join("bundle").canonicalize().unwrap()));
        assert!(check(outside.join("way-in")).is_ok());
        for (path, reason) in [
            (root.join("link"), "outside the allowed roots"),
            (root.join("bundle/../../outside"), "outside the allowed roots"),
            (outside, "outside the allowed roots"),
            (root.clone(), "outside the allowed roots"),
            (root.join("file"), "not a directory"),
            (root.join("nothing"), "No such file"),
            ("relative".into(), "not an absolute path"),
        ] {
            let error = check(path.clone()).unwrap_err();
            assert!(error.contains(reason) && error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}
