//! Where bundles may lie. Only root can ask the node daemon for anything; this keeps a confused client from making it read and
//! write elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why a directory is no bundle.
#[derive(Debug, thiserror::Error)]
#[error("bundle {}: {reason}", bundle.display())]
pub struct BundleError {
    /// The path as given.
    pub bundle: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// The bundle's real path, without links, if it lies below one of the roots. Blocks.
pub fn check(bundle: &Path, roots: &[PathBuf]) -> Result<PathBuf, BundleError> {
    let wrong = |reason: String| BundleError { bundle: bundle.to_owned(), reason };
    if !bundle.is_absolute() {
        return Err(wrong("is not an absolute path".into()));
    }
    let real = fs::canonicalize(bundle).map_err(|error| wrong(error.to_string()))?;
    let inside = |root: &PathBuf| -> io::Result<bool> {
        let root = fs::canonicalize(root)?;
        Ok(real != root && real.starts_with(root))
    };
    // A root that is not there holds nothing.
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
    fn only_directories_below_a_root_are_bundles_whatever_way_leads_there() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (directory.path().join("root"), directory.path().join("outside"));
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
