//! Daemons without a collector, with one that does not answer, and with wrong variables.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::{Daemon, Settings};
use runwasi_tests::exposition::Scrape;
use runwasi_tests::server::{APP, serve};
use runwasi_tests::{Containers, poll_until};
use tempfile::TempDir;

use crate::http::{field, get_with};

pub(crate) fn without_a_collector_requests_are_passed_on_as_they_are(
    c: &mut Containers,
) -> Result<()> {
    let id = c.id("server");
    let address = serve(c, &[], &id, APP)?;
    let answer = get_with(address, "/headers", "traceparent: mine\r\n")?;
    ensure!(field(&answer, "traceparent").is_some_and(|seen| seen == "mine"), "{answer}");
    let answer = get_with(address, "/headers", "")?;
    ensure!(field(&answer, "traceparent").is_none(), "{answer}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn absent_collector_delays_nothing_and_spans_are_counted(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let begun = Instant::now();
    for n in 0..6 {
        c.run(&c.id(&format!("r{n}")), &["exit", "0"])?.ok()?;
    }
    ensure!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let fate = |scrape: &Scrape, fate: &str| {
        scrape.value(&format!("runwasi_spans_total{{fate=\"{fate}\"}}"))
    };
    // Seven spans each, of which four may wait.
    let all = poll_until("lost spans", Duration::from_secs(20), || {
        let scrape = Scrape::of(metrics).ok()?;
        let lost = fate(&scrape, "failed").ok()? + fate(&scrape, "dropped").ok()?;
        (lost == 42.0).then_some(scrape)
    })?;
    ensure!(fate(&all, "exported")? == 0.0 && fate(&all, "failed")? > 0.0, "{}", all.text);
    let log = c.fixture.daemon()?.log();
    let warnings = log.matches("the collector does not take spans").count();
    ensure!(warnings == 1, "{warnings} warnings: {log}");
    let reasons = log.matches("no connection to the collector").count();
    ensure!(reasons == 1 && log.contains("Connection refused"), "{log}");
    c.fixture.becomes_clean()
}

#[test]
fn wrong_variables_fail_the_start_with_their_name() -> Result<()> {
    for (name, value, reason) in [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector", "does not begin with http://"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:99999", "not between 1 and 65535"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "is none of http/protobuf, grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer x", "is not KEY=VALUE"),
        ("OTEL_TRACES_SAMPLER", "always", "is none of always_on, always_off"),
    ] {
        let home = TempDir::new()?;
        let settings = Settings::default()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
            .env(name, value);
        let refused = Daemon::start(home.path(), settings).err().context("it serves")?;
        let refused = format!("{refused:?}");
        ensure!(refused.contains(name) && refused.contains(reason), "{refused}");
    }
    Ok(())
}

#[test]
fn missing_certificate_fails_the_start_with_its_variable() -> Result<()> {
    let home = TempDir::new()?;
    let settings = Settings::default()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:9")
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem");
    let refused = Daemon::start(home.path(), settings).err().context("it serves")?;
    let refused = format!("{refused:?}");
    let named = ["OTEL_EXPORTER_OTLP_CERTIFICATE: /no/such.pem", "No such file"];
    ensure!(named.iter().all(|part| refused.contains(part)), "{refused}");
    Ok(())
}

#[test]
fn switched_off_traces_need_no_collector() -> Result<()> {
    let home = TempDir::new()?;
    let settings = Settings::default()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318")
        .env("OTEL_SDK_DISABLED", "true");
    let mut daemon = Daemon::start(home.path(), settings)?;
    ensure!(!daemon.log().contains("traces"), "{}", daemon.log());
    ensure!(daemon.terminate()? == 0);
    Ok(())
}
