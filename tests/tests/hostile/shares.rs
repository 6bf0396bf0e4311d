//! Shares of the node: one container takes its own part of memories, tables, stacks and file
//! descriptors, and a start that does not fit is refused by name. The cases are listed in `main.rs`.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use runwasi_tests::{
    Command, Containerd, Containers, Runtime, check_with,
    connection::{Connection, guests},
    daemon::Settings,
    hostile::programs::{OPENER, component},
    http::address,
    http::get,
    poll_until, proc, says,
    server::APP,
};
use tempfile::TempDir;

/// A pool in which every share can be used up by a handful of guests.
const SETTINGS: &str = "slots = 12\n[engine]\nmemories = 20\ntables = 60\ncontainer-stacks = 4\n\
    container-memories = 8\ncontainer-tables = 10\ncomponent-instances = 30\ncontainer-descriptors = 40\n";

/// A pool with far more memories than the memory maps suffice for.
const FEW_MAPS: &str = "slots = 30\n[engine]\nmemories = 1500\nmemory-maps = 1000\n\
    container-memories = 600\ncomponent-instances = 200\n";

/// Memories whose data lies in the middle, as in [`component`]: each splits the pool's map.
const MAPPED: &str = r#"(memory $a 3)(data (memory $a) (i32.const 65536) "x")
  (memory $b 3)(data (memory $b) (i32.const 65536) "x")
  (memory $c 3)(data (memory $c) (i32.const 65536) "x")
  (memory $d 3)(data (memory $d) (i32.const 65536) "x")"#;

/// Opens, closes and opens again: its exit status is the last `errno`.
const EMFILE: &str = include_str!("guests/emfile.wat");

/// Listens at PLACE, and takes and keeps every connection.
const LISTEN: &str = include_str!("guests/listen.wat");

/// A module that ends at once.
const NOTHING: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// Guests in a directory, and the flags of a pod that all of them share.
struct Guests {
    dir: TempDir,
    flags: Vec<String>,
}

impl Guests {
    fn new(c: &Containers) -> Result<Self> {
        Self::with(c, SETTINGS)
    }

    fn with(c: &Containers, settings: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        let options = dir.path().join("options.toml");
        fs::write(&options, settings)?;
        let mut flags = vec![
            "--net-host".into(),
            "--annotation".into(),
            format!("io.kubernetes.cri.sandbox-id={}", c.id("pod")),
            "--annotation".into(),
            "io.kubernetes.cri.container-type=container".into(),
            "--mount".into(),
            format!("type=bind,src={},dst=/g,options=rbind:ro", dir.path().display()),
            "--mount".into(),
            format!("type=bind,src={},dst=/guests,options=rbind:ro", guests()?.display()),
        ];
        // The daemon has the settings in its own file.
        if !c.runtime.needs_daemon() {
            flags.extend(["--runtime-config-path".into(), options.display().to_string()]);
        }
        Ok(Self { dir, flags })
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `ctr run FLAGS … ID PROGRAM`.
    fn run(&self, c: &Containers, flags: &[&str], id: &str, program: &str) -> Command {
        let mut line = vec!["run", "--runtime", c.runtime.name()];
        line.extend(flags);
        line.extend(self.flags.iter().map(String::as_str));
        line.extend([c.runtime.image().name(), id, program]);
        c.fixture.ctr_command(line)
    }

    /// Starts a guest in the background and returns its id.
    fn start(&self, c: &Containers, program: &str) -> Result<String> {
        let id = c.next_id();
        self.run(c, &["-d"], &id, program).run()?.ok()?;
        Ok(id)
    }

    /// Starts a guest in the background, as soon as the memory maps are counted again.
    fn starts_after_a_count(&self, c: &Containers, program: &str) -> Result<String> {
        // There is a second at least between two counts.
        poll_until("a start with a new count", Duration::from_secs(20), || {
            let id = c.next_id();
            let started = self.run(c, &["-d"], &id, program).run().and_then(|out| out.ok());
            if started.is_err() {
                // Refused: what `ctr run -d` leaves. Either may be gone already.
                drop(c.delete_task(&id));
                drop(c.delete_container(&id));
            }
            started.is_ok().then_some(id)
        })
    }

    /// The refusal of a start, which names the container.
    fn refused(&self, c: &Containers, program: &str) -> Result<String> {
        self.refused_with(c, &[], program)
    }

    fn refused_with(&self, c: &Containers, flags: &[&str], program: &str) -> Result<String> {
        let id = c.next_id();
        let flags = [&["--rm"], flags].concat();
        let said = self.run(c, &flags, &id, program).run()?.refused()?;
        names_once(&said, &[&id])?;
        Ok(said)
    }

    /// Runs an innocent guest of the same pod.
    fn neighbour_runs(&self, c: &Containers) -> Result<()> {
        self.write("nothing.wat", NOTHING)?;
        self.run(c, &["--rm"], &c.next_id(), "/g/nothing.wat").run()?.ok()?;
        Ok(())
    }
}

/// Demands that each of these words is in a refusal, and not twice.
fn names_once(said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        let times = said.matches(word).count();
        ensure!(times == 1, "{word:?} is {times} times in: {said}");
    }
    Ok(())
}

/// A fixture whose engine has [`SETTINGS`].
#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    check_engine(runtime, SETTINGS, case);
}

/// A fixture whose engine has [`FEW_MAPS`].
#[track_caller]
pub(crate) fn check_few_maps(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    check_engine(runtime, FEW_MAPS, case);
}

#[track_caller]
fn check_engine(
    runtime: Runtime,
    settings: &str,
    case: impl FnOnce(&mut Containers) -> Result<()>,
) {
    let builder = Containerd::builder();
    let fixture = if runtime.needs_daemon() {
        builder.daemon(Settings::default().config(settings))
    } else {
        builder
    };
    check_with(runtime, fixture, case);
}

fn end(c: &Containers, ids: &[String]) -> Result<()> {
    for id in ids {
        ensure!(c.kill_and_finish(id)? == 137, "{id} was not killed");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn a_component_has_a_bounded_number_of_memories(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    let memories = "(memory 0)(memory 0)(memory 0)(memory 0)";
    g.write("two.wat", &component(2, memories))?;
    g.write("three.wat", &component(3, memories))?;
    let wanted = &["linear memories", "12 more than the 0 in use", "the 8 of one container"];
    says(&g.refused(c, "/g/three.wat#go")?, wanted, &["engine.container-memories raises"])?;
    let id = g.start(c, "/g/two.wat#go")?;
    // An exec draws from the share of its container.
    let exec = c.exec_command(&[], &id, "more", &["/g/two.wat#go"]).run()?.refused()?;
    says(&exec, &[&id, "linear memories", "8 more than the 8 in use"], &["container-memories"])?;
    g.neighbour_runs(c)?;
    end(c, &[id])
}

pub(crate) fn component_has_a_bounded_number_of_tables(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    g.write("tables.wat", &component(6, "(table 1 funcref)(table 1 funcref)"))?;
    let wanted = &["tables", "12 more than the 0 in use", "the 10 of one container"];
    says(&g.refused(c, "/g/tables.wat#go")?, wanted, &["engine.container-tables raises"])?;
    g.write("instances.wat", &component(30, ""))?;
    says(&g.refused(c, "/g/instances.wat#go")?, &["31 core"], &["maximum of 30"])?;
    g.neighbour_runs(c)?;
    c.fixture.becomes_clean()
}

pub(crate) fn start_that_does_not_fit_names_what_is_exhausted(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    g.write("two.wat", &component(2, "(memory 0)(memory 0)(memory 0)(memory 0)"))?;
    g.write("one.wat", &component(1, "(memory 0)(memory 0)(memory 0)"))?;
    g.write("none.wat", &component(1, ""))?;
    let mut ids = vec![g.start(c, "/g/two.wat#go")?, g.start(c, "/g/two.wat#go")?];
    ids.push(g.start(c, "/g/one.wat#go")?);
    let wanted = ["linear memories", "3 more than the 19 in use", "the 20 of all containers"];
    names_once(&g.refused(c, "/g/one.wat#go")?, &[&wanted[..], &["engine.memories"]].concat())?;
    while ids.len() < 12 {
        ids.push(g.start(c, "/g/none.wat#go")?);
    }
    let wanted = ["instance slots", "the 12 of all containers", "which slots raises"];
    names_once(&g.refused(c, "/g/none.wat#go")?, &wanted)?;
    for id in ids.drain(3..) {
        ensure!(c.kill_and_finish(&id)? == 137);
    }
    g.neighbour_runs(c)?;
    end(c, &ids)
}

pub(crate) fn each_refusal_names_container_resource_limit_and_setting_once(
    c: &mut Containers,
) -> Result<()> {
    let g = Guests::new(c)?;
    let module = |parts: String| {
        format!(r#"(module (memory (export "memory") 1) {parts} (func (export "_start")))"#)
    };
    let memories = component(3, "(memory 0)(memory 0)(memory 0)(memory 0)");
    let tables = component(6, "(table 1 funcref)(table 1 funcref)");
    let limit = ["--memory-limit", "1048576"];
    let rows: [(_, _, &[&str], _); 7] = [
        (
            "/g/memories.wat#go",
            memories,
            &[],
            ["linear memories", "the 8 of one container", "engine.container-memories"],
        ),
        (
            "/g/tables.wat#go",
            tables,
            &[],
            ["out of tables", "the 10 of one container", "engine.container-tables"],
        ),
        (
            "/g/instances.wat#go",
            component(30, ""),
            &[],
            ["31 core module instances", "maximum of 30", "engine.component-instances"],
        ),
        (
            "/g/module-memories.wat",
            module("(memory 1)".repeat(10)),
            &[],
            ["11 memories", "at most 10", "engine.module-memories"],
        ),
        (
            "/g/module-tables.wat",
            module("(table 1 funcref)".repeat(9)),
            &[],
            ["9 tables", "at most 8", "engine.module-tables"],
        ),
        (
            "/g/elements.wat",
            module("(table 1000001 funcref)".into()),
            &[],
            ["1000001 elements", "at most 1000000", "engine.table-elements"],
        ),
        (
            "/g/begins.wat",
            module("(memory 31)".into()),
            &limit,
            ["out of memory", "limit of 1048576", "resources.memory.limit"],
        ),
    ];
    for (program, text, flags, words) in rows {
        let file = program.trim_start_matches("/g/").trim_end_matches("#go");
        g.write(file, &text)?;
        names_once(&g.refused_with(c, flags, program)?, &words)?;
    }
    g.neighbour_runs(c)?;
    c.fixture.becomes_clean()
}

pub(crate) fn processes_of_a_container_are_bounded(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    g.write("none.wat", &component(1, ""))?;
    let id = g.start(c, "/g/none.wat#go")?;
    for exec in ["e1", "e2", "e3"] {
        c.exec_command(&["--detach"], &id, exec, &["/g/none.wat#go"]).run()?.ok()?;
    }
    let said = c.exec_command(&[], &id, "more", &["/g/none.wat#go"]).run()?.refused()?;
    let words = ["instance slots", "the 4 of one container", "engine.container-stacks"];
    names_once(&said, &[&[id.as_str()], &words[..]].concat())?;
    g.neighbour_runs(c)?;
    end(c, &[id])
}

/// Memory maps of the OS process that serves a container.
fn maps_of(c: &Containers, id: &str) -> Result<usize> {
    // The process of the sandbox has the same memory.
    let pid = c.is_running(id)?.pid;
    Ok(fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().count())
}

pub(crate) fn start_beyond_the_memory_maps_is_refused_and_a_new_module_starts(
    c: &mut Containers,
) -> Result<()> {
    let g = Guests::with(c, FEW_MAPS)?;
    g.write("many.wat", &component(40, MAPPED))?;
    let id = g.start(c, "/g/many.wat#go")?;
    let used = maps_of(c, &id)?;
    // 160 memories once more do not fit, however many maps each takes.
    ensure!(used > 500, "the pool uses only {used} memory maps: it shows nothing");
    let said = g.refused(c, "/g/many.wat#go")?;
    let words = ["out of memory maps", "the 1000 of all containers", "engine.memory-maps"];
    names_once(&said, &words)?;
    // New to the node: its code takes maps as well.
    g.write("new.wat", &NOTHING.replace("_start\"", "_start\")) (func (export \"new\""))?;
    g.run(c, &["--rm"], &c.next_id(), "/g/new.wat").run()?.ok()?;
    let used = maps_of(c, &id)?;
    ensure!(used <= 1000, "{used} memory maps");
    end(c, &[id])
}

pub(crate) fn memory_maps_are_counted_before_a_start_is_refused(c: &mut Containers) -> Result<()> {
    let g = Guests::with(c, FEW_MAPS)?;
    g.write("none.wat", &component(1, ""))?;
    let mut ids = vec![g.start(c, "/g/none.wat#go")?];
    let first = maps_of(c, &ids[0])?;
    // Without data: two maps each, where the estimate has four.
    let plain = "(memory 1)(memory 1)(memory 1)(memory 1)";
    g.write("many.wat", &component(40, plain))?;
    ids.push(g.start(c, "/g/many.wat#go")?);
    let used = maps_of(c, &ids[0])?;
    println!("160 memories take {} memory maps", used - first);
    let memories = (1000 - used) / 4 - 12;
    ensure!(first + 4 * (160 + memories) > 1000, "the estimate allows it, too: it shows nothing");
    g.write("more.wat", &component(memories / 4, plain))?;
    ids.push(g.starts_after_a_count(c, "/g/more.wat#go")?);
    let used = maps_of(c, &ids[0])?;
    ensure!(used <= 1000, "{used} memory maps");
    end(c, &ids)
}

pub(crate) fn http_server_leaves_stacks_to_others(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    let address = address();
    let listen = format!("io.runwasi.http.address={address}");
    let most = "io.runwasi.http.max-requests=10000";
    let flags = [
        "-d",
        "--annotation",
        &listen,
        "--annotation",
        most,
        "--annotation",
        "io.runwasi.http.queue-timeout=60s",
    ];
    let id = c.next_id();
    g.run(c, &flags, &id, APP).run()?.ok()?;
    ensure!(get(address, "/hello")?.status == 200);
    let ask = |_| -> Result<Connection> {
        let mut connection = Connection::to(address)?;
        connection.send("/slow?ms=2000")?;
        Ok(connection)
    };
    let began = Instant::now();
    let mut asked = (0..12).map(ask).collect::<Result<Vec<_>>>()?;
    for _ in 0..3 {
        g.neighbour_runs(c)?;
    }
    // Requests beyond the share wait, and are answered.
    for connection in &mut asked {
        let answer = connection.answer()?;
        ensure!(answer.status == 200 && answer.body == "late\n", "{answer:?}");
    }
    let took = began.elapsed();
    ensure!(took > Duration::from_secs(5), "12 requests, 4 at once: only {took:?}");
    end(c, &[id])
}

pub(crate) fn http_server_accepts_within_its_share(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    let address = address();
    let listen = format!("io.runwasi.http.address={address}");
    let most = "io.runwasi.http.max-connections=10000";
    let id = c.next_id();
    g.run(c, &["-d", "--annotation", &listen, "--annotation", most], &id, APP).run()?.ok()?;
    ensure!(get(address, "/hello")?.status == 200);
    let serving = c.is_running(&id)?.pid;
    let before = proc::fds(serving)?;
    let clients: Vec<_> =
        (0..80).map(|_| TcpStream::connect(address)).collect::<std::io::Result<_>>()?;
    let accepted = || proc::fds(serving).map_or(0, |now| now.saturating_sub(before));
    poll_until("accepted clients", Duration::from_secs(20), || (accepted() >= 20).then_some(()))?;
    ensure!(
        poll_until("more clients", Duration::from_secs(2), || (accepted() > 48).then_some(()))
            .is_err(),
        "{} descriptors more, with a share of 40",
        accepted()
    );
    // Others of the node connect, and so do its own clients when there is room again.
    g.neighbour_runs(c)?;
    drop(clients);
    ensure!(get(address, "/hello")?.status == 200);
    end(c, &[id])
}

pub(crate) fn guest_that_closes_its_files_can_open_again(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    g.write("emfile.wat", EMFILE)?;
    let ended = g.run(c, &["--rm"], &c.next_id(), "/g/emfile.wat").run()?;
    ensure!(ended.status == 0, "errno {}: {ended}", ended.status);
    c.fixture.becomes_clean()
}

pub(crate) fn listener_of_p3_accepts_within_its_share(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    let SocketAddr::V4(address) = address() else { bail!("no IPv4 address") };
    let numbers = [address.port()].into_iter().chain(address.ip().octets().map(u16::from));
    let place: String = numbers.map(|number| format!("(i32.const {number})")).collect();
    g.write("listen.wat", &LISTEN.replace("PLACE", &place))?;
    let id = g.start(c, "/g/listen.wat")?;
    let serving = c.is_running(&id)?.pid;
    let before = proc::fds(serving)?;
    let connect = || TcpStream::connect(address).ok();
    let first = poll_until("the listener", Duration::from_secs(20), connect)?;
    let rest = (0..80).map(|_| TcpStream::connect(address)).collect::<std::io::Result<Vec<_>>>()?;
    let accepted = || proc::fds(serving).map_or(0, |now| now.saturating_sub(before));
    // 40, and a few that the server itself opens and closes.
    poll_until("accepted clients", Duration::from_secs(20), || (accepted() >= 40).then_some(()))?;
    ensure!(
        poll_until("more clients", Duration::from_secs(2), || (accepted() > 48).then_some(()))
            .is_err(),
        "{} descriptors more, with a share of 40",
        accepted()
    );
    c.is_running(&id)?;
    drop((first, rest));
    end(c, &[id])
}

/// Of the daemon: a shim that has no descriptor left harms no other pod.
#[track_caller]
pub(crate) fn check_few_descriptors(
    runtime: Runtime,
    case: impl FnOnce(&mut Containers) -> Result<()>,
) {
    let settings = Settings::default().before("ulimit -n 400").config("slots = 16\n");
    check_with(runtime, Containerd::builder().daemon(settings), case);
}

pub(crate) fn guests_leave_descriptors_to_the_daemon(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    g.write("opener.wat", OPENER)?;
    let mut ids = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..3 {
        let id = c.next_id();
        runs.push(g.run(c, &["--rm"], &id, "/g/opener.wat").spawn()?);
        ids.push(id);
    }
    poll_until("full tables", Duration::from_secs(30), || {
        runs.iter().all(|run| !run.stdout_so_far().is_empty()).then_some(())
    })?;
    let said: Vec<_> = runs.iter().map(|run| run.stdout_so_far()).collect();
    // 33, EMFILE, by the share of a container; 41, ENFILE, by the reserve of the daemon.
    let full = |text: &String| *text == char::from(65 + 33).to_string();
    let reserved = |text: &String| *text == char::from(65 + 41).to_string();
    ensure!(said.iter().all(|text| full(text) || reserved(text)), "{said:?}");
    ensure!(said.iter().any(reserved), "the reserve was never met: {said:?}");
    // The daemon still takes connections, starts a guest, kills and deletes.
    c.fixture.node().sandboxes().context("the daemon does not answer")?;
    g.neighbour_runs(c)?;
    for (id, run) in ids.iter().zip(runs) {
        c.kill(id, "SIGKILL")?;
        let ended = run.wait()?;
        ensure!(ended.status == 137, "{ended}");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn start_without_descriptors_is_refused_by_name(c: &mut Containers) -> Result<()> {
    let g = Guests::new(c)?;
    g.write("none.wat", &component(1, ""))?;
    g.write("nothing.wat", NOTHING)?;
    let id = g.start(c, "/g/none.wat#go")?;
    let address = fs::read_to_string(c.fixture.bundle(&id).join("address"))?;
    let socket = address.trim().trim_start_matches("unix://");
    // Connections of clients take descriptors that no guest may take.
    let mut clients = Vec::new();
    let patience = Duration::from_secs(60);
    let said = poll_until("a refusal", patience, || {
        clients.extend((0..40).filter_map(|_| UnixStream::connect(socket).ok()));
        let id = c.next_id();
        let said = g.run(c, &["--rm"], &id, "/g/nothing.wat").run().ok()?.refused().ok()?;
        Some((id, said))
    });
    let (next, said) = said?;
    names_once(&said, &[&next, "out of file descriptors", "this process's 400", "RLIMIT_NOFILE"])?;
    drop(clients);
    poll_until("a start", patience, || g.neighbour_runs(c).ok())?;
    end(c, &[id])
}
