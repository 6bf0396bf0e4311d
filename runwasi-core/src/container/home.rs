//! `HOME` of a process, which its environment need not set: the home directory that the container's
//! `/etc/passwd` has for its user, and `/` without an entry. runc does the same.

use std::path::Path;

use crate::{bundle::process::ProcessConfig, regular_file::read_opened, rootfs::Rootfs};

const PASSWD: &str = "/etc/passwd";

/// Most bytes of a `/etc/passwd` that is read. The image makes the file.
const MAX_PASSWD: u64 = 1 << 20;

/// Adds `HOME` to an environment that has none or an empty one. Blocks.
pub(super) fn set(config: &mut ProcessConfig, rootfs: &Rootfs) {
    if config.env("HOME").is_none_or(str::is_empty) {
        let uid = config.credentials.as_ref().map_or(0, |credentials| credentials.uid);
        let home = home_of(uid, rootfs).unwrap_or_else(|| "/".to_owned());
        config.env.retain(|(name, _)| name != "HOME");
        config.env.push(("HOME".to_owned(), home));
    }
}

/// Absent without a readable file, an entry, or a directory in it.
fn home_of(uid: u32, rootfs: &Rootfs) -> Option<String> {
    let file = rootfs.open(Path::new(PASSWD)).ok()?;
    let passwd = read_opened(&file, MAX_PASSWD).ok()?;
    let home = home_in(&String::from_utf8_lossy(&passwd), uid)?.to_owned();
    (!home.contains('\0')).then_some(home)
}

/// The home directory of the first entry for a user that has one, by `passwd(5)`.
fn home_in(passwd: &str, uid: u32) -> Option<&str> {
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    entries.find_map(|fields| match fields[..] {
        [_, _, number, _, _, home, ..] if number.parse() == Ok(uid) && !home.is_empty() => {
            Some(home)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_that_of_the_first_entry_with_a_directory() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\
            short:x:5\n\
            none:x:7:7:::/bin/sh\n\
            app:x:1000:1000:An app:/srv/app:/bin/sh\n\
            again:x:1000:1000::/other:/bin/sh\n\
            last:x:4294967295:1::/last";
        for (uid, home) in [
            (0, Some("/root")),
            (1000, Some("/srv/app")),
            (u32::MAX, Some("/last")),
            (5, None),
            (7, None),
            (1, None),
        ] {
            assert_eq!(home_in(passwd, uid), home, "{uid}");
        }
        assert_eq!(home_in("", 0), None);
    }
}
