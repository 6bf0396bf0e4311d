//! Everything that containerd's Task service and a `config.json` can say, and what comes of it: real shims, played containerd; run
//! by `make test`.

mod calls;
mod fields;
mod hooks;
mod processes;
mod schema;
mod table;

runwasi_tests::played! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    calls:
        every_call_of_the_task_service_works_or_is_refused_with_a_reason
        calls_in_the_wrong_state_are_refused;
    fields:
        fields_without_a_meaning_for_a_guest_change_nothing
        unknown_values_without_a_meaning_for_a_guest_change_nothing
        parameters_of_the_namespaces_are_set
        parameters_of_the_hosts_network_are_refused_by_its_path
        wrong_values_are_invalid_arguments
        wrong_runtime_options_are_invalid_arguments;
    hooks:
        hooks_run_at_their_points_with_the_containers_state
        failing_hook_before_the_start_fails_the_creation
        failing_hook_after_the_start_ends_the_container
        hook_that_hangs_is_killed_at_its_timeout
        hooks_after_the_end_run_also_for_a_killed_shim
        hooks_of_the_image_are_refused;
    processes:
        exec_without_a_program_fails_at_its_start
        delete_of_an_exec_that_never_started_is_0
        running_process_has_no_time_of_an_exit
        size_of_the_terminal_of_an_ended_process_is_ignored
        init_for_native_programs_is_refused_with_advice;
}}

// The daemon has the memory of all pods.
runwasi_tests::played! { of_a_pod = Wasmtime; {
    fields:
        shim_has_the_least_oom_score_of_its_containers;
}}

// runc shows that a native container's hooks fail in the same way. When it runs those after the start depends on its version.
runwasi_tests::played! { runc = Runc; {
    hooks:
        failing_hook_before_the_start_fails_the_creation;
    processes:
        exec_without_a_program_fails_at_its_start
        delete_of_an_exec_that_never_started_is_0;
}}
