//! Policy: the cgroup directories of a container, and the values of their files. Pure.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::version::CgroupVersion as Version;
use crate::bundle::{
    cgroups_path::CgroupsPath,
    resources::{LEAST_SHARES, MOST_SHARES, Quota, ResourcesConfig},
};

/// CPU time per [`PERIOD`] for other work of the workers. The kernel's quota is 1.25 times the
/// container's, and this time.
const SPARE_TIME: Duration = Duration::from_millis(5);
const PERIOD: Duration = Duration::from_millis(100);

/// Bytes beyond the container's limit and the present memory of the process: for the code of an
/// exec, buffers and stacks.
pub(super) const SPARE_MEMORY: u64 = 64 << 20;

/// What one host call may allocate before its guest ends for it: this part of the limit, and at
/// most so many bytes.
// As the engine bounds it, which takes more for small limits: that is in the spare memory.
const CALL_PART: u64 = 4;
const MOST_OF_CALL: u64 = 128 << 20;

/// The hierarchies of the host, and the cgroups of the process before any change.
#[derive(Clone)]
pub(super) struct Hierarchies {
    root: PathBuf,
    pub(super) version: Version,
    /// In the hierarchies of CPU and memory.
    original: [PathBuf; 2],
}

/// The cgroup of a container.
#[derive(Clone)]
pub(super) struct Leaf {
    /// Cgroup of the workers.
    pub(super) cpu: PathBuf,
    /// Cgroup of the process; absent in a pod on v1.
    pub(super) memory: Option<PathBuf>,
    /// True if the container's limits are set. In a pod the cgroup gets no limits.
    limited: bool,
    /// Memory of the process besides its guests, in bytes.
    base: u64,
    pub(super) version: Version,
    /// Directories to make, in the order of their removal.
    pub(super) made: Vec<PathBuf>,
}

/// A file of a cgroup and the value to write.
pub(super) type Setting = (PathBuf, String);

impl Hierarchies {
    /// `own`: the text of `/proc/self/cgroup`.
    pub(super) fn new(root: &Path, version: Version, own: &str) -> Self {
        let original = ["cpu", "memory"].map(|controller| original(version, own, controller));
        Self { root: root.to_owned(), version, original }
    }

    /// The cgroup at the path of a container. `single`: no other container will come. `resident`:
    /// present memory of the process, in bytes.
    pub(super) fn leaf(&self, path: &CgroupsPath, single: bool, resident: u64) -> Leaf {
        let [cpu, memory] = [0, 1].map(|hierarchy| match path {
            CgroupsPath::Root(path) => self.directory(hierarchy).join(path),
            CgroupsPath::Own(path) => self.start_of_relative_paths(hierarchy).join(path),
        });
        let (cpu, made) = match self.version {
            Version::V1 => {
                (cpu.clone(), if single { vec![cpu, memory.clone()] } else { vec![cpu] })
            }
            Version::V2 => (cpu.join("guests"), vec![cpu.join("guests"), cpu]),
        };
        let base = resident.saturating_add(SPARE_MEMORY);
        // On v2 the parent of a threaded cgroup must hold the process.
        let memory = (single || self.version == Version::V2).then_some(memory);
        Leaf { cpu, memory, limited: single, base, version: self.version, made }
    }

    /// The root of a hierarchy: 0 for CPU, 1 for memory.
    fn directory(&self, hierarchy: usize) -> PathBuf {
        match self.version {
            Version::V1 => self.root.join(["cpu", "memory"][hierarchy]),
            Version::V2 => self.root.clone(),
        }
    }

    /// The cgroup of the process before any change.
    pub(super) fn original_directory(&self, hierarchy: usize) -> PathBuf {
        self.directory(hierarchy).join(&self.original[hierarchy])
    }

    /// The cgroup that limits the CPU time of a thread, from its `/proc/PID/task/TID/cgroup`.
    pub(super) fn of_cpu(&self, own: &str) -> PathBuf {
        self.directory(0).join(original(self.version, own, "cpu"))
    }

    /// The directory that relative paths start from, as with runc 1.1: on v1 the cgroup of the
    /// process, on v2 the one above it.
    fn start_of_relative_paths(&self, hierarchy: usize) -> PathBuf {
        match self.version {
            Version::V1 => self.original_directory(hierarchy),
            // On v2 a cgroup with processes passes no controllers on, and the cgroup of this
            // process has at least this one.
            Version::V2 => self
                .directory(hierarchy)
                .join(self.original[hierarchy].parent().unwrap_or(Path::new(""))),
        }
    }
}

impl Leaf {
    /// File that moves a thread into the cgroup.
    pub(super) fn threads(version: Version, directory: &Path) -> PathBuf {
        directory.join(match version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.threads",
        })
    }

    /// The settings of these limits, as far as they are set, in the order of their writing.
    pub(super) fn settings(&self, limits: &ResourcesConfig) -> Vec<Setting> {
        let mut settings = Vec::new();
        if !self.limited {
            return settings;
        }
        settings.extend(limits.shares.and_then(|shares| self.shares(shares)));
        if let Some(quota) = limits.bandwidth.quota() {
            settings.extend(self.quota(quota.get()));
        }
        if let (Some(limit), Some(directory)) = (limits.memory, &self.memory) {
            let limit = limit.get().map(|limit| self.memory_limit(limit).to_string());
            settings.push(match self.version {
                Version::V1 => (
                    directory.join("memory.limit_in_bytes"),
                    limit.unwrap_or_else(|| "-1".to_owned()),
                ),
                Version::V2 => {
                    (directory.join("memory.max"), limit.unwrap_or_else(|| "max".to_owned()))
                }
            });
        }
        settings
    }

    /// The kernel's memory limit for that of a container.
    fn memory_limit(&self, limit: u64) -> u64 {
        let of_call = (limit / CALL_PART).min(MOST_OF_CALL);
        limit.saturating_add(self.base).saturating_add(of_call)
    }

    /// The setting of the shares that the guests of a pod have together, from those of each
    /// container. Absent without any.
    pub(super) fn shares_of_pod(&self, each: impl Iterator<Item = u64>) -> Option<Setting> {
        // Each by itself, as runc does for the native ones: a sum has another weight. No sum
        // exceeds the range, since of each container they are bounded.
        let sum: u64 = each.map(|shares| self.in_unit(shares)).sum();
        (sum > 0).then(|| sum.min(self.in_unit(MOST_SHARES))).and_then(|sum| self.cpu_part(sum))
    }

    fn shares(&self, shares: u64) -> Option<Setting> {
        self.cpu_part(self.in_unit(shares))
    }

    /// Shares in the unit of the hierarchy.
    fn in_unit(&self, shares: u64) -> u64 {
        match self.version {
            Version::V1 => shares,
            Version::V2 => weight(shares),
        }
    }

    /// The setting of the container's part of the CPU, in the unit of the hierarchy.
    fn cpu_part(&self, value: u64) -> Option<Setting> {
        let file = match self.version {
            Version::V1 => self.cpu.join("cpu.shares"),
            // A weight counts among siblings. The cgroup of the workers has no sibling: those of
            // other containers are siblings of its parent.
            Version::V2 => self.cpu.parent()?.join("cpu.weight"),
        };
        Some((file, value.to_string()))
    }

    fn quota(&self, quota: Option<Quota>) -> Vec<Setting> {
        let period = PERIOD.as_micros();
        let time = quota.map(kernel_time).map(|time| time.as_micros().to_string());
        match self.version {
            Version::V1 => vec![
                (self.cpu.join("cpu.cfs_period_us"), period.to_string()),
                (self.cpu.join("cpu.cfs_quota_us"), time.unwrap_or_else(|| "-1".to_owned())),
            ],
            Version::V2 => vec![(
                self.cpu.join("cpu.max"),
                format!("{} {period}", time.as_deref().unwrap_or("max")),
            )],
        }
    }
}

/// The kernel's CPU time per [`PERIOD`] for that quota of a container.
fn kernel_time(quota: Quota) -> Duration {
    let part = quota.time.as_secs_f64() / quota.period.as_secs_f64();
    // Out of range only for more CPUs than exist: a quota is at most `u64` microseconds.
    Duration::try_from_secs_f64(part * 1.25 * PERIOD.as_secs_f64()).unwrap_or(PERIOD * 1000)
        + SPARE_TIME
}

/// `cpu.shares`, 2 to 262144, as `cpu.weight`, 1 to 10000: the conversion of Kubernetes, crun, and
/// runc since 1.3.2. Unlike the linear one before, it makes one default of the other.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=LEAST_SHARES => shares.min(1),
        MOST_SHARES.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// The cgroup of a process or thread in the hierarchy of a controller, from the lines of its file
/// `cgroup` in `/proc` (`cgroups(7)`).
fn original(version: Version, own: &str, controller: &str) -> PathBuf {
    let find = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        let here = match version {
            Version::V1 => controllers.split(',').any(|one| one == controller),
            Version::V2 => controllers.is_empty(),
        };
        here.then(|| path.trim_start_matches('/').into())
    };
    own.lines().find_map(find).unwrap_or_default()
}
