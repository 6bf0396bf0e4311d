//! `docker compose`; the case is listed in `main.rs`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use runwasi_tests::docker::{LONG, block};
use runwasi_tests::http::get_when_up;
use runwasi_tests::{Command, Docker, Image};

use crate::life;

pub(crate) fn compose_file_of_the_documentation_runs(d: &mut Docker) -> Result<()> {
    d.load(Image::Wasmguests)?;
    let file = d.dir().join("compose.yaml");
    let text = block("yaml", "services:")?
        .replace("runtime: wasmtime\n", &format!("runtime: {}\n", d.runtime_name()));
    ensure!(text.matches(&format!("runtime: {}\n", d.runtime_name())).count() == 2, "{text}");
    fs::write(&file, text)?;
    let file = file.to_string_lossy();
    let compose = |args: &[&str]| -> Command {
        d.docker([&["compose", "-f", &file, "-p", "shown"], args].concat()).deadline(LONG)
    };
    compose(&["up", "-d"]).run()?.ok()?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let answer = get_when_up(server, "/")?;
    ensure!(answer.status == 200 && answer.body == "Hello from wasm!\n", "{answer:?}");
    let job = d.becomes("shown-job-1", "ended", |state| state.status == "exited")?;
    ensure!((job.exit_code, job.restarts) == (0, 0), "{job:?}");
    let logs = compose(&["logs", "job"]).run()?.ok()?.out();
    ensure!(logs.contains("GREETING=hello"), "{logs}");
    let web = d.state("shown-web-1")?;
    ensure!(web.status == "running", "{web:?}");
    // By its policy, `unless-stopped`, and at the same port.
    life::kill(web.pid)?;
    d.becomes("shown-web-1", "running again", |state| {
        state.status == "running" && state.pid != web.pid && state.restarts > 0
    })?;
    let again = get_when_up(server, "/")?;
    ensure!(again.status == 200, "{again:?}");
    let ran = compose(&["exec", "-T", "web", "/wasmtest.component.wasm", "echo", "inside"]);
    let ran = ran.run()?.ok().context("exec")?.out();
    ensure!(ran == "inside\n", "{ran}");
    compose(&["down", "-v"]).run()?.ok()?;
    ensure!(d.says(&["ps", "-aq"])?.is_empty());
    Ok(())
}
