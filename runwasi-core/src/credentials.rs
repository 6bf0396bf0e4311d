//! As whom a guest's files are opened: the user, groups and umask of `process.user`, put on the thread that polls it.
//!
//! The kernel checks file access against the thread's *filesystem* ids. Switching them costs system calls, so a thread keeps an
//! identity until it polls a guest of another one. With a user other than root the kernel takes the capabilities that override
//! file permissions away from the thread. Only calls made by the polling thread are checked: an engine whose guest has an
//! identity makes its file calls there, not on a pool.

use std::{cell::RefCell, sync::Arc};

use crate::sys::{
    self,
    credentials::{Credentials, HOST},
};

thread_local! {
    /// `None` is the host's.
    static CURRENT: RefCell<Option<Arc<Credentials>>> = const { RefCell::new(None) };
}

/// Prepares a thread of the guest runtime: it may have been born inside a poll, with a guest's identity, and shares the umask of the
/// process until now.
pub(crate) fn prepare_thread() {
    if !rustix::process::geteuid().is_root() {
        // Nobody has an identity then.
        return;
    }
    // Tried by `requirements::check` before; a thread that shared its umask would change that of others.
    if let Err(error) = sys::unshare_file_attributes() {
        panic!("unshare(CLONE_FS): {error}");
    }
    sys::set_file_credentials(&HOST);
}

/// Puts an identity on the calling thread, unless it has it already.
pub(crate) fn enter(credentials: Option<&Arc<Credentials>>) {
    CURRENT.with_borrow_mut(|current| {
        let same = match (&current, credentials) {
            (None, None) => true,
            (Some(current), Some(credentials)) => Arc::ptr_eq(current, credentials),
            _ => false,
        };
        if !same {
            sys::set_file_credentials(credentials.map_or(&HOST, Arc::as_ref));
            *current = credentials.cloned();
        }
    });
}

/// Runs `work` as the host: for what an engine opens itself, not its guest.
pub fn as_host<T>(work: impl FnOnce() -> T) -> T {
    let guest = CURRENT.with_borrow(Clone::clone);
    enter(None);
    let result = work();
    enter(guest.as_ref());
    result
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// On a thread of its own: an identity must not stay on a test's.
    fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test becomes other users and must run as root"
        );
        std::thread::scope(|scope| {
            let prepared = || {
                prepare_thread();
                work()
            };
            scope.spawn(prepared).join().unwrap()
        })
    }

    fn somebody(uid: u32, groups: &[u32], umask: u32) -> Arc<Credentials> {
        Arc::new(Credentials { uid, gid: uid + 1, groups: groups.to_vec(), umask })
    }

    #[test]
    fn files_belong_to_whom_is_entered_and_are_refused_to_others() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("root"), "secret").unwrap();
        std::fs::set_permissions(path("root"), PermissionsExt::from_mode(0o600)).unwrap();
        on_a_thread(|| {
            let (one, two) = (somebody(1000, &[], 0o077), somebody(2000, &[1001], 0o022));
            enter(Some(&one));
            std::fs::write(path("one"), "1").unwrap();
            assert!(std::fs::read(path("root")).is_err());
            as_host(|| assert_eq!(std::fs::read(path("root")).unwrap(), b"secret"));
            assert!(std::fs::read(path("root")).is_err(), "back again");
            enter(Some(&two));
            assert!(std::fs::read(path("one")).is_err());
            std::fs::write(path("two"), "2").unwrap();
            enter(None);
            std::fs::write(path("host"), "0").unwrap();
        });
        let of = |name: &str| {
            let metadata = std::fs::metadata(path(name)).unwrap();
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
        };
        assert_eq!(of("one"), (1000, 1001, 0o600));
        assert_eq!(of("two"), (2000, 2001, 0o644));
        assert_eq!(of("host"), (0, 0, 0o644));
    }

    #[test]
    fn further_groups_open_what_belongs_to_them() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = directory.path().join("shared");
        std::fs::write(&path, "of the group").unwrap();
        std::os::unix::fs::chown(&path, Some(0), Some(3000)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        on_a_thread(|| {
            enter(Some(&somebody(1000, &[], 0o022)));
            assert!(std::fs::read(&path).is_err());
            enter(Some(&somebody(1000, &[7, 3000], 0o022)));
            assert_eq!(std::fs::read(&path).unwrap(), b"of the group");
        });
    }

    #[tokio::test]
    async fn a_thread_born_in_a_poll_begins_as_the_host() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let path = directory.path().to_owned();
        let guests = crate::runtime::GuestRuntime::start(1).unwrap();
        let born = guests.guests().runtime().spawn({
            let path = path.clone();
            async move {
                enter(Some(&somebody(1000, &[], 0o077)));
                std::fs::write(path.join("guest"), "").unwrap();
                let write = move || std::fs::write(path.join("pool"), "").unwrap();
                tokio::task::spawn_blocking(write).await.unwrap();
            }
        });
        born.await.unwrap();
        guests.end();
        let of = |name: &str| std::fs::metadata(path.join(name)).unwrap();
        assert_eq!((of("guest").uid(), of("guest").mode() & 0o777), (1000, 0o600));
        assert_eq!((of("pool").uid(), of("pool").mode() & 0o777), (0, 0o644));
    }
}
