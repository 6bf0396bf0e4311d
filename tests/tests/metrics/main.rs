//! Metrics of the node daemon and of shims over HTTP; run by `make test`.
//!
//! Each case has a daemon of its own, whose metrics are at an address of its own, or shims with sockets.

mod address;
mod figures;
mod files;
mod http;
mod lives;
mod prometheus;
mod server;
mod shim;
mod takeover;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use runwasi_tests::daemon::{Daemon, Settings};
use runwasi_tests::{Containerd, Containers, Runtime, check_with};
use tempfile::TempDir;

runwasi_tests::suite! { crate::check_scraped: scraped = Wasmtimed; {
    lives:
        ends_are_counted_by_their_reason
        running_container_is_counted_in_its_state
        throttling_is_counted
        refusals_are_counted
        lookups_and_compilations_are_counted;
    figures:
        containers_without_a_worker_are_counted
        file_calls_that_wait_in_the_kernel_are_counted
        events_that_wait_for_containerd_are_counted;
    http:
        requests_are_counted_by_their_status
        connections_are_counted
        requests_in_flight_are_counted_until_their_last_byte;
    takeover:
        successor_serves_the_series_of_its_predecessor
        killed_daemon_leaves_its_port_to_the_next
        drained_daemon_serves_its_series_to_its_end_or_to_a_successor
        drained_daemon_serves_the_series_of_its_predecessor_to_the_end_of_that
        series_of_ten_replaced_daemons_are_all_there;
}}

runwasi_tests::suite! { crate::check_scraped: component = WasmtimedComponent; {
    lives:
        ends_are_counted_by_their_reason;
}}

runwasi_tests::suite! { crate::check_scraped: native = WasmtimedLinux; {
    figures:
        native_containers_are_counted;
}}

runwasi_tests::suite! { crate::check_scraped: interpreted = Wasmid; {
    lives:
        running_container_is_counted_in_its_state_and_the_slots;
}}

runwasi_tests::suite! { crate::shim::check: shims = Wasmtime; {
    shim:
        each_shim_serves_its_own_at_a_socket_of_its_sandbox
        socket_of_a_killed_shim_is_removed;
}}

runwasi_tests::suite! { crate::shim::check_wrong: wrong_shims = Wasmtime; {
    shim:
        wrong_directory_is_told_and_refuses_no_container;
}}

/// Runs a case on a fixture whose daemon serves metrics at an address that the case gets, and has a
/// code cache of its own.
#[track_caller]
fn check_scraped(runtime: Runtime, case: fn(&mut Containers, SocketAddr) -> Result<()>) {
    let address = runwasi_tests::http::address();
    let cache = TempDir::new().expect("a directory");
    let settings = scraped(Settings::of(runtime), address)
        .flags(["--cache-dir", &cache.path().join("code").display().to_string()]);
    check_with(runtime, Containerd::builder().daemon(settings), |c| case(c, address));
}

fn scraped(settings: Settings, address: SocketAddr) -> Settings {
    settings.flags(["--metrics-address", &address.to_string()])
}

/// A daemon without a containerd, and its directory.
fn daemon(settings: Settings) -> Result<(TempDir, Daemon)> {
    let home = TempDir::new()?;
    let cache = home.path().join("code").display().to_string();
    let settings = settings.flags(["--cache-dir", &cache]);
    let daemon = Daemon::start(home.path(), settings).context("the daemon")?;
    Ok((home, daemon))
}
