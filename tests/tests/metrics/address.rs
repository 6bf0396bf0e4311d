//! Addresses that cannot be served, and that are off.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::{Daemon, Settings};
use runwasi_tests::exposition::Scrape;
use runwasi_tests::{Runtime, ShimDriver, http, run_case_with};
use tempfile::TempDir;

use crate::{daemon, scraped};

/// The reason of a daemon that does not start with these flags.
fn refusal(flags: &[&str]) -> Result<String> {
    let home = TempDir::new()?;
    let refused = Daemon::start(home.path(), Settings::default().flags(flags)).err();
    Ok(format!("{:?}", refused.context("it serves")?))
}

#[test]
fn metrics_are_off_by_default() -> Result<()> {
    let (_home, mut daemon) = daemon(Settings::default())?;
    ensure!(daemon.log().contains("metrics=off"), "{}", daemon.log());
    ensure!(daemon.terminate()? == 0);
    Ok(())
}

#[test]
fn address_that_others_reach_needs_a_second_setting() -> Result<()> {
    // Of all addresses: nobody else has it for now.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    for host in ["0.0.0.0", "[::]", "192.0.2.1", "[::ffff:192.0.2.1]"] {
        let refused = refusal(&["--metrics-address", &format!("{host}:{port}")])?;
        ensure!(refused.contains("metrics-beyond-loopback = true"), "{refused}");
    }
    let everywhere = format!("0.0.0.0:{port}");
    let flags = ["--metrics-address", &everywhere, "--metrics-beyond-loopback", "true"];
    let (_home, mut daemon) = daemon(Settings::default().flags(flags))?;
    Scrape::of(SocketAddr::from(([127, 0, 0, 1], port)))?;
    ensure!(daemon.terminate()? == 0);
    Ok(())
}

#[test]
fn address_that_cannot_be_had_fails_the_start_with_its_reason() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let refused = refusal(&["--metrics-address", &address])?;
    ensure!(
        refused.contains(&format!("metrics-address {address}: Address already in use")),
        "{refused}"
    );
    // An address for documentation, which no machine has.
    let foreign = ["--metrics-address", "192.0.2.1:9", "--metrics-beyond-loopback", "true"];
    let refused = refusal(&foreign)?;
    ensure!(refused.contains("metrics-address 192.0.2.1:9: Cannot assign"), "{refused}");
    let refused = refusal(&["--metrics-address", "/etc/hostname"])?;
    ensure!(refused.contains("metrics-address /etc/hostname: it is not a socket"), "{refused}");
    ensure!(std::path::Path::new("/etc/hostname").is_file());
    Ok(())
}

#[test]
fn second_daemon_does_not_disturb_the_metrics_of_the_first() -> Result<()> {
    let address = http::address();
    let (_home, mut first) = daemon(scraped(Settings::default(), address))?;
    let before = Scrape::of(address)?;
    let refused = refusal(&["--metrics-address", &address.to_string()])?;
    ensure!(refused.contains("Address already in use"), "{refused}");
    let start = "process_start_time_seconds";
    ensure!(Scrape::of(address)?.value(start)? == before.value(start)?);
    ensure!(first.terminate()? == 0);
    Ok(())
}

#[test]
fn second_daemon_that_does_not_start_leaves_the_first_its_address() {
    let address = http::address();
    let settings = scraped(Settings::default(), address);
    run_case_with(ShimDriver::with(Runtime::Wasmtimed, settings), |p| {
        refused_successor(p, address)
    });
}

fn refused_successor(p: &mut ShimDriver, address: SocketAddr) -> Result<()> {
    let start = "process_start_time_seconds";
    let began = Scrape::of(address)?.value(start)?;
    // Of the same state directory: it would take over if its address could be had.
    let others = TcpListener::bind("127.0.0.1:0")?;
    let taken = others.local_addr()?.to_string();
    for (wrong, reason) in [("192.0.2.1:9", "Cannot assign"), (&taken, "already in use")] {
        let flags = ["--metrics-address", wrong, "--metrics-beyond-loopback", "true"];
        let refused = Daemon::start(p.dir(), Settings::default().flags(flags)).err();
        let refused = format!("{:?}", refused.context("it serves")?);
        ensure!(refused.contains(reason), "{refused}");
    }
    let scrape = Scrape::of(address)?;
    ensure!(scrape.value(start)? == began, "{}", scrape.text);
    ensure!(scrape.value(r#"runwasi_daemon_state{state="serving"}"#)? == 1.0, "{}", scrape.text);
    ensure!(p.daemon()?.list()?.status == 0, "{}", p.daemon()?.list()?);
    // The manager socket is still that of the first, and nothing of the second is left.
    UnixStream::connect(p.node().socket())?;
    ensure!(p.node().daemons() == [p.daemon()?.pid()?], "{:?}", p.node().daemons());
    ensure!(!p.node().socket().with_extension("new").exists());
    let bundle = p.bundle("later", &[p.runtime().guest(), "echo", "served"])?;
    bundle.file(p.runtime().guest(), std::fs::read(p.runtime().guest_file())?)?;
    let client = p.connect("later", bundle.path())?;
    client.create("later", bundle.path(), &[])?;
    client.start("later")?;
    let status = client.wait("later")?.exit_status;
    ensure!(status == 0, "status {status}");
    client.delete("later")?;
    p.finish(&client, "later", bundle.path())?;
    p.becomes_clean()
}
