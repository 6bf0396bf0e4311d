//! `ctr run --rm`: what reaches the guest and what comes back; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, proc};

pub(crate) fn hello_is_printed(c: &mut Containers) -> Result<()> {
    let out = c.run(&c.id("hello"), &[])?.ok()?;
    ensure!(out.out() == "Hello from wasm!\n" && out.err().is_empty(), "{out}");
    Ok(())
}

pub(crate) fn exit_status_is_passed_on(c: &mut Containers) -> Result<()> {
    for code in [0, 1, 42, 255] {
        c.run(&c.id("exit"), &["exit", &code.to_string()])?.status_is(code)?;
    }
    Ok(())
}

pub(crate) fn arguments_reach_the_guest(c: &mut Containers) -> Result<()> {
    let args = ["args", "two words", "", "--rm", "ünï", "$HOME"];
    let out = c.run(&c.id("args"), &args)?.ok()?;
    let wanted = format!("{}\n{}\n", c.runtime.guest(), args.join("\n"));
    ensure!(out.out() == wanted, "{out}");
    Ok(())
}

pub(crate) fn environment_reaches_the_guest(c: &mut Containers) -> Result<()> {
    let flags = ["--rm", "--env", "PLAIN=1", "--env", "SPACED=two words=2", "--env", "EMPTY="];
    let out = c.run_command(&flags, &c.id("env"), &["env"]).run()?.ok()?;
    let text = out.out();
    for wanted in ["PLAIN=1", "SPACED=two words=2", "EMPTY="] {
        let count = text.lines().filter(|line| *line == wanted).count();
        ensure!(count == 1, "{wanted} is there {count} times: {out}");
    }
    let home = std::env::var("HOME").unwrap_or_default();
    let leaked =
        text.lines().any(|line| line.starts_with("CARGO") || line == format!("HOME={home}"));
    // runc sets HOME itself, from the container's user.
    ensure!(!leaked || c.runtime.runs_by_runc(), "the host's environment leaked: {out}");
    Ok(())
}

pub(crate) fn working_directory_reaches_the_guest(c: &mut Containers) -> Result<()> {
    let inside = ["--rm", "--cwd", "/etc"];
    if c.runtime.is_wasm() {
        // Preview 1 has no working directory and its libc starts at `/`: the variable is what a guest can go by.
        let out = c.run_command(&inside, &c.id("pwd"), &["env"]).run()?.ok()?;
        ensure!(out.out().lines().any(|line| line == "PWD=/etc"), "{out}");
    }
    if !c.runtime.has_files() {
        return Ok(());
    }
    let absolute = c.run(&c.id("abs"), &["cat", "/etc/motd"])?.ok()?;
    ensure!(!absolute.stdout.is_empty(), "{absolute}");
    if c.runtime.is_wasm() {
        return Ok(());
    }
    let relative = c.run_command(&inside, &c.id("rel"), &["cat", "motd"]).run()?.ok()?;
    ensure!(relative.stdout == absolute.stdout, "{relative}");
    Ok(())
}

pub(crate) fn entrypoint_is_found_as_in_any_container(c: &mut Containers) -> Result<()> {
    let name = c.runtime.guest().trim_start_matches('/');
    let relative = format!("./{name}");
    let ways: [(&[&str], &str); 3] = [
        (&["--cwd", "/"], &relative),
        (&["--env", "PATH=/nowhere:/"], name),
        (&["--cwd", "/etc", "--env", "PATH=/"], name),
    ];
    for (n, (flags, entrypoint)) in ways.into_iter().enumerate() {
        let mut line = vec!["run", "--rm", "--runtime", c.runtime.name()];
        line.extend(flags);
        let id = c.id(&format!("way{n}"));
        line.extend([c.runtime.image().name(), &id, entrypoint, "echo", "found"]);
        let out = c.fixture.ctr(line)?.ok()?;
        ensure!(out.out() == "found\n", "{out}");
    }
    Ok(())
}

pub(crate) fn megabytes_of_stdin_pass_through(c: &mut Containers) -> Result<()> {
    let sent = pattern(4_000_000);
    let out = c.run_command(&["--rm"], &c.id("cat"), &["cat"]).stdin(sent.clone()).run()?.ok()?;
    same(&out.stdout, &sent)
}

pub(crate) fn megabytes_of_output_arrive_intact(c: &mut Containers) -> Result<()> {
    let out = c.run(&c.id("bytes"), &["bytes", "8000000"])?.ok()?;
    same(&out.stdout, &pattern(8_000_000))
}

pub(crate) fn stderr_is_apart_from_stdout(c: &mut Containers) -> Result<()> {
    let out = c.run(&c.id("err"), &["stderr", "to stderr"])?.ok()?;
    ensure!(out.err() == "to stderr\n" && out.stdout.is_empty(), "{out}");
    Ok(())
}

pub(crate) fn trap_ends_with_134(c: &mut Containers) -> Result<()> {
    // Natively a trap is SIGABRT, which wants its default action.
    let flags = [&["--rm"], c.runtime.default_signal_flags()].concat();
    let out = c.run_command(&flags, &c.id("trap"), &["trap"]).run()?.status_is(134)?;
    if c.runtime.is_wasm() {
        let text = out.err();
        ensure!(text.contains("unreachable") && text.contains("wasmtest"), "no backtrace: {out}");
    }
    Ok(())
}

pub(crate) fn rm_leaves_nothing(c: &mut Containers) -> Result<()> {
    let id = c.id("gone");
    c.run(&id, &["echo", "x"])?.ok()?;
    for kind in ["container", "task"] {
        let list = c.fixture.ctr([kind, "ls", "-q"])?.ok()?;
        ensure!(list.out().trim().is_empty(), "{list}");
    }
    // The image's own layers stay, as they should.
    for kind in ["snapshot", "leases"] {
        let list = c.fixture.ctr([kind, "ls"])?.ok()?;
        ensure!(!list.out().contains(&id), "{list}");
    }
    let fifos = proc::fifos_of(&id);
    ensure!(fifos.is_empty(), "FIFOs left: {fifos:?}");
    c.fixture.becomes_clean()
}

/// What the guest's `bytes` writes.
fn pattern(count: usize) -> Vec<u8> {
    (0..251u8).cycle().take(count).collect()
}

/// Compares megabytes without printing them.
fn same(seen: &[u8], wanted: &[u8]) -> Result<()> {
    ensure!(seen.len() == wanted.len(), "{} bytes instead of {}", seen.len(), wanted.len());
    let differs = seen.iter().zip(wanted).position(|(a, b)| a != b);
    ensure!(differs.is_none(), "byte {} differs", differs.context("position")?);
    Ok(())
}
