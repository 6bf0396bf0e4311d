//! The lifecycle of containers under a real containerd, one suite for every runtime; run by `make test`.
//!
//! The runc instance runs the same guest as a native program: where it fails, the test is wrong, not the shim.
//! Differences between the runtimes stand in `Runtime` and in the constants of the cases, with their reasons.

mod concurrency;
mod events;
mod recovery;
mod run;
mod signals;
mod task;

runwasi_tests::suite! {
    wasmtime = Wasmtime, wasmtimed = Wasmtimed, native = Native, wasmi = Wasmi, runc = Runc; {
    run:
        arguments_reach_the_guest
        entrypoint_is_found_as_in_any_container
        environment_reaches_the_guest
        exit_status_is_passed_on
        hello_is_printed
        megabytes_of_output_arrive_intact
        megabytes_of_stdin_pass_through
        rm_leaves_nothing
        stderr_is_apart_from_stdout
        trap_ends_with_134
        working_directory_reaches_the_guest;
    task:
        attach_gets_later_output_and_the_exit_status
        calls_for_an_unknown_container_fail
        created_container_starts_once
        delete_gives_the_exit_status
        delete_while_running_is_denied
        detached_task_is_running_with_a_pid
        ended_task_is_stopped_until_deleted
        forced_delete_ends_a_running_task
        ps_names_a_process;
    signals:
        signals_have_their_default_action
        sigkill_ends_an_endless_loop
        sigterm_ends_an_endless_loop
        signal_after_the_end_is_an_error;
    recovery:
        killed_shim_is_seen_as_exit_137
        id_of_a_killed_shim_can_be_used_again
        restarted_containerd_still_knows_a_running_task
        killed_containerd_still_knows_a_running_task
        restarted_containerd_still_knows_an_exit_status
        task_that_ends_without_containerd_keeps_its_exit_status;
    concurrency:
        twenty_containers_run_at_once
        twenty_clients_wait_for_one_container
        twenty_attached_ctr_get_the_exit_status;
    events:
        run_gives_create_start_exit_delete
        killed_container_gives_one_exit;
}}

// A native program under the runtimes for wasm.
runwasi_tests::suite! { linux_wasmtime = WasmtimeLinux, linux_wasmtimed = WasmtimedLinux; {
    run:
        arguments_reach_the_guest
        entrypoint_is_found_as_in_any_container
        environment_reaches_the_guest
        exit_status_is_passed_on
        hello_is_printed
        megabytes_of_output_arrive_intact
        megabytes_of_stdin_pass_through
        rm_leaves_nothing
        stderr_is_apart_from_stdout
        trap_ends_with_134
        working_directory_reaches_the_guest;
    task:
        attach_gets_later_output_and_the_exit_status
        created_container_starts_once
        delete_gives_the_exit_status
        delete_while_running_is_denied
        detached_task_is_running_with_a_pid
        ended_task_is_stopped_until_deleted
        forced_delete_ends_a_running_task
        ps_names_a_process;
    signals:
        signals_have_their_default_action
        sigterm_ends_an_endless_loop
        signal_after_the_end_is_an_error;
    recovery:
        killed_shim_is_seen_as_exit_137
        id_of_a_killed_shim_can_be_used_again
        restarted_containerd_still_knows_a_running_task
        killed_containerd_still_knows_a_running_task
        restarted_containerd_still_knows_an_exit_status
        task_that_ends_without_containerd_keeps_its_exit_status;
    concurrency:
        twenty_containers_run_at_once;
    events:
        run_gives_create_start_exit_delete
        killed_container_gives_one_exit;
}}

// The daemon with an interpreter: what a daemon does otherwise than a shim.
runwasi_tests::suite! { wasmid = Wasmid; {
    run:
        hello_is_printed
        megabytes_of_stdin_pass_through
        rm_leaves_nothing
        trap_ends_with_134;
    task:
        detached_task_is_running_with_a_pid;
    signals:
        sigkill_ends_an_endless_loop;
    recovery:
        restarted_containerd_still_knows_a_running_task;
    concurrency:
        twenty_containers_run_at_once;
}}

// runc's shim stays.
runwasi_tests::suite! { left_wasmtime = Wasmtime, left_wasmtimed = Wasmtimed; {
    recovery:
        container_of_a_killed_shim_can_be_started_again
        shim_that_nobody_shuts_down_leaves;
}}

// The guest as a component. Its adapter knows no exit codes but 0 and 1: see the suite `components` for others.
runwasi_tests::suite! { component_wasmtime = WasmtimeComponent, component_wasmtimed = WasmtimedComponent; {
    run:
        arguments_reach_the_guest
        environment_reaches_the_guest
        hello_is_printed
        megabytes_of_output_arrive_intact
        megabytes_of_stdin_pass_through
        rm_leaves_nothing
        stderr_is_apart_from_stdout
        trap_ends_with_134
        working_directory_reaches_the_guest;
    signals:
        signals_have_their_default_action
        sigkill_ends_an_endless_loop;
    recovery:
        killed_shim_is_seen_as_exit_137;
}}

// What differs between containerds: how a shim is started, asked, restarted and cleaned up after. runc's own shim loses an exit
// status over a restart of these, and of a `ctr run --rm` one of them has no delete event.
runwasi_tests::suite! { runwasi_tests::check_on_1_7: wasmtime_1_7 = Wasmtime, wasmtimed_1_7 = Wasmtimed; {
    run:
        hello_is_printed
        exit_status_is_passed_on
        rm_leaves_nothing;
    task:
        attach_gets_later_output_and_the_exit_status
        created_container_starts_once
        delete_gives_the_exit_status
        ps_names_a_process;
    signals:
        sigterm_ends_an_endless_loop;
    recovery:
        killed_shim_is_seen_as_exit_137
        id_of_a_killed_shim_can_be_used_again
        restarted_containerd_still_knows_a_running_task
        killed_containerd_still_knows_a_running_task
        restarted_containerd_still_knows_an_exit_status
        task_that_ends_without_containerd_keeps_its_exit_status;
    events:
        run_gives_create_start_exit_delete;
}}

runwasi_tests::suite! { runwasi_tests::check_on_1_7: runc_1_7 = Runc; {
    run:
        hello_is_printed
        exit_status_is_passed_on
        rm_leaves_nothing;
    task:
        attach_gets_later_output_and_the_exit_status
        created_container_starts_once
        delete_gives_the_exit_status
        ps_names_a_process;
    signals:
        sigterm_ends_an_endless_loop;
    recovery:
        killed_shim_is_seen_as_exit_137
        id_of_a_killed_shim_can_be_used_again
        restarted_containerd_still_knows_a_running_task
        killed_containerd_still_knows_a_running_task;
}}

runwasi_tests::suite! { runwasi_tests::check_on_2: wasmtime_2 = Wasmtime, wasmtimed_2 = Wasmtimed; {
    run:
        hello_is_printed
        exit_status_is_passed_on
        rm_leaves_nothing;
    task:
        attach_gets_later_output_and_the_exit_status
        created_container_starts_once
        delete_gives_the_exit_status
        ps_names_a_process;
    signals:
        sigterm_ends_an_endless_loop;
    recovery:
        killed_shim_is_seen_as_exit_137
        id_of_a_killed_shim_can_be_used_again
        restarted_containerd_still_knows_a_running_task
        killed_containerd_still_knows_a_running_task
        restarted_containerd_still_knows_an_exit_status
        task_that_ends_without_containerd_keeps_its_exit_status;
    events:
        run_gives_create_start_exit_delete;
}}

runwasi_tests::suite! { runwasi_tests::check_on_2: runc_2 = Runc; {
    run:
        hello_is_printed
        exit_status_is_passed_on
        rm_leaves_nothing;
    task:
        attach_gets_later_output_and_the_exit_status
        created_container_starts_once
        delete_gives_the_exit_status
        ps_names_a_process;
    signals:
        sigterm_ends_an_endless_loop;
    recovery:
        killed_shim_is_seen_as_exit_137
        id_of_a_killed_shim_can_be_used_again
        restarted_containerd_still_knows_a_running_task
        killed_containerd_still_knows_a_running_task;
}}

runwasi_tests::suite! { runwasi_tests::check_on_1_7: linux_wasmtime_1_7 = WasmtimeLinux, linux_wasmtimed_1_7 = WasmtimedLinux; {
    run:
        exit_status_is_passed_on
        rm_leaves_nothing;
    task:
        attach_gets_later_output_and_the_exit_status
        ps_names_a_process;
    recovery:
        killed_shim_is_seen_as_exit_137
        killed_containerd_still_knows_a_running_task;
    events:
        run_gives_create_start_exit_delete;
}}

runwasi_tests::suite! { runwasi_tests::check_on_2: linux_wasmtime_2 = WasmtimeLinux, linux_wasmtimed_2 = WasmtimedLinux; {
    run:
        exit_status_is_passed_on
        rm_leaves_nothing;
    task:
        attach_gets_later_output_and_the_exit_status
        ps_names_a_process;
    recovery:
        killed_shim_is_seen_as_exit_137
        killed_containerd_still_knows_a_running_task;
    events:
        run_gives_create_start_exit_delete;
}}
