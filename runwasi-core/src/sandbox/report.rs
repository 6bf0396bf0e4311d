//! Report of a sandbox's containers for operators: state, usage and limits in force.
//!
//! Taken without a wait and without effect: a report is no question about a container's end.

use std::path::PathBuf;

use super::{Sandbox, Slot, native_container::NativeContainer};
use crate::{
    container::Container,
    engine::{exit::Exit, notes::ArtifactNote},
    id::Id,
    process::{Process, state::State},
    resources::usage::Usage,
    scheduler::group::CpuLimits,
};

/// A container at one moment.
#[derive(Clone, Debug)]
pub struct ContainerReport {
    /// Its id.
    pub id: Id,
    /// Its bundle directory. Empty while the container is being created.
    pub bundle: PathBuf,
    /// The pid that containerd is told for its init. 0 while it is being created.
    pub pid: u32,
    /// Exit of its init.
    pub exit: Option<Exit>,
    /// Its runner.
    pub run: Run,
}

/// The runner of a container, with what is known of it.
#[derive(Clone, Debug)]
pub enum Run {
    /// A `Create` is under way.
    Creating,
    /// The engine runs it.
    Guest(Box<GuestReport>),
    /// A delegate runs it as OS processes.
    Native,
}

/// A container that the engine runs.
#[derive(Clone, Debug)]
pub struct GuestReport {
    /// State of its init.
    pub state: State,
    /// Its execs that have not been deleted.
    pub execs: Vec<ExecReport>,
    /// Usage, also after its end.
    pub usage: Usage,
    /// CPU limits in force. The memory limit is part of the usage.
    pub cpu: CpuLimits,
    /// Number of requests, if it serves any.
    pub requests: Option<u64>,
    /// The artifact of its init, if the engine has noted it.
    pub artifact: Option<ArtifactNote>,
}

/// A further process of a container.
#[derive(Clone, Debug)]
pub struct ExecReport {
    /// Its id.
    pub id: Id,
    /// Its state.
    pub state: State,
    /// Its exit.
    pub exit: Option<Exit>,
}

impl Sandbox {
    /// All containers, sorted by their ids.
    #[doc(hidden)]
    pub fn report(&self) -> Vec<ContainerReport> {
        // Copied first: the lock is free while the containers are looked at.
        let mut slots: Vec<(Id, Copied)> = {
            let containers = self.shared.containers.lock();
            containers.iter().map(|(id, slot)| (id.clone(), Copied::of(slot))).collect()
        };
        slots.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        slots.into_iter().map(|(id, slot)| slot.report(id)).collect()
    }
}

/// A slot of the table, outside of its lock.
enum Copied {
    Creating,
    Guest(std::sync::Arc<Container>),
    Native(std::sync::Arc<NativeContainer>),
}

impl Copied {
    fn of(slot: &Slot) -> Self {
        match slot {
            Slot::Creating => Self::Creating,
            Slot::Ready(container) => Self::Guest(container.clone()),
            Slot::Native(container) => Self::Native(container.clone()),
        }
    }

    fn report(self, id: Id) -> ContainerReport {
        match self {
            Self::Creating => {
                let bundle = PathBuf::new();
                ContainerReport { id, bundle, pid: 0, exit: None, run: Run::Creating }
            }
            Self::Native(container) => {
                let bundle = container.bundle.clone();
                let exit = container.exit();
                ContainerReport { id, bundle, pid: container.pid, exit, run: Run::Native }
            }
            Self::Guest(container) => guest(id, &container),
        }
    }
}

fn guest(id: Id, container: &Container) -> ContainerReport {
    let status = container.init.status();
    let notes = container.notes();
    let report = GuestReport {
        state: status.state,
        execs: container.processes().skip(1).filter_map(|one| exec(container, &one)).collect(),
        usage: container.usage(),
        cpu: container.cpu_limits(),
        requests: notes.as_ref().and_then(|notes| notes.requests()),
        artifact: notes.as_ref().and_then(|notes| notes.artifact().cloned()),
    };
    ContainerReport {
        id,
        bundle: container.bundle.clone(),
        pid: container.init.info().pid,
        exit: status.exit,
        run: Run::Guest(Box::new(report)),
    }
}

fn exec(container: &Container, process: &Process) -> Option<ExecReport> {
    // Never absent: only the init has no id of its own.
    let id = process.info().exec.clone()?;
    let status = process.status();
    let state = match status.state {
        State::Running => container.state_of(process),
        // The task service says of these, too, that they are paused.
        other => other,
    };
    Some(ExecReport { id, state, exit: status.exit })
}
