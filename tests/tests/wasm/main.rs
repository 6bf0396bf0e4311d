//! What only the wasm shims do or does otherwise than a native runtime, under a real containerd; run by `make test`.

mod guest;
mod pause;
mod sleep;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    guest:
        named_export_of_the_image_runs
        files_are_written_listed_and_read_back
        read_only_volume_refuses_writes
        memory_that_a_guest_allocates_is_there
        guest_without_a_working_directory_begins_at_the_root;
    pause:
        paused_task_is_listed_computes_nothing_and_goes_on
        paused_guest_goes_on_where_it_was
        paused_sleeper_does_not_do_its_timers_work
        pause_and_resume_are_told_as_events
        pausing_what_does_not_run_is_an_error
        paused_task_can_be_deleted_by_force
        paused_task_can_be_killed;
    sleep:
        millisecond_of_sleep_ends_as_exactly_as_a_native_one;
}}

// An interpreter, whose clock is fuel. Its sleeps end by Tokio's timer, which counts milliseconds.
runwasi_tests::suite! { wasmi = Wasmi; {
    guest:
        memory_that_a_guest_allocates_is_there;
    pause:
        paused_task_is_listed_computes_nothing_and_goes_on
        paused_task_can_be_killed;
}}

// The guest as a component.
runwasi_tests::suite! { component_wasmtime = WasmtimeComponent, component_wasmtimed = WasmtimedComponent; {
    guest:
        files_are_written_listed_and_read_back
        memory_that_a_guest_allocates_is_there;
    pause:
        paused_guest_goes_on_where_it_was
        paused_sleeper_does_not_do_its_timers_work
        paused_task_can_be_killed;
    sleep:
        millisecond_of_sleep_ends_as_exactly_as_a_native_one;
}}

runwasi_tests::suite! { runwasi_tests::check_alone:
    wasmtime_alone = Wasmtime, wasmtimed_alone = Wasmtimed,
    component_wasmtime_alone = WasmtimeComponent, component_wasmtimed_alone = WasmtimedComponent; {
    pause:
        paused_spinner_stops_within_twenty_milliseconds;
}}
