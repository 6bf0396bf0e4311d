//! Network namespaces of containers, seen by the pids that containerd is told, each fixture on a host of its own; run by
//! `make test`. Pods through the CRI are the suite `cri`'s.
//!
//! runc with the native guest shows that the cases are right.

mod cni;
mod many;
mod threads;

use anyhow::Result;
use runwasi_tests::{Containers, Runtime, check, on_own_host};

/// Runs a case on a fixture of its own on a host of its own.
#[track_caller]
fn check_on_own_host(runtime: Runtime, case: impl Fn(&mut Containers) -> Result<()> + Sync) {
    on_own_host(|| check(runtime, &case));
}

runwasi_tests::suite! { crate::check_on_own_host: wasmtime = Wasmtime, wasmtimed = Wasmtimed, runc = Runc; {
    many:
        containers_in_twenty_namespaces_are_where_they_belong
        namespace_is_used_again_after_its_container
        network_of_a_container_is_joined_by_its_pid_and_outlives_it
        killed_containers_hold_no_namespace;
    cni:
        ctr_run_cni_gives_an_address_and_takes_it_back
        containers_of_ctr_run_cni_have_different_addresses;
}}

// The other runtimes have an OS process for each sandbox.
runwasi_tests::suite! { crate::check_on_own_host: shared_wasmtimed = Wasmtimed; {
    threads:
        no_thread_stays_outside_the_hosts_network;
}}
