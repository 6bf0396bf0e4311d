//! Native containers whose server was killed: `delete` ends them, and their delegate.
//!
//! | containerd runs `delete` for | exit event |
//! |---|---|
//! | the native container | containerd's own, after `delete`. So the delegate is killed first: it would publish another one |
//! | its sandbox alone, since the container joined it by version 3 of the Task service | the delegate's, which ends the container |
//!
//! A server that still lives needs its delegate, which then ends this one container.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containerd_shim_protos::ttrpc;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{delegate, launcher::Launcher, record::Record, socket};
use crate::{
    containerd::blocking_shim_client::BlockingShimClient, engine::exit::Exit, id::Id, sys,
};

/// Time between two looks whether a delegate has ended.
const POLL: Duration = Duration::from_millis(10);

/// Time for a delegate to tell the exit of a container before it is killed.
const QUESTION: Duration = Duration::from_millis(500);

/// Time for a delegate to end after its last container, or after it was killed.
const END: Duration = Duration::from_secs(1);

/// File in the bundle of a container that joined a sandbox without the action `start`: the id of
/// the sandbox. containerd writes it.
const SANDBOX_FILE: &str = "sandbox";

/// A container with the record that its server has left.
pub(crate) struct Orphan {
    id: Id,
    namespace: Id,
    bundle: PathBuf,
    record: Record,
}

impl Orphan {
    /// The container of a bundle, if it is native and was not deleted.
    pub(crate) fn find(bundle: &Path, id: &Id, namespace: &Id) -> Option<Self> {
        let record = Record::read(bundle)?;
        Some(Self {
            id: id.clone(),
            namespace: namespace.clone(),
            bundle: bundle.to_owned(),
            record,
        })
    }

    /// The native containers of a sandbox for which containerd runs no `delete`. `bundle` is that
    /// of the sandbox. Blocks.
    pub(crate) fn of_sandbox(bundle: &Path, sandbox: &Id, namespace: &Id) -> Vec<Self> {
        // containerd's state directory, with a directory of bundles for each plugin and namespace:
        // the bundle of a sandbox may be another plugin's than those of its containers.
        let Some(state) = bundle.ancestors().nth(3) else { return Vec::new() };
        let bundles = entries(state).flat_map(|plugin| entries(&plugin.join(namespace.as_str())));
        let joined = |bundle: &PathBuf| {
            fs::read_to_string(bundle.join(SANDBOX_FILE))
                .is_ok_and(|id| id.trim() == sandbox.as_str())
        };
        let orphan = |bundle: PathBuf| {
            let id = Id::parse("container id", bundle.file_name()?.to_str()?).ok()?;
            Self::find(&bundle, &id, namespace)
        };
        bundles.filter(joined).filter_map(orphan).collect()
    }

    /// Ends the container in any state until the deadline. A delegate without a server is killed
    /// before. Blocks.
    pub(crate) fn end(
        &self,
        grpc_address: &str,
        deadline: Instant,
        server_lives: bool,
    ) -> Option<(u32, Exit)> {
        let ended = match server_lives {
            true => self.end_by_any(grpc_address, deadline),
            false => self.end_without_delegate(grpc_address, deadline),
        };
        self.clean_up();
        ended
    }

    /// The same for containers without a `delete` of their own. Blocks.
    pub(crate) fn end_joined(orphans: &[Self], grpc_address: &str, deadline: Instant) {
        for orphan in orphans {
            // Without a result: an error is in the log.
            orphan.end_by_any(grpc_address, deadline);
        }
        for orphan in orphans {
            orphan.clean_up();
        }
    }

    fn end_without_delegate(&self, grpc_address: &str, deadline: Instant) -> Option<(u32, Exit)> {
        let told = self.exit_by_delegate();
        self.kill_delegate();
        let (pid, killed) = self.by_program(grpc_address, deadline)?;
        // The program takes every container for a killed one.
        Some((pid, told.unwrap_or(killed)))
    }

    /// Has the delegate end it, which publishes the exit, or else its program.
    fn end_by_any(&self, grpc_address: &str, deadline: Instant) -> Option<(u32, Exit)> {
        self.by_delegate(deadline).or_else(|| self.by_program(grpc_address, deadline))
    }

    /// Removes what its delegate leaves, if that ends.
    fn clean_up(&self) {
        let limit = Instant::now() + END;
        while socket::is_served(&self.record.address) {
            // It has further containers, whose `delete` does this.
            if Instant::now() > limit {
                return;
            }
            sys::pause(POLL);
        }
        delegate::remove_traces(&self.record);
    }

    /// The exit of a container that had ended before its server.
    fn exit_by_delegate(&self) -> Option<Exit> {
        let client = self.delegate(Instant::now() + QUESTION)?;
        self.told(client.exit(self.id.as_str())).flatten()
    }

    fn by_delegate(&self, deadline: Instant) -> Option<(u32, Exit)> {
        let client = self.delegate(deadline)?;
        let ended = client.end(self.id.as_str());
        // Also without the container: it ends only without any. An error does not change this
        // container's exit.
        let _ = client.shutdown(self.id.as_str());
        let ended = self.told(ended)?;
        Record::remove(&self.bundle);
        Some(ended)
    }

    /// A connection to the delegate, if it lives.
    fn delegate(&self, deadline: Instant) -> Option<BlockingShimClient> {
        if !socket::is_served(&self.record.address) {
            return None;
        }
        self.told(BlockingShimClient::connect(&self.record.address, &self.namespace, deadline))
    }

    fn told<T>(&self, answer: ttrpc::Result<T>) -> Option<T> {
        let told = answer.inspect_err(|error| {
            tracing::warn!(%error, container = %self.id, "no answer of its native runtime");
        });
        told.ok()
    }

    /// Kills the delegate and waits for its end.
    fn kill_delegate(&self) {
        let Some(pid) = Pid::from_raw(self.record.pid.cast_signed()) else { return };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // Only the delegate works in its directory. Another process may have its number since.
        let directory = fs::read_link(format!("/proc/{}/cwd", self.record.pid));
        if directory.is_ok_and(|directory| directory == self.record.directory) {
            // An error: it has ended meanwhile.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            await_end(&mut [PollFd::new(&process, PollFlags::IN)]);
        }
    }

    fn by_program(&self, grpc_address: &str, deadline: Instant) -> Option<(u32, Exit)> {
        let launcher = Launcher {
            program: self.record.program.clone(),
            namespace: self.namespace.clone(),
            grpc_address: grpc_address.to_owned(),
            // It tells no events: containerd does after its `delete`.
            ttrpc_address: String::new(),
            options: Vec::new(),
            keeps_oom_score: false,
        };
        match launcher.delete(&self.id, &self.bundle, left(deadline)) {
            Ok(ended) => {
                Record::remove(&self.bundle);
                Some(ended)
            }
            Err(error) => {
                tracing::error!(%error, container = %self.id, "a native container stays behind");
                None
            }
        }
    }
}

/// Paths in a directory, none if it cannot be read.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Waits for the end of a killed process.
fn await_end(process: &mut [PollFd<'_>]) {
    let limit = Timespec { tv_sec: END.as_secs().cast_signed(), tv_nsec: 0 };
    // Any other error, and the limit: the program finds out what is left.
    while poll(process, Some(&limit)) == Err(Errno::INTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerd::shim_client::ShimAddress;

    fn bundle(
        state: &Path,
        plugin: &str,
        id: &str,
        sandbox: Option<&str>,
        native: bool,
    ) -> PathBuf {
        let bundle = state.join(plugin).join("n").join(id);
        fs::create_dir_all(&bundle).unwrap();
        if let Some(sandbox) = sandbox {
            fs::write(bundle.join(SANDBOX_FILE), sandbox).unwrap();
        }
        if native {
            let address = ShimAddress { address: "unix:///nowhere".to_owned(), version: 3 };
            let record = Record {
                program: "/p".into(),
                directory: "/d".into(),
                address,
                pid: std::process::id(),
            };
            record.write(&bundle).unwrap();
        }
        bundle
    }

    #[test]
    fn only_native_containers_that_joined_the_sandbox_are_found() {
        let state = tempfile::tempdir().unwrap();
        let id = |id: &str| Id::parse("id", id).unwrap();
        let sandbox = bundle(state.path(), "sandboxes", "pod", None, false);
        bundle(state.path(), "tasks", "joined", Some("pod"), true);
        bundle(state.path(), "tasks", "wasm", Some("pod"), false);
        bundle(state.path(), "tasks", "other", Some("pod2"), true);
        bundle(state.path(), "tasks", "alone", None, true);
        let found = Orphan::of_sandbox(&sandbox, &id("pod"), &id("n"));
        let ids: Vec<_> = found.iter().map(|orphan| orphan.id.as_str()).collect();
        assert_eq!(ids, ["joined"]);
        assert!(Orphan::of_sandbox(&sandbox, &id("pod"), &id("m")).is_empty());
        assert!(Orphan::of_sandbox(Path::new("/"), &id("pod"), &id("n")).is_empty());
    }

    #[test]
    fn a_process_that_is_not_the_delegate_is_not_killed() {
        let state = tempfile::tempdir().unwrap();
        let bundle = bundle(state.path(), "tasks", "c", None, true);
        let id = |id: &str| Id::parse("id", id).unwrap();
        // The record has the number of this process.
        Orphan::find(&bundle, &id("c"), &id("n")).unwrap().kill_delegate();
    }
}
