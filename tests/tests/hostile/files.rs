//! Files whose calls never return: FIFOs in a file's place, files under a lease, file systems without a server; and the CPU time
//! of file calls. The cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::bundle::{self, Bundle};
use runwasi_tests::daemon::Settings;
use runwasi_tests::hostile::hung::Hung;
use runwasi_tests::hostile::lease::Lease;
use runwasi_tests::hostile::programs::{OPEN, OPEN_COMPONENT, READ_STREAM, SWAP, streams_for_ever};
use runwasi_tests::{
    Command, Containerd, Containers, Image, Meter, Runtime, ShimDriver, best_of, check_alone_with,
    poll_until, proc,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::tasks::Tasks;

const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";
const KIND: &str = "io.kubernetes.cri.container-type=container";

const SOON: Duration = Duration::from_secs(20);
/// Users whose guests are attackers.
const USERS: [u32; 2] = [0, 1000];

/// One more attacker than the machine has cores, so that one is left over if each holds a worker.
fn attackers() -> usize {
    available_parallelism().map_or(1, usize::from) + 2
}

/// A pod, so that the guests of a case are in one OS process also with a shim per pod.
struct Pod(String);

impl Pod {
    fn new(c: &Containers) -> Self {
        Self(format!("{SANDBOX}={}", c.id("pod")))
    }

    /// Flags of `ctr run` for a container of the pod.
    fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--annotation", &self.0, "--annotation", KIND], more].concat()
    }

    /// Starts a module or component as a container with the directory `volume` at `/v`.
    fn module(
        &self,
        c: &Containers,
        dir: &Path,
        name: &str,
        text: &str,
        uid: u32,
    ) -> Result<String> {
        let id = c.id(name);
        let mut bundle = self.bundle(c, dir, name, &dir.join("volume"), uid)?;
        bundle.file("guest.wat", text)?;
        let program = if text == OPEN_COMPONENT { "/guest.wat#go" } else { "/guest.wat" };
        c.run_config(&mut bundle, &["-d"], &id, &[program])?.run()?.ok()?;
        Ok(id)
    }

    /// Starts the guest as a container that reads the file at this path below `source`.
    fn reader(
        &self,
        c: &Containers,
        dir: &Path,
        name: &str,
        (source, path): (&str, &str),
        uid: u32,
    ) -> Result<String> {
        let id = c.id(name);
        let mut bundle = self.bundle(c, dir, name, &dir.join(source), uid)?;
        bundle.file(c.runtime.guest(), fs::read(c.runtime.guest_file())?)?;
        let program = [c.runtime.guest(), "cat", &format!("/v/{path}")];
        c.run_config(&mut bundle, &["-d"], &id, &program)?.run()?.ok()?;
        Ok(id)
    }

    /// A bundle of a container of the pod, with this user and this directory at `/v`.
    fn bundle(
        &self,
        c: &Containers,
        dir: &Path,
        name: &str,
        source: &Path,
        uid: u32,
    ) -> Result<Bundle> {
        let cgroup = format!("/{}/{}", c.fixture.namespace(), c.id(name));
        let mut bundle = Bundle::create(dir.join(name), &[], &cgroup)?;
        let rootfs = bundle.path().join("rootfs");
        fs::create_dir(rootfs.join("v"))?;
        fs::create_dir(rootfs.join("data"))?;
        fs::set_permissions(rootfs.join("data"), PermissionsExt::from_mode(0o777))?;
        fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o755))?;
        bundle.config["root"]["path"] = json!(rootfs);
        bundle.config["process"]["user"] = json!({ "uid": uid, "gid": uid });
        bundle.config["mounts"] = json!([{ "destination": "/v", "type": "bind",
            "source": source, "options": ["rbind", "rw"] }]);
        let pairs = [self.0.as_str(), KIND].map(|pair| pair.split_once('='));
        let pairs = pairs.into_iter().flatten().map(|(key, value)| (key.into(), json!(value)));
        // `ctr` takes no annotations by flags beside a config.
        bundle.config["annotations"] = serde_json::Value::Object(pairs.collect());
        Ok(bundle)
    }

    /// Demands that other guests of the pod run and have their timers on time.
    fn answers(&self, c: &Containers) -> Result<()> {
        best_of(5, || {
            let flags = self.flags(&["--rm"]);
            let out = c.run_command(&flags, &c.next_id(), &["timer", "5", "100"]).run()?.ok()?;
            let mut sleeps =
                out.out().split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
            sleeps.sort_unstable();
            let median = *sleeps.get(sleeps.len() / 2).context("no sleep")?;
            ensure!(median < 15_000, "sleeps of 5 ms lasted {median} us at the median");
            Ok(())
        })
    }
}

/// Asks a container to end, which its guest does not hear: it ends at once by the signal.
fn end_by_sigterm(c: &Containers, id: &str) -> Result<()> {
    let begin = Instant::now();
    c.kill(id, "SIGTERM")?;
    c.becomes(id, "STOPPED")?;
    ensure!(begin.elapsed() < Duration::from_secs(3), "{:?} to end {id}", begin.elapsed());
    let status = c.finish(id)?;
    ensure!(status == 143, "{id} has ended with {status}");
    Ok(())
}

/// Kills containers, each of whose ends must be told at once, and removes them.
fn end(c: &Containers, ids: &[String]) -> Result<()> {
    for id in ids {
        let begin = Instant::now();
        c.kill(id, "SIGKILL")?;
        c.becomes(id, "STOPPED")?;
        ensure!(begin.elapsed() < Duration::from_secs(3), "{:?} to end {id}", begin.elapsed());
    }
    for id in ids {
        ensure!(c.finish(id)? == 137, "{id} ended by itself");
    }
    Ok(())
}

fn volume() -> Result<TempDir> {
    let dir = TempDir::new()?;
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    let volume = dir.path().join("volume");
    fs::create_dir(&volume)?;
    fs::set_permissions(&volume, PermissionsExt::from_mode(0o777))?;
    Ok(dir)
}

fn file(path: &Path) -> Result<()> {
    fs::write(path, "content")?;
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o666))?)
}

pub(crate) fn fifo_swapped_in_by_another_container_holds_no_worker(
    c: &mut Containers,
) -> Result<()> {
    let dir = volume()?;
    let pod = Pod::new(c);
    file(&dir.path().join("volume/a"))?;
    bundle::fifo(&dir.path().join("volume/b"))?;
    fs::set_permissions(dir.path().join("volume/b"), PermissionsExt::from_mode(0o666))?;
    let swap = pod.module(c, dir.path(), "swap", SWAP, 0)?;
    let open = match c.runtime.image() {
        Image::WasmtestComponent => OPEN_COMPONENT,
        _ => OPEN,
    };
    for uid in USERS {
        let mut ids = Vec::new();
        for n in 0..attackers() {
            ids.push(pod.module(c, dir.path(), &format!("open{uid}-{n}"), open, uid)?);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            pod.answers(c)?;
        }
        end(c, &ids)?;
    }
    end(c, &[swap])?;
    c.fixture.becomes_clean()
}

pub(crate) fn file_under_a_lease_of_another_process_holds_no_worker(
    c: &mut Containers,
) -> Result<()> {
    let pod = Pod::new(c);
    for uid in USERS {
        let dir = volume()?;
        let leased = dir.path().join("volume/f");
        file(&leased)?;
        let lease = Lease::write(&leased)?;
        let mut ids = Vec::new();
        for n in 0..attackers() {
            let name = format!("lease{uid}-{n}");
            ids.push(pod.reader(c, dir.path(), &name, ("volume", "f"), uid)?);
        }
        pod.answers(c)?;
        let killed = ids.split_off(1);
        end(c, &killed)?;
        c.is_running(&ids[0])?;
        drop(lease);
        ensure!(c.finish(&ids[0])? == 0, "not read after the lease was given back");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn file_on_a_hung_file_system_holds_only_its_reader(c: &mut Containers) -> Result<()> {
    let pod = Pod::new(c);
    for uid in USERS {
        let dir = volume()?;
        let hung = Hung::mount(&dir.path().join("hung"))?;
        let mut ids = Vec::new();
        for n in 0..attackers() {
            let name = format!("hung{uid}-{n}");
            ids.push(pod.reader(c, dir.path(), &name, ("hung", "f"), uid)?);
        }
        poll_until("every reader waits", SOON, || (hung.calls() >= ids.len()).then_some(()))?;
        pod.answers(c)?;
        end_by_sigterm(c, &ids.pop().context("no reader")?)?;
        end(c, &ids)?;
        pod.answers(c)?;
        drop(hung);
    }
    c.fixture.becomes_clean()
}

/// Below a recursive bind of a directory that is itself on a local disk.
pub(crate) fn hung_file_system_below_a_volume_holds_only_its_reader(
    c: &mut Containers,
) -> Result<()> {
    let pod = Pod::new(c);
    let dir = volume()?;
    let hung = Hung::mount(&dir.path().join("volume/data"))?;
    let mut ids = Vec::new();
    for n in 0..attackers() {
        let place = ("volume", "data/f");
        ids.push(pod.reader(c, dir.path(), &format!("below{n}"), place, 1000)?);
    }
    poll_until("every reader waits", SOON, || (hung.calls() >= ids.len()).then_some(()))?;
    pod.answers(c)?;
    end(c, &ids)?;
    drop(hung);
    c.fixture.becomes_clean()
}

pub(crate) fn output_to_a_hung_file_system_holds_only_its_guests(c: &mut Containers) -> Result<()> {
    let pod = Pod::new(c);
    let dir = volume()?;
    let hung = Hung::mount(&dir.path().join("hung"))?;
    let uri = format!("file://{}", dir.path().join("hung/f").display());
    let mut ids = Vec::new();
    for n in 0..attackers() {
        let id = c.id(&format!("log{n}"));
        c.detached_with(&pod.flags(&["--log-uri", &uri]), &id, &["daemon"])?;
        ids.push(id);
    }
    poll_until("a write waits", SOON, || (hung.calls() > 0).then_some(()))?;
    pod.answers(c)?;
    end(c, &ids)?;
    // Without such a file for its init.
    let id = c.id("host");
    c.detached_with(&pod.flags(&[]), &id, &["sleep", "1000"])?;
    let program = [c.runtime.guest(), "daemon"];
    for n in 0..attackers() {
        let flags = ["--detach", "--log-uri", &uri];
        c.exec_command(&flags, &id, &format!("e{n}"), &program).run()?.ok()?;
    }
    pod.answers(c)?;
    end(c, &[id])?;
    drop(hung);
    c.fixture.becomes_clean()
}

/// Engine settings with few threads for file calls.
const FEW_THREADS: &str = "[engine]\ncontainer-file-threads = 2\n";

/// A fixture whose engine has [`FEW_THREADS`].
#[track_caller]
pub(crate) fn check_few_threads(
    runtime: Runtime,
    case: impl FnOnce(&mut Containers) -> Result<()>,
) {
    let fixture = Containerd::builder();
    let fixture = match runtime.needs_daemon() {
        true => fixture.daemon(Settings::default().config(FEW_THREADS)),
        false => fixture,
    };
    check_alone_with(runtime, fixture, case);
}

pub(crate) fn container_holds_no_more_threads_than_its_setting_allows(
    c: &mut Containers,
) -> Result<()> {
    let pod = Pod::new(c);
    let dir = volume()?;
    let hung = Hung::mount(&dir.path().join("hung"))?;
    let options = c.fixture.dir().join("options.toml");
    fs::write(&options, FEW_THREADS)?;
    let options = options.display().to_string();
    let flags = match c.runtime.needs_daemon() {
        true => vec!["-d"],
        false => vec!["-d", "--runtime-config-path", &options],
    };
    let id = c.id("few");
    let mut bundle = pod.bundle(c, dir.path(), "few", &dir.path().join("hung"), 0)?;
    bundle.file(c.runtime.guest(), fs::read(c.runtime.guest_file())?)?;
    let program = [c.runtime.guest(), "sleep", "1000"];
    c.run_config(&mut bundle, &flags, &id, &program)?.run()?.ok()?;
    // In the background: the start of an exec is answered once its guest runs.
    let exec = |n| {
        let program = [c.runtime.guest(), "cat", "/v/f"];
        c.exec_command(&["--detach"], &id, &format!("e{n}"), &program).spawn()
    };
    let execs = (0..4).map(exec).collect::<Result<Vec<_>>>()?;
    let log = |c: &mut Containers| {
        c.fixture.log() + &c.fixture.daemon().map(|daemon| daemon.log()).unwrap_or_default()
    };
    let wanted = r#"limit="2, which engine.container-file-threads raises" places=/v"#;
    poll_until("a warning", SOON, || {
        let log = log(c);
        log.lines().any(|line| line.contains(&id) && line.contains(wanted)).then_some(())
    })
    .with_context(|| format!("no warning with {id} and {wanted}"))?;
    ensure!(hung.calls() == 2, "{} reads at once", hung.calls());
    // Others of the node have threads.
    pod.answers(c)?;
    end(c, std::slice::from_ref(&id))?;
    for exec in execs {
        exec.wait()?;
    }
    let log = log(c);
    let given_up = |line: &str| line.contains("given up") && line.contains(&id);
    // Each of the execs tells its own.
    let is_last = |line: &str| given_up(line) && line.contains(" total=2 ");
    ensure!(log.lines().any(|line| is_last(line) && line.contains(wanted)), "{id} not given up");
    drop(hung);
    c.fixture.becomes_clean()
}

/// Guests that make file calls for ever: by preview 1, or by p2 and p3.
fn callers(c: &Containers) -> Vec<(&'static str, String)> {
    match c.runtime.image() {
        Image::WasmtestComponent => {
            let streams = streams_for_ever(READ_STREAM, 0);
            vec![("opens", OPEN_COMPONENT.into()), ("streams", streams)]
        }
        _ => vec![("opens", OPEN.into())],
    }
}

pub(crate) fn cpu_of_file_calls_is_charged_to_the_container(c: &mut Containers) -> Result<()> {
    let dir = volume()?;
    let pod = Pod::new(c);
    file(&dir.path().join("volume/a"))?;
    for uid in USERS {
        for (name, text) in callers(c) {
            let id = pod.module(c, dir.path(), &format!("{name}{uid}"), &text, uid)?;
            is_throttled(c, &id).with_context(|| format!("{name} as {uid}"))?;
            end(c, &[id])?;
        }
    }
    c.fixture.becomes_clean()
}

/// Demands that a quota of 0.1 CPU holds for a container, and for all that its process uses.
fn is_throttled(c: &Containers, id: &str) -> Result<()> {
    runwasi_tests::usage::update(c, id, r#"{"cpu":{"quota":10000,"period":100000}}"#)?;
    let meter = Meter::of(c, id)?;
    let pid = c.fixture.shims().first().context("no shim")?.pid;
    best_of(5, || {
        let before = proc::cpu_time(pid)?;
        let begin = Instant::now();
        let part = meter.part_of_periods()?;
        let whole = (proc::cpu_time(pid)? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        ensure!((part / 0.1 - 1.0).abs() <= 0.15, "{part:.3} of a CPU instead of 0.1");
        ensure!(whole <= 0.15, "the process used {whole:.3} of a CPU, its guest may use 0.1");
        Ok(())
    })
}

pub(crate) fn delete_does_not_succeed_while_the_server_lives(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("held", &[p.runtime().guest(), "sleep", "100"])?;
    bundle.add_guests()?;
    let client = p.connect("held", bundle.path())?;
    client.create("held", bundle.path(), &[])?;
    client.start("held")?;
    let server = p.shims().first().context("no server")?.pid;
    let process = Pid::from_raw(server.try_into()?).context("no pid")?;
    kill_process(process, Signal::STOP)?;
    let deleted = p.delete("held", bundle.path());
    kill_process(process, Signal::CONT)?;
    let deleted = deleted?;
    ensure!(deleted.status != 0, "a success: {deleted}");
    // The daemon has a socket for such questions.
    let socket = match p.runtime().needs_daemon() {
        true => p.node().dir().to_owned(),
        false => p.socket("held"),
    };
    for part in ["container held", &socket.display().to_string()] {
        ensure!(deleted.err().contains(part), "{part} is not named: {deleted}");
    }
    p.delete("held", bundle.path())?.ok()?;
    p.becomes_clean()
}

pub(crate) fn delete_names_what_it_could_not_remove(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("left", &[p.runtime().guest(), "exit", "0"])?;
    // As a killed shim leaves it: its last thread is in the kernel and does not end.
    let cgroup = Tasks::new(&format!("{}-left", p.namespace()))?;
    let place = cgroup.path().display().to_string();
    fs::write(bundle.path().join("cgroups.made"), format!("{place}\n\n"))?;
    let process = Command::new("sleep").args(["1000"]).spawn()?;
    cgroup.take(process.pid())?;
    let said = p.delete("left", bundle.path())?.ok()?.err();
    process.kill()?;
    ensure!(said.contains("a cgroup stays behind") && said.matches(&place).count() == 1, "{said}");
    // It can be repeated, and says nothing if all is gone.
    let deleted = p.delete("left", bundle.path())?.ok()?;
    ensure!(deleted.stderr.is_empty() && !cgroup.path().exists(), "{deleted}");
    p.becomes_clean()
}
