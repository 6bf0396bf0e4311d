//! Installed runtimes on real containerds: pods of both run, and the configuration is the same afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use runwasi_installer::host::{Host, HostOf};
use runwasi_installer::options::{Options, Runtime as Installed};
use runwasi_installer::{install, uninstall};
use runwasi_tests::cri::messages::ContainerState;
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{
    Command, Pod, Pods, Runtime, Setup, Version, check_pods_with, poll_until, says,
};

use crate::fixture::{Node, options, project, without_programs};

/// A fixture that has a daemon and knows the wasm guest; `installed` is its case.
fn check(version: Version, case: impl FnOnce(&mut Pods) -> Result<()> + Send) {
    check_pods_with(Runtime::Wasmtimed, &Setup { version, ..Setup::default() }, case);
}

#[test]
fn installed_runtimes_run_pods_on_containerd_1_7() {
    check(Version::V1_7, |pods| {
        let options = options(pods.fixture.dir())?;
        let node = Node::new(pods);
        installed(&node, &options, "config.toml")
    });
}

#[test]
fn installed_runtimes_run_pods_on_containerd_2() {
    check(Version::V2, |pods| {
        let options = options(pods.fixture.dir())?;
        let node = Node::new(pods);
        installed(&node, &options, "config.toml")
    });
}

#[test]
fn file_in_an_imported_directory_runs_pods_that_the_shim_makes() {
    check(Version::V2, |pods| {
        let mut options = options(pods.fixture.dir())?;
        options.sandboxer = true;
        migrate(pods)?;
        let node = Node::new(pods);
        installed(&node, &options, "conf.d/runwasi.toml")
    });
}

#[test]
fn configuration_is_back_if_containerd_comes_back_without_its_cri() {
    check(Version::V2, |pods| {
        let mut options = options(pods.fixture.dir())?;
        options.runtimes.truncate(1);
        let file = pods.fixture.dir().join("config.toml");
        let good = fs::read_to_string(&file)?;
        // Read at the next start alone: until then nobody has noticed it.
        let bad = good
            .replace("default_runtime_name = \"under-test\"", "default_runtime_name = \"none\"");
        ensure!(bad != good, "{good}");
        fs::write(&file, &bad)?;
        let node = Node::new(pods);
        let refused = install(&options, &node).err().context("installed")?.to_string();
        let names = ["containerd's plugin io.containerd.", "config.toml was restored"];
        says(&refused, &names, &["error"])?;
        ensure!(fs::read_to_string(&file)? == bad, "the configuration is another");
        fs::write(&file, &good)?;
        let mut pods = node.pods.borrow_mut();
        pods.fixture.stop()?;
        pods.fixture.start_again()?;
        pods.cri.becomes_ready()?;
        pods.becomes_clean()
    });
}

/// Makes the fixture's configuration one of version 3 that imports a directory.
fn migrate(pods: &mut Pods) -> Result<()> {
    let file = pods.fixture.dir().join("config.toml");
    let program = Version::V2.program()?.context("no program")?;
    let migrate =
        Command::new(program).args(["--config"]).args([&file]).args(["config", "migrate"]);
    let text = migrate.run()?.ok()?.out();
    ensure!(text.contains("version = 3\n") && text.contains("imports = []\n"), "{text}");
    let text = text.replace("imports = []\n", "imports = [\"conf.d/*.toml\"]\n");
    fs::write(file, text)?;
    pods.fixture.stop()?;
    pods.fixture.start_again()?;
    pods.cri.becomes_ready()?;
    Ok(())
}

/// Installs, runs a pod of each runtime, uninstalls. `changed` is the file that gets the runtimes.
fn installed(node: &Node<'_>, options: &Options, changed: &str) -> Result<()> {
    let directory = node.pods.borrow().fixture.dir().to_owned();
    let before = entries(&directory)?;
    let config = fs::read(directory.join("config.toml"))?;
    install(options, node)?;
    ensure!(install(options, node)?.is_empty(), "a second run changes something");
    let text = fs::read_to_string(directory.join(changed))?;
    ensure!(text.contains("runtimes.wasmtimed]\n"), "{text}");
    for runtime in Installed::ALL {
        runs(node, options, runtime).with_context(|| format!("{runtime:?}"))?;
    }
    uninstall(options, node)?;
    ensure!(fs::read(directory.join("config.toml"))? == config, "the configuration is another");
    let after = entries(&directory)?;
    ensure!(after == before, "{after:?} instead of {before:?}");
    let restarts =
        node.asked.borrow().iter().filter(|line| line.ends_with("restart containerd")).count();
    ensure!(restarts == 2, "{:?}", node.asked.borrow());
    let pods = node.pods.borrow();
    pods.cri.becomes_ready()?;
    pods.becomes_clean()
}

/// A pod by the CRI with the installed shim. While it is there, an uninstall is refused.
fn runs(node: &Node<'_>, options: &Options, runtime: Installed) -> Result<()> {
    let pod = {
        let mut pods = node.pods.borrow_mut();
        pods.handler = runtime.handler().to_owned();
        pods.cri.becomes_ready()?;
        let pod = pods.run(runtime.handler())?;
        let container = pods.start_in(&pod, "hello", &["exit", "7"])?;
        let ended = pods.becomes(&container, ContainerState::Exited)?;
        ensure!(ended.exit_code == 7, "{ended:?}");
        let shim = shim_of(&pods, &pod)?;
        let bin_dir = options.bin_dir.as_deref().context("no directory")?;
        ensure!(shim == format!("{bin_dir}/{}", runtime.shim()), "{shim}");
        pod
    };
    let refused = uninstall(options, node).err().context("uninstalled under a pod")?.to_string();
    says(&refused, &["of these runtimes are there", "k8s.io/"], &[])?;
    node.pods.borrow().finish(&pod)
}

/// The program that containerd started for a pod, which the CRI or the shim has made.
fn shim_of(pods: &Pods, pod: &Pod) -> Result<String> {
    let state = pods.fixture.dir().join("s");
    let bundle = state.join("io.containerd.sandbox.controller.v1.shim/k8s.io").join(&pod.id);
    let bundle = if bundle.exists() { bundle } else { pods.bundle(&pod.id) };
    let file = bundle.join("shim-binary-path");
    fs::read_to_string(&file).with_context(|| file.display().to_string())
}

/// Names in a directory, without what containerd itself and the test put there.
fn entries(directory: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string()));
    let names = names.collect::<Result<Vec<_>>>()?.into_iter().flatten();
    let mut names: Vec<_> = names.filter(|name| !matches!(name.as_str(), "log" | "logs")).collect();
    names.sort();
    Ok(names)
}

#[test]
fn programs_of_the_host_run_in_the_mounts_of_its_process() -> Result<()> {
    let mut holder = process::Command::new("unshare").args(["--mount", "sleep", "1000"]).spawn()?;
    let asked = mounts_of(holder.id());
    holder.kill()?;
    holder.wait()?;
    asked
}

/// Asks for a program's mount namespace on the host of a process that has one of its own.
fn mounts_of(process: u32) -> Result<()> {
    let own = fs::read_link("/proc/self/ns/mnt")?;
    let theirs = poll_until("mounts of its own", Duration::from_secs(20), || {
        let theirs = fs::read_link(format!("/proc/{process}/ns/mnt")).ok()?;
        (theirs != own).then_some(theirs)
    })?;
    let host = HostOf { process };
    let answer = host.run("readlink", &["/proc/self/ns/mnt"])?;
    ensure!(answer.output.trim_end() == theirs.to_string_lossy(), "{answer:?}");
    let missing = host.run("no-such-program", &[]).err().context("it was started")?;
    ensure!(missing.is_missing(), "{missing}");
    let long = Duration::from_secs(60);
    let answer = host.run_within("readlink", &["/proc/self/ns/mnt"], long)?.context("late")?;
    ensure!(answer.output.trim_end() == theirs.to_string_lossy(), "{answer:?}");
    let late = host.run_within("sleep", &["1000"], Duration::from_millis(200))?;
    ensure!(late.is_none(), "{late:?}");
    Ok(())
}

#[test]
fn each_containerd_reads_a_made_configuration_and_keeps_its_own_runtime() -> Result<()> {
    for version in [Version::Machine, Version::V1_7, Version::V2] {
        let directory = tempfile::tempdir()?;
        let options = without_programs(directory.path())?;
        install(&options, &HostOf::default())?;
        let names = ["runc", "wasmtime", "wasmtimed"];
        dump_names(version, &directory.path().join("config.toml"), &names)?;
    }
    Ok(())
}

#[test]
fn table_in_the_last_import_reaches_each_containerd() -> Result<()> {
    let table = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.other]\n  runtime_type = \"o\"\n";
    for version in [Version::Machine, Version::V1_7, Version::V2] {
        let directory = tempfile::tempdir()?;
        let options = without_programs(directory.path())?;
        let imports =
            format!("imports = [\"{}/conf.d/*.toml\"]\n{table}", directory.path().display());
        fs::write(directory.path().join("config.toml"), imports)?;
        fs::create_dir(directory.path().join("conf.d"))?;
        fs::write(directory.path().join("conf.d/99.toml"), table.replace("other", "last"))?;
        install(&options, &HostOf::default())?;
        let names = ["last", "wasmtime", "wasmtimed"];
        dump_names(version, &directory.path().join("config.toml"), &names)?;
    }
    Ok(())
}

#[test]
fn tables_of_the_page_leave_each_containerd_its_own_runtime() -> Result<()> {
    let page = fs::read_to_string(project().join("docs/kubernetes.md"))?;
    let tables = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let tables: Vec<_> = tables.filter(|text| text.starts_with("[plugins.")).collect();
    let [ours, runc] = tables[..] else { bail!("{tables:?}") };
    // As Debian's package has it: no table of a runtime.
    let cni =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = \"/usr/lib/cni\"\n";
    for version in [Version::Machine, Version::V1_7, Version::V2] {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("config.toml");
        fs::write(&file, [cni, ours, runc].concat())?;
        dump_names(version, &file, &["runc", "wasmtime", "wasmtimed"])?;
    }
    Ok(())
}

#[test]
fn directories_that_are_made_can_be_read_by_all_whatever_the_umask() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = without_programs(directory.path())?;
    let root = directory.path().join("root");
    fs::create_dir(&root)?;
    let installer = target_dir().join("release/runwasi-node-installer");
    let line = "umask 077; exec \"$0\" install --no-restart --root \"$1\" --assets \"$2\"";
    Command::new("sh").args(["-c", line]).args([&installer, &root, &options.assets]).run()?.ok()?;
    for made in ["etc/containerd", "etc/systemd/system", "etc/sysctl.d", "usr/local/bin"] {
        let mode = fs::metadata(root.join(made))?.permissions().mode();
        ensure!(mode & 0o7777 == 0o755, "{made}: {mode:o}");
    }
    Ok(())
}

/// Demands runtimes in what containerd makes of a configuration.
fn dump_names(version: Version, config: &Path, names: &[&str]) -> Result<()> {
    let program = version.program()?.unwrap_or_else(|| "containerd".into());
    let dump = Command::new(program).args(["--config"]).args([config]).args(["config", "dump"]);
    let dump = dump.run()?.ok()?.out();
    for name in names {
        let header = format!(".containerd.runtimes.{name}]");
        ensure!(
            dump.lines().any(|line| line.ends_with(&header)),
            "{version:?}: no {name} in {dump}"
        );
    }
    Ok(())
}
