//! What only components do, under a real containerd; run by `make test`. What they do as modules do, the other suites show:
//! their cases run with the guest as a component, too.

mod p2;
mod p3;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    p2:
        exit_code_is_passed_on
        named_function_runs
        named_function_that_fails_gives_status_one
        named_function_that_traps_gives_134
        function_that_cannot_be_called_is_refused_with_those_that_are_there
        working_directory_is_told
        config_is_the_containers
        keyvalue_begins_empty_in_every_container
        module_and_component_are_processes_of_one_container;
    p3:
        arguments_reach_the_guest
        environment_and_working_directory_reach_the_guest
        sleeps_at_the_same_time_overlap
        exit_status_is_passed_on
        stdin_passes_through
        names_of_the_standard_streams_are_its_own
        file_is_written_and_read_by_streams
        trap_gives_134
        spinner_is_paused_and_killed
        sigterm_ends_a_sleeper;
}}
