//! The node daemon, besides what every runtime's containers do: who reaches it, how it ends and is replaced, and what it
//! must survive; run by `make test`.
//!
//! Each test has a daemon of its own with a state directory of its own. Cases over a fixture go through a real containerd;
//! cases over a shim driver through the thin shim's command line and the sockets.

mod api;
mod away;
mod crash;
mod down;
mod drain;
mod guard;
mod many;
mod neighbour;
mod paths;
mod peers;
mod ready;
mod requests;
mod sandboxes;
mod settings;
mod squat;
mod takeover;
mod unit;
mod witness;

use anyhow::{Context, Result};
use runwasi_tests::daemon::{Sandbox, State};
use runwasi_tests::{Runtime, ShimDriver, run_case_with};

runwasi_tests::suite! { fixture = Wasmtimed; {
    sandboxes:
        containerds_share_one_daemon
        namespaces_share_one_daemon
        delete_by_hand_after_containerds_death_leaves_nothing;
    away:
        guests_run_on_while_containerd_is_stopped
        guests_run_on_while_containerd_is_killed;
    crash:
        killed_daemon_is_exit_137_for_every_container
        daemon_restarted_at_once_lets_containerd_clean_up;
    takeover:
        replaced_daemon_serves_its_sandboxes_and_leaves_after_the_last
        no_start_fails_while_a_daemon_is_replaced
        start_that_is_refused_late_goes_to_the_successor
        three_daemons_serve_their_sandboxes_at_once
        killed_predecessor_does_not_disturb_its_successor
        of_daemons_started_at_once_one_is_left_and_serves;
    many:
        five_hundred_sandboxes_live_at_once;
}}

runwasi_tests::played! { played = Wasmtimed; {
    sandboxes:
        shutdown_ends_one_sandbox_only
        group_can_be_started_again_at_once;
    ready:
        manager_socket_is_for_its_user_only;
    requests:
        unknown_protocols_are_refused
        unknown_methods_are_refused
        garbage_for_a_message_is_refused;
    peers:
        half_a_message_disturbs_nobody
        silent_clients_disturb_nobody
        ten_thousand_connections_disturb_nobody
        a_crowd_of_starts_is_served_to_the_last;
    paths:
        bundle_outside_the_roots_is_refused
        dots_out_of_the_roots_are_refused
        link_out_of_the_roots_is_refused
        bundle_that_is_no_directory_is_refused
        task_with_a_bundle_outside_the_roots_is_refused;
    squat:
        socket_squatted_by_another_process_is_refused
        manager_socket_squatted_by_another_process_is_refused;
}}

runwasi_tests::suite! { crate::ending: ended = Wasmtimed; {
    crash:
        restarted_daemon_removes_what_a_killed_one_left;
    ready:
        ready_daemon_answers_at_once;
}}

/// Runs one case with a shim driver whose daemon it may end.
#[track_caller]
pub(crate) fn ending(runtime: Runtime, case: impl FnOnce(&mut ShimDriver) -> Result<()>) {
    run_case_with(ShimDriver::new(runtime), case);
}

/// The one sandbox of this group.
pub(crate) fn sandbox(state: &State, group: &str) -> Result<Sandbox> {
    let all = state.sandboxes()?;
    all.iter()
        .find(|one| one.group == group)
        .cloned()
        .with_context(|| format!("no sandbox {group} among {all:?}"))
}
