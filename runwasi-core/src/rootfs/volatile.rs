//! Overlays with the mount option `volatile`: their end does not write back the file system below.
//!
//! The end of any other overlay syncs the whole file system that holds its upper directory, with
//! all that other programs have dirtied there. The price of the option is a marker, the directory
//! `$workdir/work/incompat/volatile`: where it is, the kernel refuses to mount, since it cannot
//! tell a clean end from a crash of the machine. We can, by an attribute of the work directory,
//! which has the id of the boot:
//!
//! ```text
//! mount: look for an attribute ─▶ set it ─▶ overlay, marker ─▶ set the marker aside
//! end:   unmount ─▶ remove the attribute
//! ```
//!
//! | a mount finds | meaning | it |
//! |---|---|---|
//! | no attribute | a clean end | mounts |
//! | that of this boot | a killed OS process. The kernel has all that was written | mounts |
//! | that of another boot | a crash of the machine: writes without an `fsync` may be missing | warns, mounts |
//! | a marker and an attribute | killed right after the mount | removes the marker first |
//! | a marker alone | an overlay of another program | is refused, as ever |
//!
//! The marker need not stay as long as the overlay: the kernel reads it in a mount and at no other
//! time. Without it others can mount the directories meanwhile, a `commit` of containerd 1.6 for
//! example, and afterwards runc, also if this OS process is killed. That is as it is with any
//! overlay without the option. The attribute is set before the marker exists, in the same file
//! system, whose journal keeps the order.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};

use super::{
    mounts::{MountConfig, overlay},
    waiting::Storage,
};
use crate::sys;

/// Extended attribute of the work directory of such an overlay: the id of the boot.
const ATTRIBUTE: &str = "trusted.runwasi.volatile";

/// The mount option.
const OPTION: &str = "volatile";

/// The kernel's marker in the work directory, and the file in it.
const MARKER: &str = "work/incompat/volatile";
const DIRTY: &str = "work/incompat/volatile/dirty";

/// Where in the work directory a marker does nothing. It goes with the snapshot: a file system
/// takes more time to remove two directories than to move one.
const ASIDE: &str = "runwasi.volatile";

/// A volatile overlay. Dropped when it is unmounted.
#[derive(Debug)]
pub(super) struct Volatile {
    /// Its upper directory.
    pub(super) upper: PathBuf,
    work: PathBuf,
    /// True if the marker could not be removed: the next mount has to know that it is ours.
    marked: bool,
}

impl Volatile {
    /// Mounts an overlay with the option. None if it needs none, or cannot have it: the caller
    /// mounts it without, and gets the error if there is one. `upper` is what holds its upper
    /// directory.
    pub(super) fn mount(
        bundle: &Path,
        mounts: &[MountConfig],
        (allowed, upper): (bool, Option<Storage>),
    ) -> Option<(OwnedFd, Self)> {
        // Nothing is written back from memory. So no overlay there has ever had the option, and the
        // work directory lies in the file system of the upper one.
        if upper == Some(Storage::Memory) {
            return None;
        }
        // Whatever is mounted now: a marker of ours would refuse it.
        for work in mounts.iter().filter_map(|mount| mount.overlay_option("workdir")) {
            remove_left(bundle, Path::new(work));
        }
        let [only] = mounts else { return None };
        if !allowed || upper == Some(Storage::Unknown) {
            return None;
        }
        let (upper, work) = directories(only)?;
        // Another program's. Without the option the kernel tells its reason.
        if work.join(MARKER).exists() {
            return None;
        }
        setxattr(&work, ATTRIBUTE, boot()?.as_bytes(), XattrFlags::empty()).ok()?;
        let mut config = only.clone();
        config.options.push(OPTION.to_owned());
        let mounted = overlay(&config);
        // Also after an error, which may be one of the last step.
        let removed = set_aside(&work);
        if let Err(error) = &removed {
            warn_of_rest(&work, error);
        }
        let volatile = Self { upper, work, marked: removed.is_err() };
        mounted.ok().map(|mount| (mount, volatile))
    }
}

impl Drop for Volatile {
    fn drop(&mut self) {
        if !self.marked {
            // An error: the snapshot has gone. At worst the next mount warns for nothing.
            let _ = removexattr(&self.work, ATTRIBUTE);
        }
    }
}

/// Removes what an earlier container has left in a work directory. `bundle` has the id of the
/// present one as its name.
fn remove_left(bundle: &Path, work: &Path) {
    let Some(left) = left_in(work) else { return };
    if boot() != Some(&left) {
        tracing::warn!(
            container = %bundle.file_name().unwrap_or_default().to_string_lossy(),
            work = %work.display(),
            "the machine has stopped while a container used this root file system: what was written \
             without fsync may be missing"
        );
    }
    match remove_marker(work) {
        // An error: the next mount finds it again.
        Ok(()) => drop(removexattr(work, ATTRIBUTE)),
        // The mount tells that the kernel refuses it.
        Err(error) => warn_of_rest(work, &error),
    }
}

fn warn_of_rest(work: &Path, error: &io::Error) {
    tracing::warn!(work = %work.display(), %error, "the marker of a volatile overlay stays behind");
}

/// The boot of the overlay that has not ended.
fn left_in(work: &Path) -> Option<String> {
    let mut value = [0; 64];
    let length = getxattr(work, ATTRIBUTE, &mut value).ok()?;
    Some(String::from_utf8_lossy(&value[..length]).into_owned())
}

fn set_aside(work: &Path) -> io::Result<()> {
    match existing(fs::rename(work.join(MARKER), work.join(ASIDE))) {
        // The marker of an earlier container lies there.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => remove_marker(work),
        done => done,
    }
}

fn remove_marker(work: &Path) -> io::Result<()> {
    existing(fs::remove_file(work.join(DIRTY)))?;
    existing(fs::remove_dir(work.join(MARKER)))
}

/// Success, also without the file that was to go.
fn existing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// Upper and work directory of an overlay that is to be volatile.
fn directories(mount: &MountConfig) -> Option<(PathBuf, PathBuf)> {
    // If containerd asks for the option itself, it also means the refusal of the next mount.
    if mount.has(OPTION) {
        return None;
    }
    let path = |key| {
        let path = mount.overlay_option(key)?;
        // The kernel reads a backslash as an escape.
        (path.starts_with('/') && !path.contains('\\')).then(|| PathBuf::from(path))
    };
    Some((path("upperdir")?, path("workdir")?))
}

fn boot() -> Option<&'static str> {
    static ID: OnceLock<Option<String>> = OnceLock::new();
    ID.get_or_init(|| sys::boot_id().ok()).as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bundle, and an overlay on the disk of the temporary files.
    fn overlay_config() -> (tempfile::TempDir, MountConfig) {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let bundle = tempfile::tempdir().unwrap();
        for name in ["lower", "upper", "work"] {
            fs::create_dir(bundle.path().join(name)).unwrap();
        }
        let option = |name: &str| format!("{name}dir={}", bundle.path().join(name).display());
        let options = ["lower", "upper", "work"].map(option).to_vec();
        (bundle, MountConfig { kind: "overlay".into(), source: "overlay".into(), options })
    }

    fn asked(config: &MountConfig) -> MountConfig {
        let mut asked = config.clone();
        asked.options.push(OPTION.to_owned());
        asked
    }

    fn mount(bundle: &Path, config: &MountConfig) -> Option<(OwnedFd, Volatile)> {
        mount_if(bundle, config, true)
    }

    fn mount_if(bundle: &Path, config: &MountConfig, allowed: bool) -> Option<(OwnedFd, Volatile)> {
        let mounts = std::slice::from_ref(config);
        Volatile::mount(bundle, mounts, (allowed, Storage::of_upper(mounts)))
    }

    fn has_marker(bundle: &Path) -> bool {
        bundle.join("work").join(MARKER).exists()
    }

    fn attribute(bundle: &Path) -> Option<String> {
        left_in(&bundle.join("work"))
    }

    #[test]
    fn overlay_leaves_no_marker_and_its_end_no_attribute() {
        let (bundle, config) = overlay_config();
        let bundle = bundle.path();
        for _ in 0..2 {
            let (mounted, volatile) = mount(bundle, &config).unwrap();
            assert!(!has_marker(bundle));
            assert_eq!(attribute(bundle).as_deref(), boot());
            drop(overlay(&config).expect("others can mount it meanwhile"));
            drop(mounted);
            drop(volatile);
            assert_eq!(attribute(bundle), None);
        }
    }

    #[test]
    fn marker_of_a_killed_process_does_not_refuse_the_next_mount() {
        let (bundle, config) = overlay_config();
        let bundle = bundle.path();
        let other_boot = "00000000-0000-0000-0000-000000000000";
        for boot in [boot().unwrap(), other_boot] {
            // Killed before the removal.
            setxattr(bundle.join("work"), ATTRIBUTE, boot.as_bytes(), XattrFlags::empty()).unwrap();
            drop(overlay(&asked(&config)).unwrap());
            assert!(has_marker(bundle) && overlay(&config).is_err());
            drop(mount(bundle, &config).unwrap());
            assert!(!has_marker(bundle) && attribute(bundle).is_none());
        }
        // Nor one without the option.
        std::mem::forget(mount(bundle, &config).unwrap().1);
        assert!(mount_if(bundle, &config, false).is_none());
        assert_eq!(attribute(bundle), None);
    }

    #[test]
    fn marker_of_another_program_refuses_the_mount() {
        let (bundle, config) = overlay_config();
        let bundle = bundle.path();
        drop(overlay(&asked(&config)).unwrap());
        for config in [&config, &asked(&config)] {
            assert!(mount(bundle, config).is_none() && overlay(config).is_err());
            assert!(has_marker(bundle) && attribute(bundle).is_none());
        }
    }

    #[test]
    fn option_that_containerd_asks_for_keeps_its_marker() {
        let (bundle, config) = overlay_config();
        let bundle = bundle.path();
        // Left by a killed process.
        std::mem::forget(mount(bundle, &config).unwrap().1);
        assert!(mount(bundle, &asked(&config)).is_none() && attribute(bundle).is_none());
        drop(overlay(&asked(&config)).unwrap());
        assert!(has_marker(bundle));
    }

    #[test]
    fn overlay_in_memory_is_not_volatile() {
        let (bundle, mut config) = overlay_config();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        for name in ["upper", "work"] {
            let there = memory.path().join(name);
            fs::create_dir(&there).unwrap();
            config.options.retain(|option| !option.starts_with(name));
            config.options.push(format!("{name}dir={}", there.display()));
        }
        assert!(mount(bundle.path(), &config).is_none());
        assert_eq!(left_in(&memory.path().join("work")), None);
        drop(overlay(&config).unwrap());
    }

    #[test]
    fn only_writable_overlays_are_volatile() {
        let mount = |options: &[&str]| MountConfig {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let accepted = |options: &[&str]| directories(&mount(options)).is_some();
        assert!(accepted(&["lowerdir=/l", "upperdir=/", "workdir=/w"]));
        assert!(!accepted(&["lowerdir=/l:/m"]));
        assert!(!accepted(&["lowerdir=/l", "upperdir=/", "workdir=w"]));
        assert!(!accepted(&["lowerdir=/l", "upperdir=/", "workdir=/w\\:x"]));
        assert!(!accepted(&["lowerdir=/l", "upperdir=/", "workdir=/w", "volatile"]));
    }
}
