//! Components that answer HTTP, under a real containerd; run by `make test`.

mod life;
mod load;
mod network;
mod outcomes;
mod patience;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    life:
        components_of_both_worlds_answer
        running_server_is_listening
        address_in_use_fails_the_run_and_is_named
        wrong_setting_fails_the_run_with_its_key
        sigterm_lets_requests_finish_and_exits_with_0
        sigkill_ends_a_server_at_once
        output_of_requests_is_the_containers
        failing_requests_fail_alone;
    load:
        memory_limit_is_for_all_requests_together
        requests_at_once_share_instances
        drain_under_load_cuts_no_request;
    outcomes:
        half_closing_client_gets_its_answer
        complete_response_before_a_bad_end_is_delivered
        short_response_is_delivered_as_far_as_it_goes
        requests_in_the_backlog_at_sigterm_are_answered
        request_that_does_not_fit_the_memory_waits;
    patience:
        servers_that_keep_a_request_waiting_are_given_up;
}}

runwasi_tests::suite! { runwasi_tests::check_alone: wasmtime_alone = Wasmtime, wasmtimed_alone = Wasmtimed; {
    load:
        paused_server_uses_no_cpu_and_goes_on
        cpu_quota_holds_for_a_server_under_load
        cpu_of_requests_is_in_the_metrics
        server_under_load_is_killed_at_once;
}}

/// Runs a case on a fixture of its own on a host of its own.
#[track_caller]
fn check_on_own_host(
    runtime: runwasi_tests::Runtime,
    case: impl Fn(&mut runwasi_tests::Containers) -> anyhow::Result<()> + Sync,
) {
    runwasi_tests::on_own_host(|| runwasi_tests::check(runtime, &case));
}

runwasi_tests::suite! { crate::check_on_own_host: own_wasmtime = Wasmtime, own_wasmtimed = Wasmtimed; {
    network:
        servers_in_two_networks_have_the_same_port;
}}
