//! `ctr task exec` under a real containerd: further processes of a container; run by `make test`.

mod life;
mod run;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed, runc = Runc; {
    run:
        exec_prints_and_passes_its_status_on
        another_program_of_the_image_runs
        stdin_of_an_exec_is_its_own
        stderr_of_an_exec_is_apart
        names_of_the_standard_streams_are_the_execs_own
        environment_and_working_directory_are_the_execs
        program_that_is_missing_is_an_error_and_its_id_stays_free
        id_of_a_running_exec_is_taken
        megabytes_of_output_arrive_intact;
    life:
        exec_is_killed_on_its_own
        every_process_is_killed_at_once
        end_of_the_init_ends_its_execs
        paused_container_takes_no_exec
        ps_names_the_execs
        execs_leave_no_file_descriptors_behind
        exec_gives_added_started_and_exit
        exec_in_a_container_that_has_ended_is_an_error
        twenty_execs_run_at_once
        restarted_containerd_still_knows_a_running_exec
        killed_shim_takes_its_execs_with_it;
}}

// An interpreter.
runwasi_tests::suite! { wasmi = Wasmi; {
    run:
        environment_and_working_directory_are_the_execs
        stdin_of_an_exec_is_its_own;
    life:
        exec_is_killed_on_its_own
        end_of_the_init_ends_its_execs;
}}

// The guest as a component.
runwasi_tests::suite! { component_wasmtime = WasmtimeComponent, component_wasmtimed = WasmtimedComponent; {
    run:
        environment_and_working_directory_are_the_execs
        another_program_of_the_image_runs
        stdin_of_an_exec_is_its_own
        names_of_the_standard_streams_are_the_execs_own;
    life:
        end_of_the_init_ends_its_execs
        execs_leave_no_file_descriptors_behind;
}}

// A native program under the runtimes for wasm.
runwasi_tests::suite! { linux_wasmtime = WasmtimeLinux, linux_wasmtimed = WasmtimedLinux; {
    run:
        exec_prints_and_passes_its_status_on
        another_program_of_the_image_runs
        stdin_of_an_exec_is_its_own
        environment_and_working_directory_are_the_execs
        program_that_is_missing_is_an_error_and_its_id_stays_free
        megabytes_of_output_arrive_intact;
    life:
        exec_is_killed_on_its_own
        every_process_is_killed_at_once
        end_of_the_init_ends_its_execs
        ps_names_the_execs
        exec_gives_added_started_and_exit
        twenty_execs_run_at_once
        restarted_containerd_still_knows_a_running_exec;
}}
