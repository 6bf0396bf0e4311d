//! Options of `mounts` in `config.json`, as runc takes them.
//!
//! Plain options change one mount. The recursive ones (`rro`, …) change the mounts below it, too.
//! All mounts of a guest are `nodev,nosuid`, so the options of these two have no effect.

use rustix::mount::MountAttrFlags;

use crate::sys::MountAttributes;

/// Known options and their effects.
const OPTIONS: &[(&str, Effect)] = &[
    ("acl", Effect::None),
    ("async", Effect::None),
    ("atime", Effect::Top(MountAttributes::access_time(MountAttrFlags::MOUNT_ATTR_RELATIME))),
    ("bind", Effect::Bind { recursive: false }),
    ("defaults", Effect::None),
    ("dev", Effect::None),
    ("diratime", Effect::Top(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_NODIRATIME))),
    // Writes of a tmpfs have no disk to wait for, and a bind has these from its file system.
    ("dirsync", Effect::None),
    ("exec", Effect::Top(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_NOEXEC))),
    ("iversion", Effect::None),
    ("lazytime", Effect::None),
    ("loud", Effect::None),
    ("mand", Effect::None),
    ("noacl", Effect::None),
    ("noatime", Effect::Top(MountAttributes::access_time(MountAttrFlags::MOUNT_ATTR_NOATIME))),
    ("nodev", Effect::None),
    ("nodiratime", Effect::Top(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_NODIRATIME))),
    ("noexec", Effect::Top(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_NOEXEC))),
    ("noiversion", Effect::None),
    ("nolazytime", Effect::None),
    ("nomand", Effect::None),
    ("norelatime", Effect::None),
    ("nostrictatime", Effect::Top(RELATIVE)),
    ("nosuid", Effect::None),
    ("nosymfollow", Effect::Top(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW))),
    ("private", Effect::Propagation(Propagation::Private)),
    ("ratime", Effect::Tree(RELATIVE)),
    ("rbind", Effect::Bind { recursive: true }),
    ("rdev", Effect::None),
    ("rdiratime", Effect::Tree(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_NODIRATIME))),
    ("relatime", Effect::Top(RELATIVE)),
    ("rexec", Effect::Tree(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_NOEXEC))),
    ("rnoatime", Effect::Tree(MountAttributes::access_time(MountAttrFlags::MOUNT_ATTR_NOATIME))),
    ("rnodev", Effect::None),
    ("rnodiratime", Effect::Tree(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_NODIRATIME))),
    ("rnoexec", Effect::Tree(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_NOEXEC))),
    ("rnorelatime", Effect::None),
    ("rnostrictatime", Effect::Tree(RELATIVE)),
    ("rnosuid", Effect::None),
    ("rnosymfollow", Effect::Tree(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW))),
    ("ro", Effect::Top(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY))),
    ("rprivate", Effect::Propagation(Propagation::Private)),
    ("rrelatime", Effect::Tree(RELATIVE)),
    ("rro", Effect::Tree(MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY))),
    ("rrw", Effect::Tree(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_RDONLY))),
    ("rshared", Effect::Propagation(Propagation::Slave { recursive: true })),
    ("rslave", Effect::Propagation(Propagation::Slave { recursive: true })),
    ("rstrictatime", Effect::Tree(STRICT)),
    ("rsuid", Effect::None),
    ("rsymfollow", Effect::Tree(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW))),
    ("runbindable", Effect::Propagation(Propagation::Private)),
    ("rw", Effect::Top(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_RDONLY))),
    ("shared", Effect::Propagation(Propagation::Slave { recursive: false })),
    ("silent", Effect::None),
    ("slave", Effect::Propagation(Propagation::Slave { recursive: false })),
    ("strictatime", Effect::Top(STRICT)),
    ("suid", Effect::None),
    ("symfollow", Effect::Top(MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW))),
    ("sync", Effect::None),
    ("tmpcopyup", Effect::CopyUp),
    ("unbindable", Effect::Propagation(Propagation::Private)),
];

const RELATIVE: MountAttributes = MountAttributes::access_time(MountAttrFlags::MOUNT_ATTR_RELATIME);
const STRICT: MountAttributes =
    MountAttributes::access_time(MountAttrFlags::MOUNT_ATTR_STRICTATIME);

/// Options that cannot be honoured, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("idmap", "a guest's ids are the host's"),
    ("ridmap", "a guest's ids are the host's"),
    ("remount", "no mount of a container is there before its own"),
];

#[derive(Clone, Copy)]
enum Effect {
    /// Known, and nothing that a guest could see.
    None,
    Bind {
        recursive: bool,
    },
    Top(MountAttributes),
    Tree(MountAttributes),
    Propagation(Propagation),
    CopyUp,
}

/// Propagation of the host's later mounts and unmounts below a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// The guest does not see them.
    #[default]
    Private,
    /// The guest sees them. So it is with shared mounts, too: a guest makes no mounts that the host
    /// could see.
    Slave {
        /// True if also those below the mounts that are there from the beginning.
        recursive: bool,
    },
}

/// The options of one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// `bind` or `rbind`: true if the mounts below the source are included.
    pub(super) bind: Option<bool>,
    /// Attributes of the mount itself.
    pub top: MountAttributes,
    /// Attributes of the mount and of those below it.
    pub tree: MountAttributes,
    /// Propagation.
    pub propagation: Propagation,
    /// True if a tmpfs begins with the content of the directory below it.
    pub copy_up: bool,
    /// Options that are not of the mount itself, but of its file system.
    pub rest: Vec<String>,
}

impl MountOptions {
    /// Parses the options. An error is an option that cannot be honoured, with the reason.
    pub(super) fn parse(options: &[String]) -> Result<Self, (&str, &'static str)> {
        let mut parsed = Self::default();
        for option in options {
            if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| name == option) {
                return Err((option, reason));
            }
            match OPTIONS.iter().find(|(name, _)| name == option) {
                Some((_, effect)) => parsed.take(*effect),
                None => parsed.rest.push(option.clone()),
            }
        }
        // A plain option takes an earlier one back, and nothing from the source: `rw` does not
        // make a mount writable that the host has read-only.
        parsed.top.clear &= MountAttrFlags::MOUNT_ATTR__ATIME;
        Ok(parsed)
    }

    /// The option `ro` alone.
    pub(crate) fn read_only() -> Self {
        let top = MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);
        Self { top, ..Self::default() }
    }

    /// True if the mount itself refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.top.is_read_only() || self.tree.is_read_only()
    }

    /// The same without `ro` and `rro`.
    pub(crate) fn writable(mut self) -> Self {
        for attributes in [&mut self.top, &mut self.tree] {
            attributes.set.remove(MountAttrFlags::MOUNT_ATTR_RDONLY);
        }
        self
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Bind { recursive } => self.bind = Some(recursive),
            Effect::Top(attributes) => self.top = self.top.then(attributes),
            Effect::Tree(attributes) => self.tree = self.tree.then(attributes),
            Effect::Propagation(propagation) => self.propagation = propagation,
            Effect::CopyUp => self.copy_up = true,
        }
    }
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            bind: None,
            top: MountAttributes::NONE,
            tree: MountAttributes::NONE,
            propagation: Propagation::default(),
            copy_up: false,
            rest: Vec::new(),
        }
    }
}

/// The propagation of this name.
pub(super) fn propagation(name: &str) -> Option<Propagation> {
    OPTIONS.iter().find_map(|(known, effect)| match effect {
        Effect::Propagation(propagation) if *known == name => Some(*propagation),
        _ => None,
    })
}

/// Names of the propagations.
pub(super) fn propagations() -> Vec<&'static str> {
    names().filter(|name| propagation(name).is_some()).collect()
}

/// Names of the options that are accepted, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        MountOptions::parse(&options).unwrap()
    }

    #[test]
    fn plain_options_are_of_the_top_and_recursive_ones_of_the_tree() {
        let options = parse(&["rbind", "ro", "rnoexec"]);
        assert_eq!(options.bind, Some(true));
        assert!(options.top.is_read_only() && !options.tree.is_read_only());
        assert!(options.tree.set == MountAttrFlags::MOUNT_ATTR_NOEXEC);
        assert!(parse(&["rro"]).tree.is_read_only());
    }

    #[test]
    fn last_of_two_options_wins() {
        assert_eq!(parse(&["ro", "rw"]).top, MountAttributes::NONE);
        assert!(parse(&["rw", "ro"]).top.is_read_only());
        assert_eq!(parse(&["rslave", "rprivate"]).propagation, Propagation::Private);
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(false));
    }

    #[test]
    fn options_of_the_file_system_are_kept() {
        assert_eq!(parse(&["nosuid", "size=1m", "mode=700"]).rest, ["size=1m", "mode=700"]);
    }

    #[test]
    fn options_that_cannot_be_honoured_are_refused() {
        for (option, _) in REFUSED {
            let options = [(*option).to_owned()];
            assert_eq!(MountOptions::parse(&options).unwrap_err().0, *option);
        }
    }

    #[test]
    fn names_are_in_order_and_there_once() {
        assert!(names().zip(names().skip(1)).all(|(one, next)| one < next));
    }
}
