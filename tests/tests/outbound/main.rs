//! What components reach of the network: each sandbox its own servers, names by the container's own files, HTTPS by the system's
//! roots, and all of it as the policy allows. Run by `make test`.
//!
//! The servers are this process's, in network namespaces that the containers are put into.

mod authority;
mod ends;
mod fixture;
mod names;
mod policy;
mod reach;
mod servers;
mod tls;

use anyhow::Result;
use runwasi_tests::daemon::Settings;
use runwasi_tests::{Containerd, Containers, Runtime, check_with};

use authority::Authority;

/// Runs a case on a fixture whose shims and daemon are told that the tests' authority is the system's only one.
#[track_caller]
fn check(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let roots = match Authority::of_tests().and_then(Authority::file) {
        Ok(roots) => roots,
        Err(error) => panic!("no certificates: {error:?}"),
    };
    let fixture = Containerd::builder().env("SSL_CERT_FILE", roots.path());
    let daemon = Settings::default().env("SSL_CERT_FILE", roots.path());
    let fixture = if runtime.needs_daemon() { fixture.daemon(daemon) } else { fixture };
    check_with(runtime, fixture, case);
}

runwasi_tests::suite! { crate::check: wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    reach:
        sandboxes_reach_the_servers_of_their_own_network_only
        containers_on_the_hosts_network_reach_the_host
        connections_of_http_are_used_again
        complete_answer_is_delivered_although_its_connection_ends_badly
        guest_that_listens_is_reached_inside_its_network;
    names:
        name_servers_of_the_container_are_asked_in_its_network
        search_domain_whose_server_fails_is_passed_over
        hosts_of_the_container_win
        addresses_are_in_the_order_of_libc;
    tls:
        https_trusts_the_systems_roots_and_nobody_else
        https_trusts_the_containers_own_roots_instead
        roots_that_cannot_be_read_fail_the_request_with_their_name
        roots_of_the_container_are_those_inside_its_root
        sessions_are_resumed_by_the_same_container_only;
    policy:
        none_lets_nothing_out
        list_lets_out_what_it_names
        mapped_addresses_of_a_list_are_those_of_ipv4
        wrong_item_fails_the_create_with_its_name;
    ends:
        kill_of_what_hangs_leaves_nothing_open
        all_that_a_guest_has_written_arrives_although_it_exits_at_once
        config_and_keyvalue_are_the_containers;
}}
