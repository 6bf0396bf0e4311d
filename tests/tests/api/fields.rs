//! Fields of `config.json` that say nothing to a guest, and those that must not be passed over; the table is in
//! `docs/config-json.md`, the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Command, ShimDriver};
use serde_json::{Value, json};

const ID: &str = "fields";

/// Accepted: what they restrict, a guest cannot reach anyway, or it has no process that they could concern.
fn without_meaning() -> Vec<(&'static str, Value)> {
    let capabilities = json!(["CAP_SYS_ADMIN", "CAP_NET_RAW"]);
    vec![
        (
            "/process/capabilities",
            json!({ "bounding": capabilities, "effective": capabilities, "permitted": [] }),
        ),
        ("/process/noNewPrivileges", json!(true)),
        ("/process/apparmorProfile", json!("cri-containerd.apparmor.d")),
        ("/process/selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675")),
        ("/process/oomScoreAdj", json!(500)),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 4 })),
        ("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 })),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }, { "type": "RLIMIT_NPROC", "soft": 1, "hard": 1 }]),
        ),
        ("/process/terminal", json!(true)),
        ("/hostname", json!("guest")),
        ("/domainname", json!("example.org")),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64"] }),
        ),
        ("/linux/maskedPaths", json!(["/proc/kcore", "/sys/firmware"])),
        ("/linux/readonlyPaths", json!(["/proc/sys"])),
        ("/linux/sysctl", json!({ "kernel.shm_rmid_forced": "1" })),
        (
            "/linux/devices",
            json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438 }]),
        ),
        ("/linux/mountLabel", json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811")),
        ("/linux/rootfsPropagation", json!("slave")),
        ("/linux/personality", json!({ "domain": "LINUX" })),
        ("/linux/timeOffsets", json!({ "monotonic": { "secs": 10, "nanosecs": 0 } })),
        ("/linux/intelRdt", json!({ "closID": "guaranteed" })),
        (
            "/linux/namespaces",
            json!([{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "cgroup" }, { "type": "time" }]),
        ),
        (
            "/linux/resources",
            json!({
                "devices": [{ "allow": false, "access": "rwm" }],
                "cpu": { "cpus": "0", "mems": "0", "realtimeRuntime": 950_000 },
                "memory": { "swap": 1 << 30, "swappiness": 60, "kernel": 1 << 20, "reservation": 1 << 20 },
                "pids": { "limit": 1 },
                "blockIO": { "weight": 10 },
                "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }],
                "network": { "classID": 1_048_577 },
                "unified": { "memory.high": "1" },
            }),
        ),
        ("/linux/cgroupsPath", json!("/nowhere/at/all")),
        ("/vm", json!({ "kernel": { "path": "/kernel" } })),
        ("/solaris", json!({ "milestone": "x" })),
        ("/unknown", json!({ "of": "a later spec" })),
    ]
}

/// Accepted with a warning: values of a later spec or kernel.
fn unknown() -> Vec<(&'static str, Value)> {
    vec![
        ("/process/capabilities", json!({ "bounding": ["CAP_OF_NEXT_YEAR"] })),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_OF_NEXT_YEAR", "soft": 0, "hard": 0 }, { "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }]),
        ),
        ("/process/scheduler", json!({ "policy": "SCHED_OF_NEXT_YEAR" })),
        ("/process/ioPriority", json!({ "class": "IOPRIO_OF_NEXT_YEAR" })),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_OF_NEXT_YEAR" })),
        ("/linux/personality", json!({ "domain": "LINUX128" })),
        ("/linux/resources", json!({ "devices": [{ "allow": false, "type": "x" }] })),
    ]
}

/// Refused: whoever relies on them would be less safe, or get other files than asked for.
fn refused() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]),
            "linux.uidMappings",
        ),
        (
            "/linux/gidMappings",
            json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]),
            "linux.gidMappings",
        ),
        ("/linux/namespaces", json!([{ "type": "user" }]), "linux.namespaces[user]"),
        (
            "/mounts",
            json!([{ "destination": "/data", "type": "nfs", "source": "server:/" }]),
            "mounts[0].type",
        ),
        (
            "/mounts",
            json!([{ "destination": "/data", "type": "bind", "source": "/proc/sys" }]),
            "volume /proc/sys",
        ),
        (
            "/mounts",
            json!([{ "destination": "data", "type": "bind", "source": "/tmp" }]),
            "mounts[0].destination",
        ),
        ("/process/user/umask", json!(0o10000), "process.user.umask"),
        ("/process/user/uid", json!("root"), "process.user.uid: invalid type"),
        ("/process/cwd", json!(["/"]), "process.cwd: invalid type"),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "linux.sysctl[\"net.ipv4"),
        ("/linux/sysctl", json!({ "kernel.panic": "1" }), "linux.sysctl[\"kernel.panic\"]"),
        ("/linux/resources", json!({ "cpu": { "period": 1 } }), "linux.resources.cpu.period"),
        ("/hooks", json!({ "poststop": [{ "path": "relative" }] }), "hooks.poststop[0].path"),
    ]
}

/// Sets the value at a JSON pointer whose parent is there.
fn set(config: &mut Value, pointer: &str, value: Value) -> Result<()> {
    let (parent, name) = pointer.rsplit_once('/').context("no pointer")?;
    config.pointer_mut(parent).with_context(|| format!("no {parent}"))?[name] = value;
    Ok(())
}

pub(crate) fn fields_without_a_meaning_for_a_guest_change_nothing(p: &ShimDriver) -> Result<()> {
    for (pointer, value) in without_meaning() {
        runs(p, &[(pointer, value)]).with_context(|| pointer.to_owned())?;
    }
    runs(p, &without_meaning()).context("all of them at once")
}

fn runs(p: &ShimDriver, fields: &[(&str, Value)]) -> Result<()> {
    let mut bundle = p.bundle(ID, &[p.runtime().guest(), "exit", "7"])?;
    bundle.add_guests()?;
    for (pointer, value) in fields {
        set(&mut bundle.config, pointer, value.clone())?;
    }
    bundle.write()?;
    let client = p.connect(ID, bundle.path())?;
    client.create(ID, bundle.path(), &[])?;
    client.start(ID)?;
    ensure!(client.wait(ID)?.exit_status == 7);
    client.delete(ID)?;
    p.finish(&client, ID, bundle.path())?;
    std::fs::remove_dir_all(bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn unknown_values_without_a_meaning_for_a_guest_change_nothing(
    p: &ShimDriver,
) -> Result<()> {
    for (pointer, value) in unknown() {
        runs(p, &[(pointer, value)]).with_context(|| pointer.to_owned())?;
    }
    runs(p, &unknown()).context("all of them at once")
}

pub(crate) fn parameters_of_the_network_are_set(p: &ShimDriver) -> Result<()> {
    let name = "net.ipv4.ip_unprivileged_port_start";
    let mut bundle = p.bundle(ID, &[p.runtime().guest(), "sleep", "100"])?;
    bundle.add_guests()?;
    set(&mut bundle.config, "/linux/namespaces", json!([{ "type": "network" }]))?;
    set(&mut bundle.config, "/linux/sysctl", json!({ name: "77" }))?;
    bundle.write()?;
    let client = p.connect(ID, bundle.path())?;
    let pid = client.create(ID, bundle.path(), &[])?.pid.to_string();
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    let seen = Command::new("nsenter").args(["-t", &pid, "-n", "cat", &file]).run()?.ok()?;
    ensure!(seen.out() == "77\n", "{seen}");
    client.kill(ID, 9)?;
    client.wait(ID)?;
    client.delete(ID)?;
    p.finish(&client, ID, bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn fields_that_cannot_be_honoured_are_refused(p: &ShimDriver) -> Result<()> {
    for (pointer, value, named) in refused() {
        let mut bundle = p.bundle(ID, &[p.runtime().guest(), "exit", "7"])?;
        bundle.add_guests()?;
        set(&mut bundle.config, pointer, value)?;
        bundle.write()?;
        let said = p.refusal(ID, &bundle).with_context(|| pointer.to_owned())?;
        ensure!(said.contains(named), "{pointer}: {said}");
        std::fs::remove_dir_all(bundle.path())?;
    }
    Ok(())
}
