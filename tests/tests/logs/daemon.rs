//! The forms of the daemon's log besides text: JSON, and entries of systemd's journal, which is
//! played; the cases are listed in `main.rs`.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::log::{has, json, number};
use runwasi_tests::{Containerd, Containers, Runtime, check_with};

/// How long an entry may take.
const SOON: Duration = Duration::from_secs(10);

#[track_caller]
pub(crate) fn check_json(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let settings = Settings::default().flags(["--log-format", "json"]);
    check_with(runtime, Containerd::builder().daemon(settings), case);
}

pub(crate) fn every_line_of_json_parses_with_its_fields(c: &mut Containers) -> Result<()> {
    let id = c.id("json");
    c.run(&id, &["trap"])?.status_is(134)?;
    let messages =
        ["container created", "container started", "container exited", "container deleted"];
    let lines = c.whole_life(&id, &messages)?;
    has(&lines[2], &[("status", "134"), ("cause", "trap"), ("level", "info"), ("sandbox", &id)])?;
    ensure!(number(&lines[2], "memory_peak")? > 0.0, "{:?}", lines[2]);
    let log = c.fixture.daemon()?.log();
    for line in log.lines() {
        let fields = json(line).with_context(|| format!("no JSON: {line}"))?;
        ensure!(["time", "level", "msg"].iter().all(|key| fields.contains_key(*key)), "{line}");
    }
    ensure!(log.contains("\"status\":134,"), "a number is written as one: {log}");
    c.fixture.becomes_clean()
}

/// A journal that is played, seen by the daemon alone.
pub(crate) struct Journal {
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
}

type Entry = BTreeMap<String, String>;

impl Journal {
    /// The journal, and the settings of a daemon whose stderr is connected to it.
    fn play() -> Result<(Self, Settings)> {
        let directory = tempfile::tempdir()?;
        std::fs::create_dir(directory.path().join("journal"))?;
        let socket = UnixDatagram::bind(directory.path().join("journal/socket"))?;
        socket.set_read_timeout(Some(SOON))?;
        // The daemon's stderr is the file of its log, and the variable names it as systemd does.
        let mount = format!("mount --bind {} /run/systemd", directory.path().display());
        let settings = Settings::default()
            .before("JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr); export JOURNAL_STREAM")
            .before("mkdir -p /run/systemd")
            .before(&format!(
                "exec unshare --mount sh -c '{mount}; exec \"$@\" 9>&1 >&2' sh \"$@\""
            ));
        Ok((Self { socket, _directory: directory }, settings))
    }

    /// The next entry about a container.
    fn next_of(&self, id: &str) -> Result<Entry> {
        loop {
            let mut datagram = vec![0; 1 << 16];
            let length = self.socket.recv(&mut datagram).context("no entry about it")?;
            let text = String::from_utf8(datagram[..length].to_vec())?;
            ensure!(text.ends_with('\n'), "{text:?}");
            let fields = text.lines().map(|line| {
                let (key, value) = line.split_once('=').with_context(|| format!("{line:?}"))?;
                Ok((key.to_owned(), value.to_owned()))
            });
            let entry = fields.collect::<Result<Entry>>()?;
            let is_ours = |key: &str| entry.get(key).is_some_and(|value| value == id);
            if is_ours("RUNWASI_CONTAINER") && entry["MESSAGE"].starts_with("container ") {
                return Ok(entry);
            }
        }
    }
}

#[track_caller]
pub(crate) fn check_journal(
    runtime: Runtime,
    case: impl FnOnce(&mut Containers, &Journal) -> Result<()>,
) {
    let (journal, settings) = Journal::play().expect("a journal");
    let fixture = Containerd::builder().daemon(settings);
    check_with(runtime, fixture, |c| case(c, &journal));
}

pub(crate) fn entries_of_the_journal_have_fields(
    c: &mut Containers,
    journal: &Journal,
) -> Result<()> {
    let id = c.id("noted");
    c.run(&id, &["exit", "3"])?.status_is(3)?;
    for word in ["created", "started", "exited", "deleted"] {
        let entry = journal.next_of(&id)?;
        let message = &entry["MESSAGE"];
        ensure!(message.starts_with(&format!("container {word} namespace=")), "{message}");
        ensure!(message.contains(&format!(" container={id} sandbox={id}")), "{message}");
        has(&entry, &[("PRIORITY", "6"), ("SYSLOG_IDENTIFIER", "containerd-wasmtimed")])?;
        has(&entry, &[("RUNWASI_SANDBOX", &id), ("RUNWASI_NAMESPACE", c.fixture.namespace())])?;
        if word == "exited" {
            has(&entry, &[("RUNWASI_STATUS", "3"), ("RUNWASI_CAUSE", "exit")])?;
        }
    }
    let log = c.fixture.daemon()?.log();
    ensure!(log.is_empty(), "written to stderr as well: {log}");
    c.fixture.becomes_clean()
}
