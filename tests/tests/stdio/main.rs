//! Terminals, files and loggers as standard streams under a real containerd; run by `make test`.

mod file;
mod logger;
mod reader;
mod terminal;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed, runc = Runc; {
    terminal:
        guest_at_a_terminal_sees_one_and_another_none
        what_is_typed_is_echoed_edited_and_read
        exit_status_passes_through_a_terminal
        exec_gets_a_terminal_of_its_own
        size_of_the_clients_terminal_is_the_guests
        client_attaches_to_a_detached_guest
        killed_guest_at_a_terminal_leaves_nothing;
    file:
        output_of_a_detached_container_goes_to_a_file
        output_of_an_exec_goes_to_a_file;
    logger:
        logger_gets_both_streams_apart
        logger_gets_all_of_what_was_printed
        logger_that_ignores_the_end_of_its_streams_is_ended
        missing_logger_is_refused;
}}

// Not all of it for runc: its shim has been seen to lose the last kilobytes of a megabyte.
runwasi_tests::suite! { wasm_only_wasmtime = Wasmtime, wasm_only_wasmtimed = Wasmtimed; {
    terminal:
        megabyte_passes_through_a_terminal_before_the_end
        guest_outlives_the_client_and_another_attaches
        ctrl_c_and_ctrl_backslash_end_a_guest
        ctrl_c_is_heard_although_nobody_reads;
    file:
        both_streams_are_added_to_a_file
        full_disk_is_the_guests_error_and_nobody_elses
        address_that_means_nothing_is_refused;
    logger:
        guest_outlives_its_logger
        logger_of_version_2_tells_its_readiness
        logger_that_never_becomes_ready_is_refused;
}}

runwasi_tests::played! { played_wasmtime = Wasmtime, played_wasmtimed = Wasmtimed; {
    file:
        terminals_output_goes_to_a_file;
    reader:
        slow_reader_gets_everything_and_disturbs_nobody
        exit_is_told_when_the_reader_has_everything
        reader_that_has_gone_is_replaced_without_a_loss;
}}

// The guest as a component.
runwasi_tests::suite! { component_wasmtime = WasmtimeComponent, component_wasmtimed = WasmtimedComponent; {
    terminal:
        guest_at_a_terminal_sees_one_and_another_none
        what_is_typed_is_echoed_edited_and_read
        ctrl_c_and_ctrl_backslash_end_a_guest;
}}

// A native program under the runtimes for wasm.
runwasi_tests::suite! { linux_wasmtime = WasmtimeLinux, linux_wasmtimed = WasmtimedLinux; {
    terminal:
        guest_at_a_terminal_sees_one_and_another_none
        exit_status_passes_through_a_terminal
        exec_gets_a_terminal_of_its_own
        size_of_the_clients_terminal_is_the_guests;
    file:
        output_of_a_detached_container_goes_to_a_file;
    logger:
        logger_gets_both_streams_apart;
}}
