//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.

mod hooks;
mod signals;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    signals:
        killing_a_sandbox_pid_ends_that_sandbox_only
        sigterm_to_a_sandbox_pid_is_sigterm_to_its_containers
        signals_that_dump_core_end_no_neighbour
        killed_sandbox_takes_no_further_container
        namespaces_of_a_sandbox_pid_are_the_sandboxs
        sandbox_processes_go_with_a_killed_daemon;
    hooks:
        loggers_run_in_the_runtimes_network;
}}

runwasi_tests::played! { played_wasmtime = Wasmtime, played_wasmtimed = Wasmtimed; {
    hooks:
        hooks_run_in_the_runtimes_network
        delete_with_a_hanging_hook_answers_within_its_deadline_and_leaves_nothing;
}}
