//! What each guest does at its simplest; the cases are listed in `main.rs`, by the guests' names.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, Image, http};

/// `ctr run --rm` of a guest of the image with the many, to its end.
fn run(c: &Containers, program: &[&str], status: i32, printed: &str) -> Result<()> {
    c.fixture.load(Image::Wasmguests)?;
    let out =
        c.run_of(Image::Wasmguests, &["--rm"], &c.id("guest"), program).run()?.status_is(status)?;
    ensure!(out.out() == printed, "{out}");
    c.fixture.becomes_clean()
}

/// A server on the host's network answers, then is killed.
fn serves(c: &Containers, program: &str, path: &str, wanted: &str) -> Result<()> {
    c.fixture.load(Image::Wasmguests)?;
    let (id, address) = (c.id("server"), http::address());
    let place = format!("io.runwasi.http.address={address}");
    let flags = ["-d", "--net-host", "--annotation", &place];
    c.run_of(Image::Wasmguests, &flags, &id, &[program]).run()?.ok()?;
    let answer = http::get(address, path)?;
    ensure!(answer.status == 200 && answer.body == wanted, "{answer:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn wasmtest(c: &mut Containers) -> Result<()> {
    let out = c.run(&c.id("hello"), &[])?.ok()?;
    ensure!(out.out() == "Hello from wasm!\n", "{out}");
    run(c, &["/wasmtest.component.wasm"], 0, "Hello from wasm!\n")
}

pub(crate) fn cli_compute(c: &mut Containers) -> Result<()> {
    // What the same program prints natively.
    let lines = [
        ("deflate", "1048576 bytes in 275682"),
        ("hash", "8308784124ca9535926e2b0a4cd67c358c310f466f5cb06c61fd1165270767ac"),
        ("json", "118401 bytes"),
        ("regex", "2048 addresses"),
    ];
    lines.iter().try_for_each(|(command, result)| {
        run(c, &["/cli_compute.wasm", command, "2"], 0, &format!("{command}: {result}\n"))
    })
}

pub(crate) fn cli_exports(c: &mut Containers) -> Result<()> {
    run(c, &["/cli_exports.wasm#greet"], 0, "Hello from greet!\n")
}

pub(crate) fn cli_large(c: &mut Containers) -> Result<()> {
    c.fixture.load(Image::Resvg)?;
    let command = |words: &[&str]| c.run_of(Image::Resvg, &["--rm"], &c.id("large"), words);
    let out = command(&["/cli_large.wasm"]).run()?.ok()?;
    ensure!(out.out() == "Hello from a large guest!\n", "{out}");
    let out = command(&["/cli_large.wasm", "reprint"]).stdin("( module (func) )").run()?.ok()?;
    ensure!(out.out().contains("(func (;0;)"), "{out}");
    c.fixture.becomes_clean()
}

pub(crate) fn cli_reactor(c: &mut Containers) -> Result<()> {
    run(c, &["/cli_reactor.wasm#greet"], 0, "Hello from a reactor!\n")
}

pub(crate) fn cli_unstable(c: &mut Containers) -> Result<()> {
    run(c, &["/cli_unstable.wasm"], 3, "Hello from wasi_unstable!\n")
}

pub(crate) fn http_app(c: &mut Containers) -> Result<()> {
    serves(c, "/http_app.wasm", "/count", "1\n")
}

pub(crate) fn http_hello(c: &mut Containers) -> Result<()> {
    serves(c, "/http_hello.wasm", "/", "Hello from wasm!\n")
}

/// The other end is a listener of the test's own, on the host's network.
pub(crate) fn net(c: &mut Containers) -> Result<()> {
    c.fixture.load(Image::Wasmguests)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port().to_string();
    let peer = thread::spawn(move || -> Result<String> {
        let (mut stream, _) = listener.accept()?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        stream.write_all(b"and hello to you")?;
        Ok(said)
    });
    let program = ["/net.wasm", "tcp-connect", "127.0.0.1", &port, "hello"];
    let out =
        c.run_of(Image::Wasmguests, &["--rm", "--net-host"], &c.id("net"), &program).run()?.ok()?;
    ensure!(out.out() == "and hello to you\n", "{out}");
    let said = peer.join().ok().context("the listener panicked")??;
    ensure!(said == "hello", "{said:?}");
    c.fixture.becomes_clean()
}

pub(crate) fn p3_hello(c: &mut Containers) -> Result<()> {
    run(c, &["/p3_hello.wasm"], 0, "Hello from p3!\n")
}

pub(crate) fn p3_http(c: &mut Containers) -> Result<()> {
    serves(c, "/p3_http.wasm", "/hello", "Hello from p3!\n")
}

/// An address is its own answer.
pub(crate) fn p3_net(c: &mut Containers) -> Result<()> {
    run(c, &["/p3_net.wasm", "resolve", "127.0.0.1"], 0, "127.0.0.1\n")
}

/// Renders a picture of ours, which is a PNG of the right size then.
pub(crate) fn resvg(c: &mut Containers) -> Result<()> {
    c.fixture.load(Image::Resvg)?;
    for program in ["/resvg.wasm", "/resvg.component.wasm"] {
        let words = [program, "/picture.svg", "-c"];
        let out = c.run_of(Image::Resvg, &["--rm"], &c.id("resvg"), &words).run()?.ok()?;
        let header = out.stdout.get(..24).context("too short for a picture")?;
        ensure!(
            header.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"),
            "{program} gave no PNG: {:?}",
            out.err()
        );
        ensure!(
            header[16..] == [320u32.to_be_bytes(), 200u32.to_be_bytes()].concat()[..],
            "another size: {header:?}"
        );
    }
    c.fixture.becomes_clean()
}
