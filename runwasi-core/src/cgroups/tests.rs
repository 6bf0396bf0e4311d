//! Tests of the cgroups of a process, on a hierarchy of plain files.

use std::{pin::pin, time::Duration};

use tokio::time::timeout;

use super::{files::MADE_FILE, policy::SPARE_MEMORY, *};
use crate::network::{Entrance, Network};

/// A hierarchy of plain files, which shows all writes, without a kernel that could refuse them.
struct Fixture {
    root: tempfile::TempDir,
    bundle: tempfile::TempDir,
    cgroups: Arc<Cgroups>,
    sandbox: Network,
}

const OWN_V1: &str = "9:name=systemd:/x\n4:memory:/pods/shim\n3:cpu,cpuacct:/pods/shim\n0::/y\n";
const OWN_V2: &str = "0::/pods/shim\n";

impl Fixture {
    fn new(version: Version) -> Self {
        let root = tempfile::tempdir().unwrap();
        let own = if version == Version::V1 { OWN_V1 } else { OWN_V2 };
        for original in ["cpu/pods/shim", "memory/pods/shim", "pods/shim"] {
            fs::create_dir_all(root.path().join(original)).unwrap();
        }
        let workers = Threads::default();
        workers.add(71);
        let sandbox = Network::of_process();
        let network = sandbox.clone();
        let processes: (_, Box<SandboxPid>) = (workers, Box::new(move || network.process()));
        let cgroups = Arc::new(Cgroups::at(root.path(), version, own, processes));
        Self { root, bundle: tempfile::tempdir().unwrap(), cgroups, sandbox }
    }

    fn join(&self, limits: &str, single: bool) -> Option<Joined> {
        self.join_at(CgroupsPath::Root("k8s/c1".into()), limits, single)
    }

    fn join_at(&self, path: CgroupsPath, limits: &str, single: bool) -> Option<Joined> {
        let limits = ResourcesConfig::parse(limits.as_bytes()).unwrap();
        match self.cgroups.clone().join(self.bundle.path(), &path, &limits, single) {
            JoinAttempt::Joined(joined) => Some(joined),
            JoinAttempt::Taken | JoinAttempt::Failed => None,
        }
    }

    fn at(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap_or_default()
    }
}

/// No workers, and a sandbox without a process.
fn alone() -> (Threads, Box<SandboxPid>) {
    (Threads::default(), Box::new(|| None))
}

const LIMITS: &str =
    r#"{"memory":{"limit":1000000},"cpu":{"shares":512,"quota":20000,"period":100000}}"#;

#[test]
fn single_container_has_its_limits_mirrored_with_a_reserve() {
    let fixture = Fixture::new(Version::V1);
    let joined = fixture.join(LIMITS, true).unwrap();
    assert_eq!(fixture.at("cpu/k8s/c1/cpu.shares"), "512");
    assert_eq!(fixture.at("cpu/k8s/c1/cpu.cfs_quota_us"), "30000");
    assert_eq!(fixture.at("cpu/k8s/c1/tasks"), "71");
    assert_eq!(fixture.at("memory/k8s/c1/cgroup.procs"), process::id().to_string());
    let memory: u64 = fixture.at("memory/k8s/c1/memory.limit_in_bytes").parse().unwrap();
    assert!(memory > 1_250_000 + SPARE_MEMORY && memory < SPARE_MEMORY * 20, "{memory}");
    joined
        .limit(&ResourcesConfig::parse(br#"{"cpu":{"quota":-1},"memory":{"limit":-1}}"#).unwrap());
    assert_eq!(fixture.at("cpu/k8s/c1/cpu.cfs_quota_us"), "-1");
    assert_eq!(fixture.at("memory/k8s/c1/memory.limit_in_bytes"), "-1");
    drop(joined);
    assert_eq!(fixture.at("cpu/pods/shim/tasks"), "71");
    assert_eq!(fixture.at("memory/pods/shim/cgroup.procs"), process::id().to_string());
}

#[test]
fn processes_of_the_sandbox_are_where_the_process_is() {
    let fixture = Fixture::new(Version::V2);
    let last = |place: &str| fixture.at(&format!("{place}/cgroup.procs"));
    // The process of a managed sandbox comes when the cgroups are known already.
    fixture.sandbox.move_to(Entrance::Host).unwrap();
    let joined = fixture.join("{}", false).unwrap();
    let of_sandbox = fixture.sandbox.pid().to_string();
    assert_eq!(last("k8s/c1"), of_sandbox);
    let first = Arc::new(72);
    let living = Arc::downgrade(&first);
    fixture.cgroups.set_first(move || living.upgrade().as_deref().copied());
    drop(joined);
    assert_eq!(last("pods/shim"), "72");
    drop(first);
    let joined = fixture.join_at(CgroupsPath::Root("k8s/c2".into()), "{}", false).unwrap();
    assert_eq!(last("k8s/c2"), of_sandbox, "the other has ended");
    drop(joined);
}

#[test]
fn thread_that_began_in_a_cgroup_is_taken_out_of_it() {
    let fixture = Fixture::new(Version::V1);
    let joined = fixture.join(LIMITS, true).unwrap();
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    // The other one is of no thread of this process.
    fs::write(fixture.root.path().join("cpu/k8s/c1/tasks"), format!("{own}\n1\n")).unwrap();
    fixture.cgroups.evict(&joined.leaf);
    assert_eq!(fixture.at("cpu/pods/shim/tasks"), own);
}

#[test]
fn thread_that_starts_late_joins_the_others() {
    for (version, leaf) in
        [(Version::V1, "cpu/k8s/c1/tasks"), (Version::V2, "k8s/c1/guests/cgroup.threads")]
    {
        let fixture = Fixture::new(version);
        let joined = fixture.join(LIMITS, true).unwrap();
        fixture.cgroups.workers.add(72);
        assert_eq!(fixture.at(leaf), "72", "{version:?}");
        drop(joined);
        fixture.cgroups.workers.add(73);
        assert_eq!(fixture.at(leaf), "72", "{version:?}: the cgroup is left");
    }
}

#[test]
fn thread_that_starts_in_the_cgroup_is_not_moved_again() {
    let fixture = Fixture::new(Version::V2);
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    let here = fs::read_to_string("/proc/thread-self/cgroup").unwrap();
    let here = fixture.cgroups.hierarchies.of_cpu(&here);
    let other = fixture.root.path().join("other");
    for (cgroup, is_moved) in [(here, false), (other, true)] {
        fs::create_dir_all(&cgroup).unwrap();
        fixture.cgroups.entry_of_late_threads(&cgroup)(own);
        assert_eq!(cgroup.join("cgroup.threads").exists(), is_moved, "{}", cgroup.display());
    }
}

#[test]
fn unified_hierarchy_has_workers_in_a_threaded_child() {
    let fixture = Fixture::new(Version::V2);
    let joined = fixture.join(LIMITS, true).unwrap();
    assert_eq!(fixture.at("k8s/c1/guests/cgroup.type"), "threaded");
    assert_eq!(fixture.at("k8s/c1/cpu.weight"), "59");
    assert_eq!(fixture.at("k8s/c1/guests/cpu.weight"), "", "it has no siblings");
    assert_eq!(fixture.at("k8s/c1/guests/cpu.max"), "30000 100000");
    assert_eq!(fixture.at("k8s/c1/guests/cgroup.threads"), "71");
    assert_eq!(fixture.at("k8s/c1/cgroup.procs"), process::id().to_string());
    assert!(fixture.at("k8s/c1/memory.max").parse::<u64>().unwrap() > 1_000_000);
    drop(joined);
    assert_eq!(fixture.at("pods/shim/cgroup.procs"), process::id().to_string());
}

#[test]
fn child_of_a_process_in_a_container_is_brought_back_to_the_service() {
    for (version, own, places) in [
        (Version::V1, OWN_V1, &["cpu/pods/shim", "memory/pods/shim"][..]),
        (Version::V2, OWN_V2, &["pods/shim"][..]),
    ] {
        let fixture = Fixture::new(version);
        let origin = origin::Origin::new(&fixture.cgroups.hierarchies, own);
        let moved = || -> Vec<String> {
            places.iter().map(|place| fixture.at(&format!("{place}/cgroup.procs"))).collect()
        };
        origin.bring(72, own).unwrap();
        assert_eq!(moved(), vec![""; places.len()], "it is there");
        origin.bring(73, "0::/k8s/c1\n").unwrap();
        assert_eq!(moved(), vec!["73"; places.len()]);
    }
}

#[test]
fn program_of_the_host_enters_the_cgroups_of_the_service_by_itself() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    for (before, written) in [(&*own, ""), ("0::/k8s/c1\n", "0"), ("", "0")] {
        let fixture = Fixture::new(Version::V1);
        let origin = origin::Origin::new(&fixture.cgroups.hierarchies, before);
        let files = ["cpu", "memory"].map(|place| format!("{place}/pods/shim/cgroup.procs"));
        let mut command = process::Command::new("true");
        let error = origin.receive(&mut command).unwrap_err().to_string();
        assert!(error.contains("cgroup.procs"), "{error}");
        for file in &files {
            fs::write(fixture.root.path().join(file), "").unwrap();
        }
        origin.receive(&mut command).unwrap();
        assert!(command.status().unwrap().success());
        assert_eq!(files.map(|file| fixture.at(&file)), [written; 2], "{before:?}");
    }
}

fn relative() -> CgroupsPath {
    CgroupsPath::Own("system.slice/x.scope".into())
}

#[test]
fn relative_path_begins_at_the_own_cgroup_on_v1() {
    let fixture = Fixture::new(Version::V1);
    let _joined = fixture.join_at(relative(), LIMITS, true).unwrap();
    assert_eq!(fixture.at("cpu/pods/shim/system.slice/x.scope/tasks"), "71");
    let procs = fixture.at("memory/pods/shim/system.slice/x.scope/cgroup.procs");
    assert_eq!(procs, process::id().to_string());
}

#[test]
fn relative_path_begins_above_the_own_cgroup_on_v2() {
    let fixture = Fixture::new(Version::V2);
    let _joined = fixture.join_at(relative(), LIMITS, true).unwrap();
    assert_eq!(fixture.at("pods/system.slice/x.scope/guests/cgroup.threads"), "71");
    assert_eq!(fixture.at("pods/system.slice/x.scope/cgroup.procs"), process::id().to_string());
}

#[test]
fn relative_path_begins_at_the_root_for_a_process_in_the_root_of_v2() {
    let root = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::at(root.path(), Version::V2, "0::/\n", alone());
    let leaf = cgroups.hierarchies.leaf(&relative(), true, 0);
    assert_eq!(leaf.memory, Some(root.path().join("system.slice/x.scope")));
}

#[test]
fn workers_of_a_pod_are_in_the_first_containers_cgroup_without_its_limits() {
    let fixture = Fixture::new(Version::V1);
    let first = fixture.join(LIMITS, false).unwrap();
    assert!(fixture.join(LIMITS, false).is_none(), "a second one");
    assert_eq!(fixture.at("cpu/k8s/c1/tasks"), "71");
    for never in
        ["cpu/k8s/c1/cpu.shares", "cpu/k8s/c1/cpu.cfs_quota_us", "memory/k8s/c1/cgroup.procs"]
    {
        assert_eq!(fixture.at(never), "", "{never}");
    }
    drop(first);
    fs::remove_dir_all(fixture.root.path().join("cpu/k8s")).unwrap();
    assert!(fixture.join(LIMITS, false).is_some(), "after the first");
}

#[test]
fn workers_of_a_pod_move_from_an_ended_container_to_a_living_one() {
    let fixture = Fixture::new(Version::V1);
    let bundles = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let [first, gone, over, last] = [0, 1, 2, 3].map(|n| {
        let path = CgroupsPath::Root(format!("k8s/h{n}").into());
        let kernel_limits =
            Arc::new(KernelLimits::new(fixture.cgroups.clone(), path, bundles[n].path(), false));
        kernel_limits.limit(&ResourcesConfig::default());
        kernel_limits
    });
    last.limit(&ResourcesConfig::default());
    assert_eq!(fixture.cgroups.successors.lock().len(), 4, "each once");
    let workers = |n| fixture.at(&format!("cpu/k8s/h{n}/tasks"));
    assert_eq!([0, 1, 2, 3].map(workers), ["71", "", "", ""]);
    drop(gone);
    over.release();
    first.release();
    assert_eq!(workers(3), "71");
    last.release();
}

#[test]
fn container_of_a_pod_joins_after_the_failure_of_another() {
    for all_fail in [false, true] {
        let fixture = Fixture::new(Version::V1);
        let bundles = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [fails, other] = [0, 1].map(|n| {
            let path = CgroupsPath::Root(format!("k8s/h{n}").into());
            let cgroups = fixture.cgroups.clone();
            Arc::new(KernelLimits::new(cgroups, path, bundles[n].path(), false))
        });
        // One that exists is not this container's.
        let existing = if all_fail { &["h0", "h1"][..] } else { &["h0"] };
        for name in existing {
            fs::create_dir_all(fixture.root.path().join("cpu/k8s").join(name)).unwrap();
        }
        // While the first one tries.
        *fixture.cgroups.taken.lock() = true;
        other.limit(&ResourcesConfig::default());
        *fixture.cgroups.taken.lock() = false;
        fails.limit(&ResourcesConfig::default());
        assert_eq!(fixture.at("cpu/k8s/h1/tasks"), if all_fail { "" } else { "71" });
        assert_eq!(fixture.cgroups.successors.lock().len(), 2, "for the end of another");
        other.release();
        fails.release();
    }
}

#[test]
fn guests_of_a_pod_have_the_shares_of_their_containers_together() {
    for (version, [first, last], values) in [
        (
            Version::V1,
            ["cpu/k8s/h0/cpu.shares", "cpu/k8s/h2/cpu.shares"],
            ["2", "514", "1538", "2050", "1026", "1024"],
        ),
        (
            Version::V2,
            ["k8s/h0/cpu.weight", "k8s/h2/cpu.weight"],
            ["1", "60", "160", "201", "101", "100"],
        ),
    ] {
        let fixture = Fixture::new(version);
        let bundles = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [pause, app, other] = [0, 1, 2].map(|n| {
            let path = CgroupsPath::Root(format!("k8s/h{n}").into());
            let cgroups = fixture.cgroups.clone();
            Arc::new(KernelLimits::new(cgroups, path, bundles[n].path(), false))
        });
        let mut values = values.into_iter();
        let mut becomes = |container: &Arc<KernelLimits>, limits: &str| {
            container.limit(&ResourcesConfig::parse(limits.as_bytes()).unwrap());
            assert_eq!(Some(&*fixture.at(first)), values.next(), "{version:?}: {limits}");
        };
        becomes(&pause, r#"{"cpu":{"shares":2}}"#);
        becomes(&app, r#"{"cpu":{"shares":512}}"#);
        becomes(&other, "{}");
        becomes(&app, r#"{"cpu":{"shares":1024}}"#);
        app.release();
        becomes(&app, r#"{"cpu":{"shares":4096}}"#);
        pause.release();
        assert_eq!(Some(&*fixture.at(last)), values.next(), "{version:?}");
        other.release();
    }
}

#[test]
fn container_that_was_given_up_leaves_the_shares_of_its_pod() {
    let fixture = Fixture::new(Version::V1);
    let limits = ResourcesConfig::parse(br#"{"cpu":{"shares":512}}"#).unwrap();
    let [first, given_up] = [0, 1].map(|n| {
        let path = CgroupsPath::Root(format!("k8s/h{n}").into());
        let bundle = fixture.bundle.path();
        let kernel_limits = KernelLimits::new(fixture.cgroups.clone(), path, bundle, false);
        let kernel_limits = Arc::new(kernel_limits);
        kernel_limits.limit(&limits);
        kernel_limits
    });
    assert_eq!(fixture.at("cpu/k8s/h0/cpu.shares"), "1024");
    drop(given_up);
    assert_eq!(fixture.at("cpu/k8s/h0/cpu.shares"), "512");
    first.release();
}

/// The values of runc 1.3.2.
#[test]
fn default_shares_are_the_default_weight() {
    let fixture = Fixture::new(Version::V2);
    let joined = fixture.join(LIMITS, true).unwrap();
    for (shares, weight) in [
        (2, "1"),
        (3, "2"),
        (100, "17"),
        (1024, "100"),
        (2000, "170"),
        (22_000, "1204"),
        (262_143, "10000"),
        (262_144, "10000"),
    ] {
        let limits = format!(r#"{{"cpu":{{"shares":{shares}}}}}"#);
        joined.limit(&ResourcesConfig::parse(limits.as_bytes()).unwrap());
        assert_eq!(fixture.at("k8s/c1/cpu.weight"), weight, "{shares}");
    }
}

#[test]
fn nothing_is_made_without_a_limit_and_nothing_after_the_end() {
    let fixture = Fixture::new(Version::V1);
    let path = CgroupsPath::Root("k8s/c1".into());
    let kernel_limits =
        Arc::new(KernelLimits::new(fixture.cgroups.clone(), path, fixture.bundle.path(), true));
    let made = || fixture.root.path().join("cpu/k8s/c1").exists();
    for nothing in ["{}", r#"{"memory":{"limit":-1},"cpu":{"shares":1024,"quota":-1}}"#] {
        kernel_limits.limit(&ResourcesConfig::parse(nothing.as_bytes()).unwrap());
        assert!(!made(), "{nothing}");
    }
    kernel_limits.limit(&ResourcesConfig::parse(LIMITS.as_bytes()).unwrap());
    assert!(made());
    kernel_limits.release();
    fs::remove_dir_all(fixture.root.path().join("cpu/k8s")).unwrap();
    kernel_limits.limit(&ResourcesConfig::parse(LIMITS.as_bytes()).unwrap());
    assert!(!made());
}

/// The threads of the blocking pool may overtake each other.
#[tokio::test]
async fn limits_reach_the_kernel_in_the_order_of_the_turns() {
    let fixture = Fixture::new(Version::V1);
    let path = CgroupsPath::Root("k8s/c1".into());
    let kernel_limits =
        Arc::new(KernelLimits::new(fixture.cgroups.clone(), path, fixture.bundle.path(), true));
    let first = kernel_limits.first_turn().unwrap();
    assert!(kernel_limits.first_turn().is_none());
    let change = |shares: u32| {
        let kernel_limits = kernel_limits.clone();
        async move {
            let turn = kernel_limits.turn().await;
            let limits = format!(r#"{{"cpu":{{"shares":{shares}}}}}"#);
            kernel_limits.limit(&ResourcesConfig::parse(limits.as_bytes()).unwrap());
            drop(turn);
        }
    };
    let mut changes = pin!(async { tokio::join!(change(300), change(400)) });
    assert!(timeout(Duration::from_millis(1), changes.as_mut()).await.is_err());
    kernel_limits.limit(&ResourcesConfig::parse(LIMITS.as_bytes()).unwrap());
    assert_eq!(fixture.at("cpu/k8s/c1/cpu.shares"), "512", "the first is not done");
    drop(first);
    changes.await;
    assert_eq!(fixture.at("cpu/k8s/c1/cpu.shares"), "400");
    kernel_limits.release();
}

#[test]
fn cgroup_that_exists_stays_as_it_is() {
    for (version, path, quota, none) in [
        (Version::V1, "cpu/k8s/c1", "cpu.cfs_quota_us", "1000"),
        (Version::V1, "memory/k8s/c1", "cpu.cfs_quota_us", "1000"),
        (Version::V2, "k8s/c1", "cpu.max", "1000 100000"),
    ] {
        let fixture = Fixture::new(version);
        let existing = fixture.root.path().join(path);
        fs::create_dir_all(&existing).unwrap();
        assert!(fixture.join(LIMITS, true).is_none(), "{path}");
        assert!(existing.exists(), "{path}: an empty one");
        fs::write(existing.join(quota), none).unwrap();
        assert!(fixture.join(LIMITS, true).is_none(), "{path}");
        remove(fixture.bundle.path());
        assert_eq!(fixture.at(&format!("{path}/{quota}")), none, "{path}");
        assert!(!fixture.bundle.path().join(MADE_FILE).exists(), "{path}");
    }
}

#[test]
fn list_of_cgroups_that_stay_outlives_another_attempt() {
    let fixture = Fixture::new(Version::V1);
    let directory = fixture.root.path().join("cpu/k8s/c1");
    fs::create_dir_all(directory.join("busy")).unwrap();
    let list = fixture.bundle.path().join(MADE_FILE);
    fs::write(&list, format!("{}\n\n", directory.display())).unwrap();
    assert!(fixture.join(LIMITS, false).is_none());
    fs::remove_dir(directory.join("busy")).unwrap();
    remove(fixture.bundle.path());
    assert!(!directory.exists() && !list.exists());
}

#[test]
fn cgroups_are_removed_without_the_process_that_made_them() {
    let fixture = Fixture::new(Version::V1);
    let directory = fixture.root.path().join("cpu/gone");
    fs::create_dir(&directory).unwrap();
    let above = directory.parent().unwrap().join("shared");
    fs::create_dir_all(above.join("others")).unwrap();
    let lines = format!("{}\n\n{}\n", directory.display(), above.display());
    for _ in 0..2 {
        fs::write(fixture.bundle.path().join(MADE_FILE), &lines).unwrap();
        remove(fixture.bundle.path());
        assert!(!directory.exists() && above.exists());
    }
}
