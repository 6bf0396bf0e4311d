//! Allowed directories for bundles. Only root can send requests to the node daemon; this check
//! keeps a confused client from making it read and write elsewhere.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Reason for which a directory is refused as a bundle.
#[derive(Debug, thiserror::Error)]
#[error("bundle {}: {reason}", bundle.display())]
pub struct BundleError {
    /// The path as given.
    pub bundle: PathBuf,
    /// The reason.
    pub reason: String,
}

/// Returns the bundle's path, without links below the root, if it lies below one of the roots.
/// Blocks.
pub fn check(bundle: &Path, roots: &[PathBuf]) -> Result<PathBuf, BundleError> {
    // Nearly every bundle: the rest has the reasons for which one is refused.
    match roots.iter().find_map(|root| directly_below(bundle, root)) {
        Some(bundle) => Ok(bundle),
        None => resolve(bundle, roots),
    }
}

/// The path of a directory that lies below a root by its text, if it has no links there. Without a
/// result it may lie below all the same.
fn directly_below(bundle: &Path, root: &Path) -> Option<PathBuf> {
    let rest = bundle.strip_prefix(root).ok().filter(|_| root.is_absolute())?;
    let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
    if rest.components().next().is_none() || !rest.components().all(is_name) {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The root itself may be reached by links.
    let opened = openat(CWD, root, flags, Mode::empty()).ok()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(opened, rest, flags, Mode::empty(), resolve).ok()?;
    Some(root.join(rest))
}

/// The same for any bundle.
fn resolve(bundle: &Path, roots: &[PathBuf]) -> Result<PathBuf, BundleError> {
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

    #[test]
    fn what_lies_directly_below_a_root_is_what_resolves_to_below_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = |path: &str| directory.path().join(path);
        fs::create_dir_all(place("root/a/bundle")).unwrap();
        fs::create_dir_all(place("rooted/bundle")).unwrap();
        fs::write(place("root/file"), "").unwrap();
        symlink("root", place("by-link")).unwrap();
        symlink("a", place("root/link")).unwrap();
        symlink("../rooted", place("root/out")).unwrap();
        let roots = ["nowhere", "root", "by-link", "root/a", "root/file"].map(place);
        for (path, direct) in [
            ("root/a/bundle", true),
            ("root/./a//bundle/", true),
            ("by-link/a/bundle", true),
            ("root/a", true),
            ("root/link", false),
            ("root/link/bundle", false),
            ("root/out/bundle", false),
            ("root/a/..", false),
            ("root/a/../a", false),
            ("root/a/../../rooted/bundle", false),
            ("root", false),
            ("root/.", false),
            ("by-link/", false),
            ("rooted/bundle", false),
            ("root/file", false),
            ("root/file/below", false),
            ("root/missing", false),
            ("nowhere/bundle", false),
        ] {
            let path = place(path);
            let found = roots.iter().find_map(|root| directly_below(&path, root));
            assert_eq!(found.is_some(), direct, "{}", path.display());
            let text = |checked: Result<PathBuf, BundleError>| {
                let real = checked.map(|path| path.canonicalize().unwrap());
                real.map_err(|error| error.to_string())
            };
            assert_eq!(text(check(&path, &roots)), text(resolve(&path, &roots)));
            if let Some(found) = found {
                assert_eq!(text(Ok(found)), text(resolve(&path, &roots)));
            }
        }
    }
}
