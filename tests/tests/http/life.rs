//! From the start of a server to its end; the cases are listed in `main.rs`.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::connection::Connection;
use runwasi_tests::http::address;
use runwasi_tests::http::get;
use runwasi_tests::says;
use runwasi_tests::server::{APP, P3, command, serve};
use runwasi_tests::{Containers, poll_until};

pub(crate) fn components_of_both_worlds_answer(c: &mut Containers) -> Result<()> {
    for (name, guest, hello) in [("p2", APP, "Hello from wasm!\n"), ("p3", P3, "Hello from p3!\n")]
    {
        let id = c.id(name);
        let address = serve(c, &[], &id, guest)?;
        let mut connection = Connection::to(address)?;
        for _ in 0..3 {
            let answer = connection.get("/hello")?;
            ensure!(answer.status == 200 && answer.body == hello, "{answer:?}");
        }
        c.kill(&id, "SIGTERM")?;
        ensure!(c.finish(&id)? == 0);
    }
    c.fixture.becomes_clean()
}

pub(crate) fn running_server_is_listening(c: &mut Containers) -> Result<()> {
    for n in 0..5 {
        let id = c.id(&format!("s{n}"));
        let address = serve(c, &[], &id, APP)?;
        // No second try.
        ensure!(get(address, "/hello")?.status == 200);
        c.is_running(&id)?;
        ensure!(c.kill_and_finish(&id)? == 137);
        ensure!(TcpStream::connect(address).is_err(), "{address} is still taken");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn address_in_use_fails_the_run_and_is_named(c: &mut Containers) -> Result<()> {
    let (first, second) = (c.id("first"), c.id("second"));
    let address = serve(c, &[], &first, APP)?;
    let refused = command(c, &["--rm"], &second, APP, address)?.run()?;
    ensure!(refused.status != 0, "{refused:?}");
    says(&refused.err(), &[&format!("listen on {address}")], &["in use"])?;
    ensure!(get(address, "/hello")?.status == 200, "the first serves on");
    ensure!(c.kill_and_finish(&first)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn wrong_setting_fails_the_run_with_its_key(c: &mut Containers) -> Result<()> {
    for (n, wrong) in
        ["max-requests=none", "idle-timeout=0", "address=everywhere"].into_iter().enumerate()
    {
        let id = c.id(&format!("w{n}"));
        let annotation = format!("io.runwasi.http.{wrong}");
        let refused =
            command(c, &["--rm", "--annotation", &annotation], &id, APP, address())?.run()?;
        let key = annotation.split('=').next().unwrap_or_default();
        ensure!(refused.status != 0, "{refused:?}");
        says(&refused.err(), &[key], &["is no"])?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn sigterm_lets_requests_finish_and_exits_with_0(c: &mut Containers) -> Result<()> {
    let id = c.id("drain");
    let address = serve(c, &[], &id, APP)?;
    let mut idle = Connection::to(address)?;
    idle.get("/hello")?;
    let mut slow = Connection::to(address)?;
    slow.send("/slow?ms=8000")?;
    // The server has it when another request, sent later, has been answered.
    get(address, "/hello")?;
    c.kill(&id, "SIGTERM")?;
    let closed = || TcpStream::connect(address).is_err().then_some(());
    poll_until("the end of accepting", Duration::from_secs(5), closed)?;
    let asked = Instant::now();
    ensure!(idle.head().is_err(), "an answer without a request");
    ensure!(asked.elapsed() < Duration::from_secs(5), "the idle connection is closed");
    c.is_running(&id)?;
    c.kill(&id, "SIGTERM")?;
    ensure!(slow.answer()?.body == "late\n");
    ensure!(c.finish(&id)? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn sigkill_ends_a_server_at_once(c: &mut Containers) -> Result<()> {
    let id = c.id("kill");
    let address = serve(c, &[], &id, APP)?;
    let mut slow = Connection::to(address)?;
    slow.send("/slow?ms=60000")?;
    get(address, "/hello")?;
    let asked = Instant::now();
    ensure!(c.kill_and_finish(&id)? == 137);
    ensure!(slow.answer().is_err());
    ensure!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    c.fixture.becomes_clean()
}

pub(crate) fn output_of_requests_is_the_containers(c: &mut Containers) -> Result<()> {
    let (id, address) = (c.id("log"), address());
    let server = command(c, &["--rm", "--env", "GREETING=hi"], &id, APP, address)?.spawn()?;
    let up = || get(address, "/hello").ok();
    poll_until("the server", Duration::from_secs(10), up)
        .with_context(|| server.stderr_so_far())?;
    get(address, "/log")?;
    get(address, "/log?query")?;
    get(address, "/println")?;
    let environment = get(address, "/env")?.body;
    ensure!(environment.lines().any(|line| line == "GREETING=hi"), "{environment}");
    get(address, "/trap")?;
    c.kill(&id, "SIGTERM")?;
    let ended = server.wait()?;
    ensure!(ended.status == 0 && ended.out() == "GET /log\nGET /log\nGET /println\n", "{ended:?}");
    ensure!(ended.err().contains("unreachable"), "{ended:?}");
    c.fixture.becomes_clean()
}

pub(crate) fn failing_requests_fail_alone(c: &mut Containers) -> Result<()> {
    let timeout = ["--annotation", "io.runwasi.http.request-timeout=1s"];
    for (name, guest) in [("p2", APP), ("p3", P3)] {
        let id = c.id(name);
        let address = serve(c, &timeout, &id, guest)?;
        let spinning = thread::spawn(move || get(address, "/spin"));
        ensure!(get(address, "/trap")?.status == 500);
        ensure!(get(address, "/hello")?.status == 200);
        let spun = spinning.join().map_err(|_| anyhow::Error::msg("the client panicked"))??;
        ensure!(spun.status == 504, "{spun:?}");
        ensure!(get(address, "/hello")?.status == 200);
        c.is_running(&id)?;
        ensure!(c.kill_and_finish(&id)? == 137);
    }
    c.fixture.becomes_clean()
}
