//! Refused containers, execs and sandboxes in the log, and text of theirs that looks like a line; the
//! cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::daemon::Settings;
use runwasi_tests::exposition::Scrape;
use runwasi_tests::log::{Line, has, text};
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Containers, Runtime, ShimDriver, http, poll_until, run_case_with};

/// What would be the end of another container, if it stood in a line of its own.
const FORGED: &str = "x\ntime=\"2026-01-01T00:00:00Z\" level=info msg=\"container exited\" \
                      container=victim status=0";

pub(crate) fn refused_container_is_told_once_with_the_reason(c: &mut Containers) -> Result<()> {
    let tiny = c.id("tiny");
    let flags = ["--rm", "--memory-limit", "600000"];
    let annotations = ["--annotation", "io.kubernetes.cri.sandbox-name=web-0"];
    let said = c.run_command(&[&flags[..], &annotations].concat(), &tiny, &["exit", "0"]);
    let said = said.run()?.refused()?;
    // Its memory is missing at its start.
    let messages =
        ["container created", "container exited", "container refused", "container deleted"];
    let lines = c.whole_life(&tiny, &messages)?;
    has(&lines[1], &[("status", "128"), ("cause", "error")])?;
    has(&lines[2], &[("step", "start"), ("sandbox", &tiny), ("pod", "web-0")])?;
    // What the user of `ctr` reads is what the log tells.
    ensure!(said.contains(&lines[2]["reason"]), "{:?} is not in {said}", lines[2]["reason"]);
    ensure!(lines[2]["reason"].contains("600000"), "{:?}", lines[2]);

    let absent = c.id("absent");
    let image = c.runtime.image();
    c.run_of(image, &["--rm"], &absent, &["/absent.wasm"]).run()?.refused()?;
    let lines = c.whole_life(&absent, &["container refused"])?;
    has(&lines[0], &[("step", "create"), ("sandbox", &absent)])?;
    ensure!(lines[0]["reason"].contains("/absent.wasm"), "{:?}", lines[0]);

    let unread = c.id("unread");
    let wrong = "io.kubernetes.cri.container-type=banana";
    c.run_command(&["--rm", "--annotation", wrong], &unread, &["exit", "0"]).run()?.refused()?;
    let lines = c.whole_life(&unread, &["container refused"])?;
    ensure!(lines[0]["reason"].contains("banana"), "{:?}", lines[0]);
    c.fixture.becomes_clean()
}

pub(crate) fn refused_execs_are_told(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    c.detached(&id, &["sleep", "1000"])?;
    c.exec_command(&[], &id, "absent", &["/absent.wasm"]).run()?.refused()?;
    let messages =
        ["container created", "container started", "exec created", "exec refused", "exec deleted"];
    let lines = c.whole_life(&id, &messages)?;
    has(&lines[3], &[("exec", "absent"), ("step", "start")])?;
    ensure!(lines[3]["reason"].contains("/absent.wasm"), "{:?}", lines[3]);
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn text_of_a_container_cannot_forge_a_line(c: &mut Containers) -> Result<()> {
    let id = c.id("forger");
    let pod = format!("io.kubernetes.cri.sandbox-name={FORGED}");
    let program = format!("/{FORGED}");
    let image = c.runtime.image();
    let flags = ["--rm", "--annotation", &pod];
    c.run_of(image, &flags, &id, &[&program]).run()?.refused()?;
    let lines = c.whole_life(&id, &["container refused"])?;
    has(&lines[0], &[("pod", FORGED)])?;
    ensure!(lines[0]["reason"].contains(FORGED), "{:?}", lines[0]);
    let victims = c.life("victim");
    ensure!(victims.is_empty(), "{victims:?}");
    // Nor is it the start of any line of containerd's log.
    let log = c.log();
    let forged = log.lines().find(|line| {
        text(line).is_some_and(|line| line.get("container").is_some_and(|id| id == "victim"))
    });
    ensure!(forged.is_none(), "{forged:?}");
    c.fixture.becomes_clean()
}

#[test]
fn refused_sandbox_is_told_once_with_the_reason() {
    let metrics = http::address();
    let settings = Settings::default().flags(["--metrics-address", &metrics.to_string()]);
    run_case_with(ShimDriver::with(Runtime::Wasmtimed, settings), |p| {
        // The daemon's one root is `/tmp`.
        let outside = tempfile::Builder::new().prefix("outside").tempdir_in("/var/tmp")?;
        let bundle = Bundle::create(outside.path().join("b"), &["/a"], "/outside")?;
        p.start("stray", bundle.path())?.refused()?;
        let lines = poll_until("a line about the refusal", LIMIT, || {
            let log = p.daemon().ok()?.log();
            let of_sandbox =
                |line: &Line| line.get("msg").is_some_and(|message| message == "sandbox refused");
            let lines: Vec<_> = log.lines().filter_map(text).filter(of_sandbox).collect();
            (!lines.is_empty()).then_some(lines)
        })?;
        ensure!(lines.len() == 1, "{lines:?}");
        has(&lines[0], &[("container", "stray"), ("sandbox", "stray"), ("level", "info")])?;
        has(&lines[0], &[("namespace", p.namespace())])?;
        let reason = &lines[0]["reason"];
        ensure!(reason.contains(&*bundle.path().to_string_lossy()), "{reason}");
        ensure!(reason.contains("bundle-roots"), "{reason}");
        let counted = Scrape::of(metrics)?.value(r#"runwasi_refusals_total{call="sandbox"}"#)?;
        ensure!(counted == 1.0, "{counted} refusals");
        p.becomes_clean()
    });
}
