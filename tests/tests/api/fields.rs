//! Fields of `config.json` that say nothing to a guest, and those that must not be passed over; the table is in
//! `docs/config-json.md`, the cases are listed in `main.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::Code;
use runwasi_tests::{Command, ShimDriver, poll_until};
use serde_json::{Value, json};

const ID: &str = "fields";

/// Accepted: what they restrict, a guest cannot reach anyway, or it has no process that they could concern.
pub(crate) fn without_meaning() -> Vec<(&'static str, Value)> {
    vec![
        ("/process/noNewPrivileges", json!(true)),
        ("/process/apparmorProfile", json!("cri-containerd.apparmor.d")),
        ("/process/selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675")),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 4 })),
        ("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 })),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }, { "type": "RLIMIT_NPROC", "soft": 1, "hard": 1 }]),
        ),
        ("/process/terminal", json!(true)),
        ("/process/user/username", json!("guest")),
        ("/process/commandLine", json!("guest.exe")),
        ("/process/execCPUAffinity", json!({ "initial": "0", "final": "0" })),
        ("/ociVersion", json!("1.99.0")),
        ("/hostname", json!("guest")),
        ("/domainname", json!("example.org")),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64"] }),
        ),
        (
            "/linux/devices",
            json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438 }]),
        ),
        ("/linux/mountLabel", json!("system_u:object_r:svirt_sandbox_file_t:s0:c715,c811")),
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
                "cpu": {
                    "cpus": "0", "mems": "0", "realtimeRuntime": 950_000, "realtimePeriod": 1_000_000,
                    "burst": 1000, "idle": 1,
                },
                "memory": {
                    "swap": 1 << 30, "swappiness": 60, "kernel": 1 << 20, "kernelTCP": 1 << 20,
                    "reservation": 1 << 20, "disableOOMKiller": true, "useHierarchy": true,
                    "checkBeforeUpdate": true,
                },
                "pids": { "limit": 1 },
                "blockIO": { "weight": 10 },
                "hugepageLimits": [{ "pageSize": "2MB", "limit": 0 }],
                "network": { "classID": 1_048_577 },
                "rdma": { "mlx5_1": { "hcaHandles": 3 } },
                "unified": { "memory.high": "1" },
            }),
        ),
        ("/linux/cgroupsPath", json!("/nowhere/at/all")),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0" })),
        ("/windows", json!({ "layerFolders": ["C:"] })),
        ("/zos", json!({ "namespaces": [] })),
        ("/uidMappings", json!([])),
        ("/gidMappings", json!([])),
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

/// A field, its value, and a part of the refusal.
type Refused = (&'static str, Value, &'static str);

/// Refused: whoever relies on them would be less safe, or get other files than asked for.
pub(crate) fn refused() -> Vec<Refused> {
    [refused_values(), refused_mounts(), refused_annotations()].concat()
}

fn refused_values() -> Vec<Refused> {
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
        ("/linux/netDevices", json!({ "eth0": { "name": "eth1" } }), "linux.netDevices"),
        ("/process/user/umask", json!(0o10000), "process.user.umask"),
        ("/process/user/uid", json!("root"), "process.user.uid: invalid type"),
        ("/process/cwd", json!(["/"]), "process.cwd: invalid type"),
        ("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }), "linux.sysctl[\"net.ipv4"),
        ("/linux/sysctl", json!({ "kernel.panic": "1" }), "linux.sysctl[\"kernel.panic\"]"),
        ("/linux/resources", json!({ "cpu": { "period": 1 } }), "linux.resources.cpu.period"),
        ("/hooks", json!({ "poststop": [{ "path": "relative" }] }), "hooks.poststop[0].path"),
        ("/hooks", json!({ "startContainer": [{ "path": "/a" }] }), "hooks.startContainer"),
        ("/process", json!(null), "process: is missing"),
        ("/process/args", json!([]), "process.args: is empty"),
        ("/process/args", json!(["/a", "b\0c"]), "process.args[1]: holds a NUL byte"),
        ("/process/env", json!(["x"]), "process.env[0]"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/rlimits", json!({ "type": "RLIMIT_NOFILE" }), "process.rlimits: invalid type"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": "many", "hard": 1 }]),
            "process.rlimits[0].soft: invalid type",
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": 8, "hard": 7 }]),
            "process.rlimits[RLIMIT_NOFILE]: the soft limit 8",
        ),
        ("/process/oomScoreAdj", json!("high"), "process.oomScoreAdj: invalid type"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj: 1001 is not"),
        ("/hostname", json!("x".repeat(65)), "hostname: has 65 bytes"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation: \"sideways\""),
        ("/linux/maskedPaths", json!([7]), "linux.maskedPaths[0]: invalid type"),
        ("/linux/readonlyPaths", json!("/a"), "linux.readonlyPaths: invalid type"),
        ("/linux/cgroupsPath", json!("/../x"), "linux.cgroupsPath"),
        (
            "/linux/resources",
            json!({ "memory": { "limit": "1g" } }),
            "linux.resources.memory.limit",
        ),
        ("/linux/resources", json!({ "cpu": { "quota": 1 } }), "linux.resources.cpu.quota"),
        ("/linux/namespaces", json!([{ "type": "planet" }]), "linux.namespaces[0].type"),
        (
            "/linux/namespaces",
            json!([{ "type": "ipc" }, { "type": "ipc" }]),
            "linux.namespaces[1].type: a namespace of the type ipc",
        ),
        // Refused by the kernel alone.
        ("/linux", with_sysctl("net.ipv4.no_such", "1"), "linux.sysctl[\"net.ipv4.no_such\"]"),
        (
            "/linux",
            with_sysctl("net.ipv4.ip_unprivileged_port_start", "many"),
            "linux.sysctl[\"net.ipv4.ip_unprivileged_port_start\"] = \"many\"",
        ),
        (
            "/linux/namespaces",
            json!([{ "type": "network", "path": "relative" }]),
            "linux.namespaces[network].path",
        ),
    ]
}

fn refused_mounts() -> Vec<Refused> {
    vec![
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
        ("/root", json!(null), "root: is missing"),
        ("/root/path", json!("nowhere"), "root.path"),
        (
            "/mounts",
            json!([mount("tmpfs", &["size=banana"])]),
            "mounts: /data: options: \"size=banana\"",
        ),
        ("/mounts", json!([mount("tmpfs", &["no-such"])]), "mounts: /data: options: \"no-such\""),
        ("/mounts", json!([mount("bind", &["idmap"])]), "mounts[0].options: \"idmap\""),
        ("/mounts", json!([mount("bind", &["rbind"])]), "volume /nowhere"),
        ("/mounts", json!([{ "destination": "/a", "type": "bind" }]), "mounts[0].source"),
    ]
}

fn refused_annotations() -> Vec<Refused> {
    vec![
        ("/annotations", json!({ "a": 7 }), "annotations.a: invalid type"),
        (
            "/annotations",
            annotation("io.runwasi.memory.on-limit", "cry"),
            "io.runwasi.memory.on-limit",
        ),
        (
            "/annotations",
            annotation("io.runwasi.network.outbond", "none"),
            "io.runwasi.network.outbond",
        ),
        (
            "/annotations",
            annotation("io.runwasi.network.outbound", "10.0.0.1/99"),
            "io.runwasi.network.outbound",
        ),
        // Of a guest that is no server.
        (
            "/annotations",
            annotation("io.runwasi.http.idle-timeout", "soon"),
            "io.runwasi.http.idle-timeout",
        ),
        (
            "/annotations",
            annotation("io.kubernetes.cri.container-type", "banana"),
            "io.kubernetes.cri.container-type",
        ),
        (
            "/annotations",
            annotation("io.kubernetes.cri.sandbox-id", "../x"),
            "io.kubernetes.cri.sandbox-id",
        ),
    ]
}

/// A network of its own with a parameter.
fn with_sysctl(name: &str, value: &str) -> Value {
    json!({ "namespaces": [{ "type": "network" }], "sysctl": { name: value } })
}

fn annotation(name: &str, value: &str) -> Value {
    json!({ name: value })
}

fn mount(kind: &str, options: &[&str]) -> Value {
    json!({ "destination": "/data", "type": kind, "source": "/nowhere", "options": options })
}

/// Fields without which there is no sandbox. They are refused by the shim's `start`, whose failure has no code.
const OF_THE_SANDBOX: [&str; 6] = [
    "hostname",
    "linux.sysctl",
    "linux.namespaces[network]",
    "linux.namespaces[0]",
    "linux.namespaces[1]",
    "annotations",
];

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
    fs::remove_dir_all(bundle.path())?;
    p.becomes_clean()
}

/// Its memory is theirs. That of a shim without containers is one above the score of this process, which starts it.
pub(crate) fn shim_has_the_least_oom_score_of_its_containers(p: &ShimDriver) -> Result<()> {
    let score = |process: &str| -> Result<i32> {
        let path = format!("/proc/{process}/oom_score_adj");
        Ok(fs::read_to_string(&path).context(path)?.trim().parse()?)
    };
    let base = (score("self")? + 1).min(1000);
    let pod = json!({
        "io.kubernetes.cri.sandbox-id": ID,
        "io.kubernetes.cri.container-type": "container",
    });
    let bundles = [(ID, 900), ("other", 700), ("lowest", -1000)]
        .map(|(id, score)| -> Result<_> {
            let mut bundle = p.bundle(id, &[p.runtime().guest(), "exit", "7"])?;
            bundle.add_guests()?;
            set(&mut bundle.config, "/annotations", pod.clone())?;
            set(&mut bundle.config, "/process/oomScoreAdj", json!(score))?;
            bundle.write()?;
            Ok((id, bundle))
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let client = p.connect(ID, bundles[0].1.path())?;
    let shim = p.shims().first().context("no shim")?.pid.to_string();
    // Its server raises it behind the fork, beside the answer of `start`.
    poll_until("the score without containers", Duration::from_secs(20), || {
        score(&shim).ok().filter(|score| *score == base)
    })?;
    for ((id, bundle), wanted) in bundles.iter().zip([900, 700, base]) {
        client.create(id, bundle.path(), &[])?;
        let least = score(&shim)?;
        ensure!(least == wanted.max(base), "with {id}: {least}");
    }
    for ((id, _), wanted) in bundles.iter().zip([base, base, base]) {
        client.delete(id)?;
        let least = score(&shim)?;
        ensure!(least == wanted, "without {id}: {least}");
    }
    p.finish(&client, ID, bundles[0].1.path())?;
    bundles.iter().try_for_each(|(_, bundle)| fs::remove_dir_all(bundle.path()))?;
    p.becomes_clean()
}

pub(crate) fn unknown_values_without_a_meaning_for_a_guest_change_nothing(
    p: &ShimDriver,
) -> Result<()> {
    for (pointer, value) in unknown() {
        runs(p, &[(pointer, value)]).with_context(|| pointer.to_owned())?;
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let warns = |line: &str| line.contains("left out") && line.contains(&field);
        poll_until("a warning with the field", Duration::from_secs(20), || {
            p.log().lines().any(warns).then_some(())
        })
        .with_context(|| format!("{field}: {}", p.log()))?;
    }
    runs(p, &unknown()).context("all of them at once")
}

pub(crate) fn parameters_of_the_namespaces_are_set(p: &ShimDriver) -> Result<()> {
    let names = ["net.ipv4.ip_unprivileged_port_start", "kernel.msgmni", "kernel.domainname"];
    let mut bundle = p.bundle(ID, &[p.runtime().guest(), "sleep", "100"])?;
    bundle.add_guests()?;
    set(
        &mut bundle.config,
        "/linux/namespaces",
        json!([{ "type": "network" }, { "type": "ipc" }, { "type": "uts" }]),
    )?;
    let values = json!({ names[0]: "77", names[1]: "77", names[2]: "example.org" });
    set(&mut bundle.config, "/linux/sysctl", values)?;
    bundle.write()?;
    let client = p.connect(ID, bundle.path())?;
    let pid = client.create(ID, bundle.path(), &[])?.pid.to_string();
    let files = names.map(|name| format!("/proc/sys/{}", name.replace('.', "/")));
    let inside = ["-t", &pid, "-n", "-i", "-u", "cat", &files[0], &files[1], &files[2]];
    let seen = Command::new("nsenter").args(inside).run()?.ok()?;
    ensure!(seen.out() == "77\n77\nexample.org\n", "{seen}");
    client.kill(ID, 9)?;
    client.wait(ID)?;
    client.delete(ID)?;
    p.finish(&client, ID, bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn parameters_of_the_hosts_network_are_refused_by_its_path(
    p: &ShimDriver,
) -> Result<()> {
    let mut bundle = p.bundle(ID, &[p.runtime().guest(), "exit", "7"])?;
    bundle.add_guests()?;
    // Read by the shim or the daemon.
    let path = "/proc/self/ns/net";
    set(&mut bundle.config, "/linux/namespaces", json!([{ "type": "network", "path": path }]))?;
    set(&mut bundle.config, "/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }))?;
    bundle.write()?;
    let refusal = p.refused_create(ID, &bundle, None)?;
    ensure!(refusal.text.contains("net.ipv4.ip_forward"), "{}", refusal.text);
    std::fs::remove_dir_all(bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn wrong_values_are_invalid_arguments(p: &ShimDriver) -> Result<()> {
    for (pointer, value, named) in refused() {
        let mut bundle = p.bundle(ID, &[p.runtime().guest(), "exit", "7"])?;
        bundle.add_guests()?;
        set(&mut bundle.config, pointer, value.clone())?;
        bundle.write()?;
        let refusal =
            p.refused_create(ID, &bundle, None).with_context(|| format!("{pointer} {value}"))?;
        let said = refusal.text;
        ensure!(said.contains(named), "{pointer}: {said}");
        match refusal.code {
            Some(code) => ensure!(code == Code::INVALID_ARGUMENT, "{pointer}: {code:?} {said}"),
            None => ensure!(
                OF_THE_SANDBOX.iter().any(|field| said.contains(field)),
                "{pointer}: refused by start: {said}"
            ),
        }
        std::fs::remove_dir_all(bundle.path())?;
    }
    Ok(())
}

/// Runtime options as containerd hands over what stands in its configuration.
fn options(body: &str) -> Result<Any> {
    let length = u8::try_from(body.len())?;
    let url = "runtimeoptions.v1.Options".to_owned();
    let value = [&[0x1a, length], body.as_bytes()].concat();
    Ok(Any { type_url: url, value, ..Any::default() })
}

pub(crate) fn wrong_runtime_options_are_invalid_arguments(p: &ShimDriver) -> Result<()> {
    for (body, named) in [
        ("[engine", "runtime options"),
        ("[engine]\nno-such = 1", "no-such"),
        ("[engine]\ngc = 7", "gc"),
        ("unknown = true", "unknown"),
    ] {
        let bundle = p.bundle(ID, &[p.runtime().guest(), "exit", "7"])?;
        bundle.add_guests()?;
        bundle.write()?;
        let refusal = p.refused_create(ID, &bundle, Some(options(body)?)).context(body)?;
        ensure!(refusal.text.contains(named), "{body}: {}", refusal.text);
        ensure!(refusal.code == Some(Code::INVALID_ARGUMENT), "{body}: {:?}", refusal.code);
        std::fs::remove_dir_all(bundle.path())?;
    }
    Ok(())
}
