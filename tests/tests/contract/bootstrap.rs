//! `-v`, `-info` and the forms of `start`'s answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, SandboxStatusRequest, SandboxStatusResponse,
    ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest, StartSandboxResponse,
};
use containerd_shim_protos::types::introspection::RuntimeInfo;
use runwasi_tests::bundle::{self, Bundle};
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::shim::{LIMIT, SANDBOX, TASK_V3, TaskClient};
use runwasi_tests::{Command, Runtime, ShimDriver, poll_until, run_case};
use serde_json::Value;

/// The engine as `-v` names it begins with this.
fn engine(runtime: Runtime) -> &'static str {
    if runtime.is_wasm() { "wasmtime" } else { "native" }
}

/// Runtime options as containerd sends them.
fn options() -> Result<Vec<u8>> {
    let url = "containerd.runc.v1.Options".to_owned();
    Ok(Any { type_url: url, value: vec![0x32, 4, b'r', b'u', b'n', b'c'], ..Any::default() }
        .write_to_bytes()?)
}

#[test]
fn version_names_runtime_version_and_engine() {
    for runtime in [Runtime::Wasmtime, Runtime::Native, Runtime::Wasmtimed] {
        run_case(runtime, |p| {
            let said = p.command("x", p.dir()).args(["-v"]).run()?.ok()?;
            let text = said.out();
            let value = |name: &str| {
                let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
                lines
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.trim().to_owned())
                    .unwrap_or_default()
            };
            ensure!(value("Runtime") == runtime.name(), "{said}");
            ensure!(value("Version") == env!("CARGO_PKG_VERSION"), "{said}");
            ensure!(
                value("Engine").starts_with(engine(runtime)) && said.stderr.is_empty(),
                "{said}"
            );
            Ok(())
        });
    }
}

#[test]
fn info_is_a_runtime_info_whatever_is_on_stdin() {
    for runtime in [Runtime::Wasmtime, Runtime::Native, Runtime::Wasmtimed] {
        run_case(runtime, |p| {
            // Nothing, options, and more than a pipe holds: it need not be read.
            for stdin in [Vec::new(), options()?, vec![0; 1 << 20]] {
                let said = p.command("x", p.dir()).args(["-info"]).stdin(stdin).run()?.ok()?;
                let info = RuntimeInfo::parse_from_bytes(&said.stdout)
                    .with_context(|| format!("no message: {said}"))?;
                ensure!(info.name == runtime.name(), "{info:?}");
                ensure!(info.version.version == env!("CARGO_PKG_VERSION"), "{info:?}");
            }
            Ok(())
        });
    }
}

fn features(p: &ShimDriver) -> Result<(String, Value)> {
    let said = p.command("x", p.dir()).args(["-info"]).run()?.ok()?;
    let info = RuntimeInfo::parse_from_bytes(&said.stdout)?;
    let features = info.features.into_option().context("no features")?;
    Ok((features.type_url, serde_json::from_slice(&features.value)?))
}

#[test]
fn info_tells_features_in_the_form_of_the_runc_shim() {
    for runtime in [Runtime::Wasmtime, Runtime::Native, Runtime::Wasmtimed] {
        run_case(runtime, |p| {
            let (name, told) = features(p)?;
            ensure!(
                name == "types.containerd.io/opencontainers/runtime-spec/1/features/Features",
                "{name}"
            );
            let has = |key: &str, wanted: &str| {
                told[key].as_array().is_some_and(|list| list.iter().any(|one| one == wanted))
            };
            ensure!(has("mountOptions", "rro") && has("mountOptions", "rslave"), "{told}");
            ensure!(!has("mountOptions", "idmap") && !has("mountOptions", "remount"), "{told}");
            ensure!(has("hooks", "createRuntime") && !has("hooks", "createContainer"), "{told}");
            let annotations = "potentiallyUnsafeConfigAnnotations";
            ensure!(has(annotations, "io.runwasi.memory.on-limit"), "{told}");
            let outbound = has(annotations, "io.runwasi.network.outbound");
            ensure!(outbound == (runtime != Runtime::Native), "{told}");
            Ok(())
        });
    }
}

/// runc's own list, as it prints it, is known but for what cannot be honoured.
#[test]
fn mount_options_of_runc_are_known() -> Result<()> {
    let runc: Value =
        serde_json::from_str(&Command::new("runc").args(["features"]).run()?.ok()?.out())?;
    let known = Vec::from_iter(runc["mountOptions"].as_array().context("no options")?.clone());
    run_case(Runtime::Wasmtime, |p| {
        let (_, told) = features(p)?;
        let ours = told["mountOptions"].as_array().context("no options")?;
        let missing: Vec<_> = known.iter().filter(|one| !ours.contains(one)).collect();
        ensure!(missing == ["remount"], "{missing:?}");
        Ok(())
    });
    Ok(())
}

#[test]
fn bootstrap_params_are_answered_with_a_bootstrap_result() {
    for runtime in [Runtime::Wasmtime, Runtime::Native, Runtime::Wasmtimed] {
        run_case(runtime, params_are_honoured);
    }
}

/// As containerd 2.3 and later start a shim.
fn by_params(p: &ShimDriver, id: &str, bundle: &Bundle, sockets: &Path) -> Result<BootstrapResult> {
    let params = BootstrapParams {
        instance_id: id.to_owned(),
        namespace: p.namespace().to_owned(),
        containerd_ttrpc_address: p.dir().join("c.sock.ttrpc").to_string_lossy().into_owned(),
        socket_dir: Some(sockets.to_string_lossy().into_owned()),
        ..BootstrapParams::default()
    };
    // What the message says counts, not the environment.
    let start =
        p.command(id, bundle.path()).args(["start"]).env("TTRPC_ADDRESS", "/nowhere/at/all");
    let started = start.stdin(params.write_to_bytes()?).run()?.ok()?;
    let result = BootstrapResult::parse_from_bytes(&started.stdout)
        .with_context(|| format!("no result: {started}"))?;
    ensure!(result.version == 3 && result.protocol == "ttrpc", "{result:?}");
    Ok(result)
}

fn params_are_honoured(p: &ShimDriver) -> Result<()> {
    let bundle = bundle(p, "boot")?;
    let sockets = p.dir().join("s");
    let result = by_params(p, "boot", &bundle, &sockets)?;
    let path = result.address.strip_prefix("unix://").with_context(|| format!("{result:?}"))?;
    let name = p.socket("boot").file_name().context("no name")?.to_owned();
    ensure!(path == sockets.join(name).to_string_lossy(), "{result:?}");
    ensure!(!p.socket("boot").exists(), "a second socket, where nobody asked for one");
    life(p, &result.address, "boot", &bundle)?;
    // The record of a sandbox goes before its socket.
    poll_until("the end of the socket", LIMIT, || {
        fs::read_dir(&sockets).ok()?.next().is_none().then_some(())
    })?;
    p.becomes_clean()
}

#[test]
fn bundle_without_config_makes_a_managed_sandbox() {
    for runtime in [Runtime::Wasmtime, Runtime::Native, Runtime::Wasmtimed] {
        run_case(runtime, managed_sandbox);
    }
}

/// As containerd 2.3 and later make a pod with `sandboxer = "shim"` and a container in it, for which they start nothing.
fn managed_sandbox(p: &ShimDriver) -> Result<()> {
    let (pod, app) = (bundle(p, "pod")?, bundle(p, "app")?);
    fs::remove_file(pod.path().join("config.json"))?;
    let tasks = TaskClient::connect(&by_params(p, "pod", &pod, &p.dir().join("s"))?.address)?
        .speaking(TASK_V3);
    let sandbox = tasks.speaking(SANDBOX);
    let sandbox_id = "pod".to_owned();
    let request = CreateSandboxRequest { sandbox_id: sandbox_id.clone(), ..Default::default() };
    sandbox.call::<CreateSandboxResponse>("CreateSandbox", &request, LIMIT)?;
    let request = StartSandboxRequest { sandbox_id: sandbox_id.clone(), ..Default::default() };
    let pid = sandbox.call::<StartSandboxResponse>("StartSandbox", &request, LIMIT)?.pid;
    ensure!(tasks.create("app", app.path(), &[])?.pid == pid && pid > 0, "another pid than {pid}");
    tasks.start("app")?;
    ensure!(tasks.wait("app")?.exit_status == 5);
    tasks.delete("app")?;
    tasks.shutdown("app");
    let request = SandboxStatusRequest { sandbox_id: sandbox_id.clone(), ..Default::default() };
    let status = sandbox.call::<SandboxStatusResponse>("SandboxStatus", &request, LIMIT)?;
    ensure!(status.state == "SANDBOX_READY", "{status:?}");
    let request = ShutdownSandboxRequest { sandbox_id, ..Default::default() };
    sandbox.call::<ShutdownSandboxResponse>("ShutdownSandbox", &request, LIMIT)?;
    p.delete("pod", pod.path())?.ok()?;
    p.becomes_clean()?;
    p.hears(&["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
}

#[test]
fn options_on_stdin_are_answered_with_a_plain_address() {
    for runtime in [Runtime::Wasmtime, Runtime::Native, Runtime::Wasmtimed] {
        run_case(runtime, |p| {
            let bundle = bundle(p, "plain")?;
            let started =
                p.command("plain", bundle.path()).args(["start"]).stdin(options()?).run()?.ok()?;
            ensure!(
                started.out() == format!("unix://{}", p.socket("plain").display()),
                "{started}"
            );
            life(p, &started.out(), "plain", &bundle)?;
            p.becomes_clean()
        });
    }
}

#[test]
fn server_has_a_name_of_its_own() {
    run_case(Runtime::Wasmtime, |p| {
        let bundle = bundle(p, "named")?;
        let started = p.command("named", bundle.path()).args(["start"]).run()?.ok()?;
        let shims = p.shims();
        ensure!(shims.len() == 1, "{shims:?}");
        let file = format!("/proc/{}/comm", shims[0].pid);
        let name = || fs::read_to_string(&file).unwrap_or_default();
        let named = || (name().trim_end() == "wasmtime serve").then_some(());
        poll_until("the server's name", LIMIT, named).with_context(name)?;
        life(p, &started.out(), "named", &bundle)
    });
}

/// The engine's exported functions and exception tables would make the thin shim half as large
/// again: the linker cannot drop them.
#[test]
fn thin_shim_is_linked_without_the_engine() -> Result<()> {
    let has_engine = |file: &Path| -> Result<bool> {
        let program = fs::read(file).with_context(|| file.display().to_string())?;
        let name = b"wasmtime7runtime"; // a mangled path: `wasmtime::runtime`
        Ok(program.windows(name.len()).any(|bytes| bytes == name))
    };
    let thin = Runtime::Wasmtimed.program_file().context("the thin shim's file")?;
    ensure!(has_engine(&daemon_file())?, "the daemon's symbols have other names");
    ensure!(!has_engine(&thin)?, "{} contains wasmtime", thin.display());
    Ok(())
}

/// Addresses for the loader to correct cost each start of a shim time, and each shim memory of its own.
#[test]
fn programs_have_no_addresses_that_the_loader_corrects() -> Result<()> {
    for program in programs()? {
        let told = Command::new("readelf").args(["-rW"]).args([&program]).run()?.ok()?;
        // One line each, by a name of the machine's: R_X86_64_RELATIVE, R_AARCH64_RELATIVE.
        let relative = told.out().matches("_RELATIVE").count();
        ensure!(relative == 0, "{}: {relative} relative relocations", program.display());
        ensure!(told.out().contains("_GLOB_DAT"), "{}: {}", program.display(), told.out());
    }
    Ok(())
}

/// The library of the unwinder costs each start of a shim a fourth of a millisecond.
#[test]
fn programs_have_their_unwinder_in_them() -> Result<()> {
    for program in programs()? {
        let told = Command::new("readelf").args(["-dW"]).args([&program]).run()?.ok()?;
        ensure!(told.out().contains("[libc.so.6]"), "{}: {}", program.display(), told.out());
        ensure!(!told.out().contains("libgcc"), "{}: {}", program.display(), told.out());
    }
    Ok(())
}

/// The shims and the daemon.
fn programs() -> Result<Vec<PathBuf>> {
    let shims = [Runtime::Wasmtime, Runtime::Wasmtimed].map(Runtime::program_file);
    let programs = shims.into_iter().flatten().chain([daemon_file()]).collect::<Vec<_>>();
    ensure!(programs.len() == 3, "{programs:?}");
    Ok(programs)
}

/// A bundle with the guest and a `log` FIFO in it.
fn bundle(p: &ShimDriver, id: &str) -> Result<Bundle> {
    let bundle = p.bundle(id, &[p.runtime().guest(), "exit", "5"])?;
    bundle.add_guests()?;
    bundle::fifo(&bundle.path().join("log"))?;
    Ok(bundle)
}

/// A container goes through its whole life at this address, and its events arrive.
fn life(p: &ShimDriver, address: &str, id: &str, bundle: &Bundle) -> Result<()> {
    let client = TaskClient::connect(address)?;
    client.create(id, bundle.path(), &[])?;
    client.start(id)?;
    let status = client.wait(id)?.exit_status;
    ensure!(status == 5, "status {status}");
    client.delete(id)?;
    p.finish(&client, id, bundle.path())?;
    p.becomes_clean()?;
    p.hears(&["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
}

/// The next server may come when the last one has closed its socket; on ext4 both files have one inode number then.
#[test]
fn successor_of_an_ending_server_keeps_its_address() {
    for runtime in [Runtime::Wasmtime, Runtime::Wasmtimed] {
        run_case(runtime, |p| {
            let bundle = p.bundle("again", &["exit", "0"])?;
            let (path, socket) = (bundle.path(), p.socket("again"));
            let limit = Duration::from_secs(20);
            let gone = || p.shims().is_empty().then_some(());
            for round in 0..20 {
                p.connect("again", path)?.shutdown("again");
                p.start("again", path)?.ok()?;
                // The second start has made a server, or has found the first and ends with it.
                let settled = || {
                    let servers = p.shims().len();
                    (servers == 0 || servers == 1 && socket.exists()).then_some(())
                };
                poll_until("a server with its address, or none", limit, settled)
                    .with_context(|| format!("{runtime:?}, round {round}: {:?}", p.shims()))?;
                // An error: it was the first server, which has left.
                if let Ok(server) = p.connect("again", path) {
                    server.shutdown("again");
                }
                poll_until("end of the servers", limit, gone)?;
            }
            p.delete("again", path)?.ok()?;
            p.becomes_clean()
        });
    }
}
