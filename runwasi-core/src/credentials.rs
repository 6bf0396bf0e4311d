//! File credentials of guests: the user, groups and umask of `process.user`, and the capabilities
//! over files that `process.capabilities` leaves to root, set on the thread that polls the guest.
//!
//! The kernel checks file access against the *filesystem* ids of the calling thread. A switch costs
//! system calls, so a thread keeps its credentials until it polls a guest with other ones. With a
//! user other than root, the kernel takes the capabilities that override file permissions away from
//! the thread. Only calls made by the polling thread are checked: an engine with a guest that has
//! credentials makes its file calls on that thread, not on a pool.

use std::{cell::RefCell, sync::Arc};

pub use crate::sys::credentials::Credentials;
use crate::sys::{self, credentials::HOST};

thread_local! {
    /// Credentials set on this thread; absent for those of the host.
    static CURRENT: RefCell<Option<Arc<Credentials>>> = const { RefCell::new(None) };
}

/// Prepares a thread of the guest runtime: gives it a umask of its own and the host's credentials.
pub(crate) fn prepare_thread() {
    if !rustix::process::geteuid().is_root() {
        // Only a process of root gives credentials to guests.
        return;
    }
    // `requirements::check` has tried the call. A thread of the process shares the umask of all
    // until now, so entering a guest's credentials would change the umask of other threads.
    if let Err(error) = sys::unshare_file_attributes() {
        panic!("unshare(CLONE_FS): {error}");
    }
    // A thread that is created inside a poll inherits the credentials of the guest.
    sys::set_file_credentials(&HOST);
    sys::set_file_capabilities(HOST.lacks);
}

/// Sets credentials on the calling thread, unless they are set already. Absent: the host's.
pub(crate) fn enter(credentials: Option<&Arc<Credentials>>) {
    CURRENT.with_borrow_mut(|current| {
        let same = match (&current, credentials) {
            (None, None) => true,
            // By pointer, since this runs before every poll. Equal credentials of another container
            // cost one switch too many.
            (Some(current), Some(credentials)) => Arc::ptr_eq(current, credentials),
            _ => false,
        };
        if !same {
            let present = current.as_deref().unwrap_or(&HOST);
            let next = credentials.map_or(&HOST, Arc::as_ref);
            sys::set_file_credentials(next);
            // With the id of another user the thread has none of these, and back at root all.
            if next.uid == HOST.uid && next.lacks != present.lacks {
                sys::set_file_capabilities(next.lacks);
            }
            *current = credentials.cloned();
        }
    });
}

/// Sets the host's credentials on the calling thread when it is dropped, also by a panic.
pub(crate) struct HostAtEnd;

impl Drop for HostAtEnd {
    fn drop(&mut self) {
        enter(None);
    }
}

/// Runs `work` with the host's credentials: for files that the engine opens for itself.
pub fn as_host<T>(work: impl FnOnce() -> T) -> T {
    let guest = CURRENT.with_borrow(Clone::clone);
    enter(None);
    // A panic leaves the host's credentials set. The next poll enters those of its guest.
    let result = work();
    enter(guest.as_ref());
    result
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use rustix::{process::Gid, thread::CapabilitySet};

    use super::*;
    use crate::sys::credentials::OVER_FILES;

    /// Runs `work` on a thread of its own: credentials must not stay on the thread of a test.
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

    fn user(uid: u32, groups: &[u32], umask: u32) -> Arc<Credentials> {
        let groups = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let lacks = CapabilitySet::empty();
        Arc::new(Credentials { uid, gid: uid + 1, groups, umask, lacks })
    }

    #[test]
    fn root_passes_over_permissions_by_its_capabilities_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let path = |uid: u32| directory.path().join(uid.to_string());
        for uid in [0, 1000] {
            std::fs::write(path(uid), "secret").unwrap();
            std::os::unix::fs::chown(path(uid), Some(uid), None).unwrap();
            std::fs::set_permissions(path(uid), PermissionsExt::from_mode(0o600)).unwrap();
        }
        let opens = || [0, 1000].map(|uid| std::fs::read(path(uid)).is_ok());
        let without = |lacks| Arc::new(Credentials { lacks, ..(*user(0, &[], 0o022)).clone() });
        let bare = without(OVER_FILES);
        let others = without(OVER_FILES.difference(CapabilitySet::DAC_OVERRIDE));
        let one = user(1000, &[], 0o022);
        on_a_thread(|| {
            for (credentials, wanted) in [
                (Some(&bare), [true, false]),
                (Some(&one), [false, true]),
                (Some(&bare), [true, false]),
                (Some(&others), [true, true]),
                (Some(&bare), [true, false]),
                (None, [true, true]),
                (Some(&one), [false, true]),
                (None, [true, true]),
                (Some(&bare), [true, false]),
            ] {
                enter(credentials);
                assert_eq!(opens(), wanted, "{credentials:?}");
            }
            as_host(|| assert_eq!(opens(), [true, true]));
            assert_eq!(opens(), [true, false], "back again");
            on_a_thread(|| assert_eq!(opens(), [true, true], "born in a poll"));
            let sets = rustix::thread::capabilities(None).unwrap();
            assert!(!sets.effective.contains(CapabilitySet::SYS_RESOURCE));
        });
    }

    #[test]
    fn files_belong_to_the_entered_user_and_are_refused_to_others() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("root"), "secret").unwrap();
        std::fs::set_permissions(path("root"), PermissionsExt::from_mode(0o600)).unwrap();
        on_a_thread(|| {
            let one = user(1000, &[], 0o077);
            let two = user(2000, &[1001], 0o022);
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
    fn further_groups_open_the_files_of_those_groups() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = directory.path().join("shared");
        std::fs::write(&path, "of the group").unwrap();
        std::os::unix::fs::chown(&path, Some(0), Some(3000)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        on_a_thread(|| {
            enter(Some(&user(1000, &[], 0o022)));
            assert!(std::fs::read(&path).is_err());
            enter(Some(&user(1000, &[7, 3000], 0o022)));
            assert_eq!(std::fs::read(&path).unwrap(), b"of the group");
        });
    }

    #[tokio::test]
    async fn a_thread_created_in_a_poll_has_the_hosts_credentials() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let path = directory.path().to_owned();
        let guests = crate::runtime::GuestRuntime::start(1).unwrap();
        let born = guests.guests().runtime().spawn({
            let path = path.clone();
            async move {
                enter(Some(&user(1000, &[], 0o077)));
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
