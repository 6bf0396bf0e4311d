//! Clients of the manager socket that say nothing, or half of something; the cases are listed in `main.rs`.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use runwasi_tests::daemon::Settings;
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Runtime, ShimDriver, poll_until, proc, run_case_with, says};

use crate::api::{self, Create};
use crate::witness::{Witness, bundle};

/// Connections made in all, as issue and operators fear them.
const CONNECTIONS: usize = 10_000;
/// Connections held at once: far beyond what a daemon should grant, below what this process may hold.
const WAVE: usize = 2000;

/// A new sandbox is made and removed as if nobody else were there.
fn serves(p: &ShimDriver) -> Result<()> {
    let began = Instant::now();
    Witness::start(p, "newcomer")?.end(p)?;
    ensure!(began.elapsed() < Duration::from_secs(8), "a new sandbox took {:?}", began.elapsed());
    Ok(())
}

pub(crate) fn half_a_message_disturbs_nobody(p: &ShimDriver) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    // A ttrpc header is length, stream, type, flags.
    const REQUEST: [u8; 6] = [0, 0, 0, 1, 1, 0];
    let halves = [
        vec![0, 0, 1],
        [&[0, 0, 1, 0][..], &REQUEST].concat(),
        [&[0, 0, 1, 0][..], &REQUEST, &[0x0a; 100]].concat(),
        [&[0xff; 4][..], &REQUEST, &[0x0a; 1000]].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    let mut clients = Vec::new();
    for half in halves {
        for leaves in [true, false] {
            let mut stream = UnixStream::connect(p.node().socket())?;
            stream.set_write_timeout(Some(LIMIT))?;
            // May fail: a daemon that hangs up on nonsense is right.
            stream.write_all(&half).ok();
            if !leaves {
                clients.push(stream);
            }
            witness.is_undisturbed(p)?;
            serves(p)?;
        }
    }
    witness.end(p)?;
    p.becomes_clean()
}

pub(crate) fn silent_clients_disturb_nobody(p: &ShimDriver) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    let at_manager = connections(p, 20)?;
    let at_sandbox =
        (0..20).map(|_| UnixStream::connect(p.socket("witness"))).collect::<Result<Vec<_>, _>>()?;
    witness.is_undisturbed(p)?;
    serves(p)?;
    // They stay to the end: they must not keep the sandbox, either.
    witness.end(p)?;
    p.becomes_clean()?;
    drop((at_manager, at_sandbox));
    Ok(())
}

pub(crate) fn ten_thousand_connections_disturb_nobody(p: &ShimDriver) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    serves(p)?;
    let before = proc::fds(witness.daemon())?;
    for _ in 0..CONNECTIONS / WAVE {
        let held = connections(p, WAVE)?;
        witness.is_undisturbed(p)?;
        serves(p)?;
        drop(held);
    }
    poll_until("the fds of before", LIMIT, || {
        proc::fds(witness.daemon()).ok().filter(|now| *now <= before)
    })?;
    witness.end(p)?;
    p.becomes_clean()
}

fn connections(p: &ShimDriver, count: usize) -> Result<Vec<UnixStream>> {
    let connect =
        |n| UnixStream::connect(p.node().socket()).with_context(|| format!("connection {n}"));
    (0..count).map(connect).collect()
}

/// Few enough for a handful of sandboxes to use them up.
const FEW: &str = "ulimit -n 64";

#[test]
fn connections_that_take_all_descriptors_are_survived() {
    let shim_driver = ShimDriver::with(Runtime::Wasmtimed, Settings::default().before(FEW));
    run_case_with(shim_driver, |p| {
        let witness = Witness::start(p, "witness")?;
        // Not more: with nobody to accept them, connections beyond the queue would wait here.
        let held = connections(p, 100)?;
        // Nobody can be served now, or somebody had to give way for it; a hang is an error of the command.
        let new = bundle(p, "new")?;
        let started = p.start("new", new.path())?;
        if started.status != 0 {
            let daemon = p.node().socket().to_string_lossy().into_owned();
            says(
                &started.refused()?,
                &[],
                &[&daemon, "too many open files", "descriptors", "slots"],
            )?;
        }
        drop(held);
        p.delete("new", new.path())?.ok()?;
        witness.is_undisturbed(p)?;
        poll_until("service after the clients", LIMIT, || serves(p).ok())?;
        witness.end(p)?;
        p.becomes_clean()
    });
}

#[test]
fn sandboxes_that_take_all_descriptors_are_survived() {
    let shim_driver = ShimDriver::with(Runtime::Wasmtimed, Settings::default().before(FEW));
    run_case_with(shim_driver, |p| {
        let witness = Witness::start(p, "witness")?;
        let mut clients = Vec::new();
        let error = loop {
            let id = format!("clients{}", clients.len());
            match Witness::start(p, &id) {
                Ok(one) => clients.push(one),
                Err(error) => break (id, format!("{error:#}")),
            }
            ensure!(clients.len() < 64, "64 sandboxes with 64 descriptors");
        };
        let (refused, said) = error;
        says(&said, &[], &["too many open files", "descriptors", "slots"])?;
        p.delete(&refused, &p.dir().join("b").join(&refused))?.ok()?;
        if clients.is_empty() {
            bail!("not one more sandbox: {said}");
        }
        for one in clients.iter().chain([&witness]) {
            one.is_undisturbed(p)?;
        }
        clients.into_iter().try_for_each(|one| one.end(p))?;
        serves(p)?;
        witness.end(p)?;
        p.becomes_clean()
    });
}

/// As many pods at once as a node may start after its boot.
pub(crate) fn a_crowd_of_starts_is_served_to_the_last(p: &ShimDriver) -> Result<()> {
    const STARTS: usize = 400;
    let shared = bundle(p, "clients")?;
    let frame = api::frame("Create", &Create::of(p, "clients", shared.path()).encode_to_vec())?;
    let mut clients = Vec::new();
    for _ in 0..STARTS {
        let mut stream = UnixStream::connect(p.node().socket())?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&frame)?;
        clients.push(stream);
    }
    for (n, stream) in clients.iter_mut().enumerate() {
        let mut header = [0; 10];
        stream
            .read_exact(&mut header)
            .with_context(|| format!("the answer to start {n} of {STARTS}"))?;
    }
    drop(clients);
    let client = p.connect("clients", shared.path())?;
    p.finish(&client, "clients", shared.path())?;
    p.becomes_clean()
}
