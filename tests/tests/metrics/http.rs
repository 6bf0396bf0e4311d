//! Values right after known requests to HTTP services; the cases are listed in `main.rs`.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::connection::Connection;
use runwasi_tests::exposition::{Scrape, become_equal, grow};
use runwasi_tests::http::get;
use runwasi_tests::server::{APP, P3, serve};

pub(crate) fn requests_are_counted_by_their_status(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let id = c.id("p2");
    let address = serve(c, &["--annotation", "io.runwasi.http.request-timeout=1s"], &id, APP)?;
    let before = Scrape::of(metrics)?;
    for (path, status) in [
        ("/hello", 200),
        ("/hello", 200),
        ("/status?code=204", 204),
        ("/status?code=302", 302),
        ("/status?code=404", 404),
        ("/trap", 500),
        ("/spin", 504),
    ] {
        ensure!(get(address, path)?.status == status, "{path}");
    }
    let grown = [
        (r#"runwasi_http_requests_total{status="1xx"}"#, 0.0),
        (r#"runwasi_http_requests_total{status="2xx"}"#, 3.0),
        (r#"runwasi_http_requests_total{status="3xx"}"#, 1.0),
        (r#"runwasi_http_requests_total{status="4xx"}"#, 1.0),
        (r#"runwasi_http_requests_total{status="5xx"}"#, 2.0),
        ("runwasi_http_request_seconds_count", 7.0),
        (r#"runwasi_http_request_seconds_bucket{le="+Inf"}"#, 7.0),
        (r#"runwasi_http_failures_total{reason="failed"}"#, 1.0),
        (r#"runwasi_http_failures_total{reason="timeout"}"#, 1.0),
        (r#"runwasi_http_failures_total{reason="busy"}"#, 0.0),
    ];
    let after = grow(metrics, &before, &grown)?;
    // Six of them are answered at once, on a busy machine perhaps later.
    let slow = after.value("runwasi_http_request_seconds_sum")?;
    ensure!((1.0..60.0).contains(&slow), "{slow} s");
    let quick = after.value(r#"runwasi_http_request_seconds_bucket{le="0.5"}"#)?;
    ensure!((1.0..=6.0).contains(&quick), "{quick} of 7 within half a second");
    let other = c.id("p3");
    let address = serve(c, &[], &other, P3)?;
    ensure!(get(address, "/hello")?.status == 200);
    grow(metrics, &after, &[(r#"runwasi_http_requests_total{status="2xx"}"#, 1.0)])?;
    for id in [&id, &other] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

pub(crate) fn connections_are_counted(c: &mut Containers, metrics: SocketAddr) -> Result<()> {
    let id = c.id("server");
    let address = serve(c, &[], &id, APP)?;
    let mut connections = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::to(address)?;
        ensure!(connection.get("/hello")?.status == 200);
        connections.push(connection);
    }
    become_equal(metrics, &[("runwasi_http_connections", 3.0)])?;
    drop(connections);
    become_equal(metrics, &[("runwasi_http_connections", 0.0)])?;
    let _last = Connection::to(address)?.get("/hello")?;
    ensure!(c.kill_and_finish(&id)? == 137);
    become_equal(metrics, &[("runwasi_http_connections", 0.0)])?;
    c.fixture.becomes_clean()
}

pub(crate) fn requests_in_flight_are_counted_until_their_last_byte(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    const IN_FLIGHT: &str = "runwasi_http_requests_in_flight";
    let id = c.id("server");
    let address = serve(c, &[], &id, APP)?;
    become_equal(metrics, &[(IN_FLIGHT, 0.0)])?;
    let mut slow = Connection::to(address)?;
    slow.send("/slow-body?chunks=20&ms=100")?;
    // The head comes at once, the body later.
    let head = slow.head()?;
    ensure!(head.contains("200"), "{head}");
    become_equal(metrics, &[(IN_FLIGHT, 1.0), ("runwasi_http_request_seconds_count", 1.0)])?;
    let mut other = Connection::to(address)?;
    other.send("/slow-body?chunks=1000&ms=100")?;
    become_equal(metrics, &[(IN_FLIGHT, 1.0)])?;
    // A client that goes, and a server that is killed.
    drop(slow);
    ensure!(c.kill_and_finish(&id)? == 137);
    become_equal(metrics, &[(IN_FLIGHT, 0.0)])?;
    c.fixture.becomes_clean()
}
