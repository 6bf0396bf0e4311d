//! What `docker run` and `docker exec` give a program and take from it; the cases are listed in
//! `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::docker::{Engine, check_docker_with};
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Docker, Runtime, says};
use serde_json::json;

pub(crate) fn program_gets_what_docker_run_says(d: &mut Docker) -> Result<()> {
    let image = d.runtime.image().name();
    let hello = d.run_of(image, &[], &[]).run()?.ok()?;
    ensure!(hello.out() == "Hello from wasm!\n", "{hello}");
    let flags = ["-e", "A=b c", "-w", "/etc", "-u", "1000:1001", "--hostname", "named"];
    let out = d.run(&flags, &["env"]).run()?.ok()?.out();
    let directory = if d.runtime.runs_by_runc() { "A=b c" } else { "PWD=/etc" };
    for wanted in ["A=b c", "HOSTNAME=named", "HOME=/", directory] {
        ensure!(out.lines().any(|line| line == wanted), "{wanted} is not in {out}");
    }
    let out = d.run(&[], &["args", "two words", "", "-x"]).run()?.ok()?.out();
    ensure!(out == format!("{}\nargs\ntwo words\n\n-x\n", d.runtime.guest()), "{out}");
    let out = d.run(&["-i"], &["cat"]).stdin("typed").run()?.ok()?.out();
    ensure!(out == "typed", "{out}");
    for (flags, streams) in [(&["-t"][..], true), (&[][..], false)] {
        let out = d.run(flags, &["tty"]).run()?.ok()?.out();
        let wanted = format!("stdin {streams}, stdout {streams}, stderr {streams}");
        ensure!(out.trim_end() == wanted, "{out}");
    }
    let apart = d.run(&[], &["stderr", "apart"]).run()?.ok()?;
    ensure!(apart.stdout.is_empty() && apart.err().ends_with("apart\n"), "{apart}");
    Ok(())
}

pub(crate) fn exit_statuses_are_those_of_docker(d: &mut Docker) -> Result<()> {
    for status in [0, 42, 125] {
        d.run(&[], &["exit", &status.to_string()]).run()?.status_is(status)?;
    }
    let refused = |flags: &[&str], status: i32| {
        let image = d.runtime.image().name();
        let out = d.run_of(image, flags, &["x"]).run()?.status_is(status)?;
        anyhow::Ok(out.err())
    };
    let absent = refused(&["--entrypoint", "/absent"], 127)?;
    says(&absent, &["/absent"], &["no such file or directory"])?;
    // Not found in PATH: "executable file not found" of runc is no error of a file.
    says(&refused(&["--entrypoint", "absent"], 127)?, &["absent"], &[])?;
    says(&refused(&["--entrypoint", "/etc"], 126)?, &["/etc"], &["permission denied"])?;
    says(&refused(&["--gpus", "all"], 125)?, &[], &["gpu"])?;
    // A trap is an abort of wasm's; a native program has SIGILL or SIGSEGV.
    let trapped = d.run(&[], &["trap"]).run()?.status;
    ensure!(d.runtime.runs_by_runc() || trapped == 134, "a trap is {trapped}");
    Ok(())
}

/// A Docker whose init is there: Debian's is in a package of its own.
#[track_caller]
pub(crate) fn check_with_init(
    runtime: Runtime,
    case: impl FnOnce(&mut Docker) -> Result<()> + Send,
) {
    let settings = json!({"init-path": target_dir().join("guests/wasmtest-native")});
    check_docker_with(Engine::Newest, runtime, &settings, case);
}

/// Docker puts a native program before the container's own.
pub(crate) fn init_is_refused_with_advice(d: &mut Docker) -> Result<()> {
    let refused = d.run(&["--init"], &["echo"]).run()?.status_is(125)?.err();
    says(&refused, &["/sbin/docker-init"], &["run the container without --init"])
}

pub(crate) fn exec_runs_beside_the_program(d: &mut Docker) -> Result<()> {
    d.detached("main", &[], &["sleep", "100"])?;
    let out = d.exec(&[], "main", &["echo", "beside"]).run()?.ok()?.out();
    ensure!(out == "beside\n", "{out}");
    d.exec(&[], "main", &["exit", "9"]).run()?.status_is(9)?;
    let out = d.exec(&["-i"], "main", &["cat"]).stdin("typed").run()?.ok()?.out();
    ensure!(out == "typed", "{out}");
    let out = d.exec(&["-t"], "main", &["tty"]).run()?.ok()?.out();
    ensure!(out.contains("stdin true, stdout true"), "{out}");
    let out =
        d.exec(&["-e", "A=b", "-u", "1:2", "-w", "/etc"], "main", &["env"]).run()?.ok()?.out();
    ensure!(out.lines().any(|line| line == "A=b"), "{out}");
    let program = |word: &str| -> Command { d.docker(["exec", "main", word]) };
    for (word, status, reason) in
        [("/absent", 127, "no such file or directory"), ("/etc", 126, "permission denied")]
    {
        // docker prints it on its stdout.
        let out = program(word).run()?.status_is(status).with_context(|| word.to_owned())?;
        says(&format!("{}{}", out.out(), out.err()), &[word], &[reason])?;
    }
    program("absent").run()?.status_is(127)?;
    d.exec(&["-d"], "main", &["write", "/tmp/made", "by exec"]).run()?.ok()?;
    let made = || d.exec(&[], "main", &["cat", "/tmp/made"]).run().ok()?.ok().ok();
    runwasi_tests::poll_until("file of an exec", runwasi_tests::docker::LONG, || {
        made().filter(|out| out.out() == "by exec")
    })?;
    ensure!(d.state("main")?.status == "running");
    Ok(())
}
