//! The commands of `containerd-wasmtimed` on real daemons: what they show of containers, how they end without a daemon,
//! without permission and without an answer, and what they must not disturb; run by `make test`.

mod absent;
mod events;
mod files;
mod lists;
mod recorded;
mod upkeep;

runwasi_tests::suite! { fixture = Wasmtimed; {
    lists:
        running_and_paused_containers_are_shown_by_every_command
        requests_of_a_server_are_counted
        limits_usage_and_execs_are_inspected
        retired_and_current_daemon_are_listed_together
        top_draws_sorts_and_filters_at_a_terminal
        reader_that_has_gone_ends_a_command_quietly;
    events:
        lives_are_told_as_they_happen_and_afterwards
        events_go_on_across_a_takeover
        events_end_with_their_reader;
    absent:
        user_without_permission_is_told_so
        stopped_daemon_is_told_in_time_and_others_are_shown
        commands_disturb_no_daemon;
    recorded:
        outputs_are_recorded_for_the_documentation;
    upkeep:
        drain_waits_for_the_last_sandbox
        drain_that_takes_too_long_says_what_is_left
        drain_of_an_empty_node_needs_no_time
        health_follows_the_daemon
        bundle_has_facts_and_no_secret
        cache_is_listed_verified_and_pruned_under_a_guest;
}}
