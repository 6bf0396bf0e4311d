//! Sandboxes beside each other in one daemon, and what is left of one that is gone; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use runwasi_tests::daemon::SOCKET_VARIABLE;
use runwasi_tests::events::{Events, in_order};
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Command, Containerd, Containers, ShimDriver, Ticks, poll_until};

use crate::sandbox;
use crate::witness::{Witness, bundle};

/// Containers on each containerd at once.
const EACH: usize = 8;

pub(crate) fn containerds_share_one_daemon(c: &mut Containers) -> Result<()> {
    let other = Containers::start_with(c.runtime, Containerd::builder().daemon_of(&c.fixture))?;
    let both = [&*c, &other];
    let events = both.iter().map(|c| Events::listen(c)).collect::<Result<Vec<_>>>()?;
    let mut running = Vec::new();
    for n in 0..EACH {
        for (c, name) in both.iter().zip(["one", "other"]) {
            let text = format!("{name} {n}");
            // The same id on both.
            let run =
                c.run_command(&["--rm"], &c.id(&format!("n{n}")), &["echo", &text]).spawn()?;
            running.push((text, run));
        }
    }
    for (text, run) in running {
        let out = run.wait()?.ok()?;
        ensure!(out.out() == format!("{text}\n"), "{out}");
    }
    for (c, events) in both.iter().zip(&events) {
        for n in 0..EACH {
            in_order(&events.until("delete", &c.id(&format!("n{n}")))?)?;
        }
    }
    let (kept, ended) = (c.id("kept"), other.id("ended"));
    c.detached(&kept, &["daemon"])?;
    other.detached(&ended, &["sleep", "100"])?;
    let (one, two) = (sandbox(c.fixture.node(), &kept)?, sandbox(other.fixture.node(), &ended)?);
    ensure!(one.daemon == two.daemon && one.namespace != two.namespace, "{one:?} and {two:?}");
    ensure!(other.kill_and_finish(&ended)? == 137);
    // The end of a whole containerd is no business of the other's.
    drop(other);
    Ticks::of(&kept)?.go_on()?;
    ensure!(c.kill_and_finish(&kept)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn namespaces_share_one_daemon(c: &mut Containers) -> Result<()> {
    let (id, other) = (c.id("same"), format!("{}-other", c.fixture.namespace()));
    let in_other = |args: &[&str]| c.fixture.ctr([&["-n", &other], args].concat())?.ok();
    in_other(&["image", "import", &c.runtime.image().tar().to_string_lossy()])?;
    c.detached(&id, &["sleep", "100"])?;
    let image = [c.runtime.image().name(), &id, c.runtime.guest()];
    in_other(&[&["run", "-d", "--runtime", c.runtime.name()], &image[..], &["daemon"]].concat())?;
    let all = c.fixture.node().sandboxes()?;
    let namespaces: Vec<_> =
        all.iter().filter(|one| one.group == id).map(|one| one.namespace.as_str()).collect();
    ensure!(
        namespaces.len() == 2
            && namespaces.contains(&c.fixture.namespace())
            && namespaces.contains(&&*other),
        "{all:?}"
    );
    ensure!(all[0].socket != all[1].socket, "{all:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    let ticking = in_other(&["task", "ls"])?;
    ensure!(ticking.out().contains("RUNNING"), "{ticking}");
    in_other(&["task", "kill", "-s", "SIGKILL", &id])?;
    // Its exit status is the task's, or 0 with a warning.
    c.fixture.ctr(["-n", &other, "task", "delete", "-f", &id])?;
    in_other(&["container", "delete", &id])?;
    // The daemon answers before the sandbox's server has ended.
    poll_until("the end of all records", LIMIT, || {
        c.fixture.node().records().is_empty().then_some(())
    })?;
    c.fixture.becomes_clean()
}

pub(crate) fn delete_by_hand_after_containerds_death_leaves_nothing(
    c: &mut Containers,
) -> Result<()> {
    let (lost, bundle) = (c.id("lost"), c.fixture.bundle(&c.id("lost")));
    c.detached(&lost, &["daemon"])?;
    let socket = c.fixture.socket(&lost);
    let record = c.fixture.node().record(&socket);
    ensure!(socket.exists() && record.exists(), "{} or {}", socket.display(), record.display());
    c.fixture.kill9()?;
    let shim = c.runtime.program_file().context("no program")?.canonicalize()?;
    let (address, path) = (c.fixture.address(), bundle.to_string_lossy().into_owned());
    let place = ["-namespace", c.fixture.namespace(), "-address", &address.to_string_lossy()]
        .map(str::to_owned);
    let command =
        Command::new(shim).args(place).args(["-publish-binary", "/bin/true", "-id", &lost]);
    let answer =
        command.env(SOCKET_VARIABLE, c.fixture.node().socket()).args(["-bundle", &path, "delete"]);
    let answer = answer.current_dir(&bundle).run()?.ok()?;
    ensure!(DeleteResponse::parse_from_bytes(&answer.stdout)?.exit_status == 137, "{answer}");
    // The daemon answers before the sandbox's server has ended.
    poll_until("the end of the sandbox", LIMIT, || {
        (!socket.exists() && !record.exists()).then_some(())
    })?;
    ensure!(c.fixture.node().sandboxes()?.is_empty(), "{:?}", c.fixture.node().sandboxes());
    c.fixture.start_again()?;
    c.is_taken_away(&lost)?;
    c.fixture.becomes_clean()
}

pub(crate) fn shutdown_ends_one_sandbox_only(p: &ShimDriver) -> Result<()> {
    let (witness, brief) = (Witness::start(p, "witness")?, Witness::start(p, "brief")?);
    let (socket, kept) = (p.socket("brief"), p.socket("witness"));
    // With a container in it a sandbox stays.
    brief.client().shutdown("brief");
    brief.is_undisturbed(p)?;
    brief.end(p)?;
    poll_until("end of the sandbox", LIMIT, || {
        (!socket.exists() && !p.node().record(&socket).exists()).then_some(())
    })?;
    let left = p.node().sandboxes()?;
    ensure!(left.len() == 1 && left[0].group == "witness" && left[0].socket == kept, "{left:?}");
    ensure!(p.node().record(&kept).exists());
    witness.is_undisturbed(p)?;
    witness.end(p)?;
    p.becomes_clean()
}

pub(crate) fn group_can_be_started_again_at_once(p: &ShimDriver) -> Result<()> {
    let bundle = bundle(p, "again")?;
    for round in 0..30 {
        let client = p.connect("again", bundle.path())?;
        client.create("again", bundle.path(), &[]).with_context(|| format!("round {round}"))?;
        client.kill("again", 9)?;
        client.wait("again")?;
        client.delete("again")?;
        // The next start may find the sandbox, its end, or nothing.
        client.shutdown("again");
    }
    p.delete("again", bundle.path())?.ok()?;
    p.becomes_clean()
}
