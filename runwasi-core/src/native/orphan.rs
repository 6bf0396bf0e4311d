//! Native containers whose server was killed: `delete` ends them, and their delegate.
//!
//! | containerd runs `delete` for | exit event |
//! |---|---|
//! | the native container | containerd's own, after `delete`. So the delegate is killed first: it would publish another one |
//! | its sandbox alone, since the container joined it by version 3 of the Task service | the delegate's, which ends the container |
//!
//! A server that still lives needs its delegate, which then ends this one container.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containerd_shim_protos::ttrpc;

use super::{delegate, launcher::Launcher, process, record::Record, socket};
use crate::{
    bundle::joined::entries, container::left_exit,
    containerd::blocking_shim_client::BlockingShimClient, engine::exit::Exit, id::Id, sys,
};

/// Time between two looks whether a delegate has ended.
const POLL: Duration = Duration::from_millis(10);

/// Time for a delegate to tell the exits of its containers before it is killed.
const QUESTION: Duration = Duration::from_millis(500);

/// Time for a delegate to end after its last container, or after it was killed.
const END: Duration = Duration::from_secs(1);

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

    /// The native ones among the containers of these bundles. Blocks.
    pub(crate) fn among(bundles: &[PathBuf], namespace: &Id) -> Vec<Self> {
        bundles.iter().filter_map(|bundle| Self::at(bundle, namespace)).collect()
    }

    /// The container of a bundle that has its name.
    fn at(bundle: &Path, namespace: &Id) -> Option<Self> {
        let id = Id::parse("container id", bundle.file_name()?.to_str()?).ok()?;
        Self::find(bundle, &id, namespace)
    }

    /// Ends the container in any state until the deadline. A delegate without a server is killed
    /// before. Blocks.
    pub(crate) fn end(
        &self,
        grpc_address: &str,
        deadline: Instant,
        server_lives: bool,
    ) -> Option<(u32, Exit)> {
        if server_lives && self.record.is_planned() {
            // The server is starting the delegate, and cleans up after itself.
            return None;
        }
        let ended = match server_lives {
            true => self.end_by_any(grpc_address, deadline),
            false => self.end_without_delegate(grpc_address, deadline),
        };
        self.clean_up(deadline);
        ended
    }

    /// The same for containers without a `delete` of their own and without a server. The delegate
    /// ends them, which publishes their exits, or else its program. Blocks.
    pub(crate) fn end_joined(orphans: &[Self], grpc_address: &str, deadline: Instant) {
        // Half of the time for the delegate: if it does not answer, the program needs the rest.
        let asked = share(deadline, 2);
        let unended: Vec<&Self> = each(orphans, asked)
            .filter(|(orphan, limit)| orphan.by_delegate(*limit).is_none())
            .map(|(orphan, _)| orphan)
            .collect();
        for (orphan, limit) in each(&unended, deadline) {
            if orphan.record.is_planned() {
                orphan.kill_delegate(limit);
            }
            // Without a result: an error is in the log.
            orphan.by_program(grpc_address, limit);
        }
        for (orphan, limit) in each(orphans, deadline) {
            orphan.clean_up(limit);
        }
    }

    fn end_without_delegate(&self, grpc_address: &str, deadline: Instant) -> Option<(u32, Exit)> {
        let told = self.exits_by_delegate(within(QUESTION, deadline));
        self.kill_delegate(within(END, deadline));
        // Left by the `delete` of another container of this delegate.
        let told = told.or_else(|| left_exit::read(&self.bundle));
        let (pid, killed) = self.by_program(grpc_address, deadline)?;
        // The program takes every container for a killed one.
        Some((pid, told.unwrap_or(killed)))
    }

    /// Has the delegate end it, or else its program.
    fn end_by_any(&self, grpc_address: &str, deadline: Instant) -> Option<(u32, Exit)> {
        self.by_delegate(deadline).or_else(|| self.by_program(grpc_address, deadline))
    }

    /// Removes what its delegate leaves, if that ends until the deadline.
    fn clean_up(&self, deadline: Instant) {
        let limit = within(END, deadline);
        while socket::is_served(&self.record.address) {
            // It has further containers, whose `delete` does this.
            if Instant::now() > limit {
                return;
            }
            sys::pause(POLL);
        }
        delegate::remove_traces(&self.record);
    }

    /// The exit of a container that had ended before its server. Those of other containers of the
    /// delegate are left in their bundles for their `delete`, which finds the delegate killed.
    fn exits_by_delegate(&self, deadline: Instant) -> Option<Exit> {
        let client = self.delegate(deadline)?;
        let own = self.told(client.exit(self.id.as_str())).flatten();
        for other in self.others() {
            if let Some(exit) = other.told(client.exit(other.id.as_str())).flatten()
                && let Err(error) = left_exit::write(&other.bundle, exit)
            {
                // Its `delete` then reports the container as killed.
                tracing::warn!(%error, container = %other.id, "cannot leave an exit");
            }
        }
        own
    }

    /// The other containers of its delegate, with bundles beside its own.
    fn others(&self) -> impl Iterator<Item = Self> {
        let bundles = self.bundle.parent().into_iter().flat_map(entries);
        let other = |bundle: PathBuf| {
            let found = Self::at(&bundle, &self.namespace)?;
            (found.record == self.record && found.id != self.id).then_some(found)
        };
        bundles.filter_map(other)
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

    /// Kills the delegate and waits for its end until the deadline.
    fn kill_delegate(&self, deadline: Instant) {
        let Record { directory, pid, .. } = &self.record;
        if self.record.is_planned() {
            // Its server has ended between the start and the note of the pid.
            process::kill_all(directory, deadline);
        } else if let Some(delegate) = process::open(*pid, directory) {
            process::kill(delegate, deadline);
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

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The deadline of a part that has at most this time.
fn within(limit: Duration, deadline: Instant) -> Instant {
    deadline.min(Instant::now() + limit)
}

/// The deadline of the next of as many parts with equal shares of the time.
fn share(deadline: Instant, parts: u32) -> Instant {
    Instant::now() + left(deadline) / parts
}

/// Each with the deadline of its share of the time that is left when its turn comes.
fn each<T>(all: &[T], deadline: Instant) -> impl Iterator<Item = (&T, Instant)> {
    let parts = u32::try_from(all.len()).unwrap_or(u32::MAX);
    all.iter().zip((1..=parts).rev()).map(move |(one, left)| (one, share(deadline, left)))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{fs::PermissionsExt, net::UnixListener},
        process::Command,
    };

    use tokio::task::spawn_blocking;

    use super::*;
    use crate::{containerd::shim_client::ShimAddress, native::played::Played};

    fn native_bundle(state: &Path, id: &str) -> PathBuf {
        let bundle = state.join(id);
        fs::create_dir(&bundle).unwrap();
        let address = ShimAddress { address: "unix:///nowhere".to_owned(), version: 3 };
        let record = Record {
            program: "/p".into(),
            directory: "/d".into(),
            address,
            pid: std::process::id(),
        };
        record.write(&bundle).unwrap();
        bundle
    }

    #[test]
    fn only_native_containers_are_found() {
        let state = tempfile::tempdir().unwrap();
        let wasm = state.path().join("wasm");
        fs::create_dir(&wasm).unwrap();
        let bundles = [native_bundle(state.path(), "native"), wasm, state.path().join("gone")];
        let found = Orphan::among(&bundles, &id("n"));
        let ids: Vec<_> = found.iter().map(|orphan| orphan.id.as_str()).collect();
        assert_eq!(ids, ["native"]);
    }

    #[test]
    fn a_process_that_is_not_the_delegate_is_not_killed() {
        let state = tempfile::tempdir().unwrap();
        let bundle = native_bundle(state.path(), "c");
        // The record has the number of this process.
        Orphan::find(&bundle, &id("c"), &id("n")).unwrap().kill_delegate(Instant::now());
    }

    fn id(id: &str) -> Id {
        Id::parse("id", id).unwrap()
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn delegate_whose_server_was_killed_during_its_start_is_killed() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().canonicalize().unwrap().join("delegate");
        fs::create_dir(&directory).unwrap();
        let mut delegate =
            Command::new("sleep").arg("1000").current_dir(&directory).spawn().unwrap();
        let address = ShimAddress::default();
        let program = "/bin/true".into();
        let record = Record { program, directory: directory.clone(), address, pid: 0 };
        record.write(state.path()).unwrap();
        let orphan = Orphan::find(state.path(), &id("c"), &id("n")).unwrap();
        assert!(orphan.end("", later(20), true).is_none(), "the server that lives starts it");
        assert!(delegate.try_wait().unwrap().is_none() && directory.exists());
        assert!(orphan.end("", later(20), false).is_some());
        assert!(!delegate.wait().unwrap().success());
        assert!(!directory.exists());
        assert_eq!(Record::read(state.path()), None);
    }

    #[tokio::test]
    async fn exits_of_all_containers_are_asked_for_before_their_delegate_is_killed() {
        let (played, _server) = Played::serve().await;
        let state = tempfile::tempdir().unwrap();
        for (id, status) in [("a", 3), ("b", 4)] {
            let bundle = state.path().join(id);
            fs::create_dir(&bundle).unwrap();
            played.record().write(&bundle).unwrap();
            played.add(id);
            played.exit(id, "", status);
        }
        for (name, status) in [("a", 3), ("b", 4)] {
            let orphan = Orphan::find(&state.path().join(name), &id(name), &id("n")).unwrap();
            // On a thread of its own: this one serves the played delegate.
            let ended = spawn_blocking(move || orphan.end("", later(20), false)).await.unwrap();
            assert_eq!(ended.unwrap().1.status.get(), status, "{name}");
            assert!(!played.is_alive());
        }
    }

    /// Neither the delegate nor its program answers.
    #[test]
    fn containers_that_joined_a_sandbox_share_the_time() {
        let state = tempfile::tempdir().unwrap();
        let program = state.path().join("program");
        let script = "#!/bin/sh\necho $4 >>../ended\nsleep 1000\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let socket = state.path().join("socket");
        let _delegate = UnixListener::bind(&socket).unwrap();
        let address = format!("unix://{}", socket.display());
        let address = ShimAddress { address, version: 3 };
        let directory = state.path().join("delegate");
        let record = Record { program, directory, address, pid: std::process::id() };
        let joined = |name: &str| {
            let bundle = state.path().join(name);
            fs::create_dir(&bundle).unwrap();
            record.write(&bundle).unwrap();
            Orphan::find(&bundle, &id(name), &id("n")).unwrap()
        };
        let orphans = ["a", "b"].map(joined);
        let begun = Instant::now();
        Orphan::end_joined(&orphans, "", later(8));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_eq!(fs::read_to_string(state.path().join("ended")).unwrap(), "a\nb\n");
    }
}
