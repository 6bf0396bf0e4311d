//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.

mod calls;
mod compilation;
mod files;
mod hooks;
mod log;
mod memory;
mod mounts;
mod shares;
mod signals;
mod stop;
mod streams;
mod tasks;

runwasi_tests::suite! { memory_wasmtime = Wasmtime, memory_wasmtimed = Wasmtimed; {
    memory:
        get_many_of_a_large_value_is_bounded
        unsent_bodies_are_bounded
        fields_are_bounded
        component_may_hold_a_hundred_and_ten_thousand_handles
        what_an_asynchronous_component_holds_is_bounded
        responses_that_no_client_reads_are_bounded
        heads_that_no_client_ends_are_bounded
        error_contexts_are_off
        gc_heap_beyond_the_limit_is_killed_and_reported
        gc_heap_is_usable_up_to_the_limit
        cyclic_garbage_is_freed
        damaged_artifact_is_refused_by_its_sections;
}}

// A shim serves one pod: only the daemon reads for many.
runwasi_tests::suite! { memory_of_the_node = Wasmtimed; {
    memory:
        sparse_artifacts_are_bounded_in_sum;
}}

runwasi_tests::suite! { crate::shares::check: shares_wasmtime = Wasmtime, shares_wasmtimed = Wasmtimed; {
    shares:
        a_component_has_a_bounded_number_of_memories
        component_has_a_bounded_number_of_tables
        start_that_does_not_fit_names_what_is_exhausted
        each_refusal_names_container_resource_limit_and_setting_once
        processes_of_a_container_are_bounded
        http_server_leaves_stacks_to_others
        http_server_accepts_within_its_share
        guest_that_closes_its_files_can_open_again
        listener_of_p3_accepts_within_its_share;
}}

runwasi_tests::suite! { crate::shares::check_few_maps: maps_wasmtime = Wasmtime, maps_wasmtimed = Wasmtimed; {
    shares:
        start_beyond_the_memory_maps_is_refused_and_a_new_module_starts
        memory_maps_are_counted_before_a_start_is_refused;
}}

// A shim without descriptors harms its own pod only.
runwasi_tests::suite! { crate::shares::check_few_descriptors: shares_of_the_node = Wasmtimed; {
    shares:
        guests_leave_descriptors_to_the_daemon
        start_without_descriptors_is_refused_by_name;
}}

runwasi_tests::suite! { crate::compilation::check: compile_wasmtime = Wasmtime, compile_wasmtimed = Wasmtimed; {
    compilation:
        compiler_has_no_privileges_no_network_and_no_files
        small_module_does_not_wait_behind_large_ones
        compilation_that_is_not_wanted_any_more_is_stopped
        module_with_an_unknown_import_is_refused_before_it_is_compiled
        module_beyond_the_pool_is_refused_before_it_is_compiled
        artifact_without_its_entry_is_refused_before_it_is_compiled
        compiler_of_an_exec_is_outside_the_limits_of_its_container
        killed_compiler_is_a_start_error;
}}

runwasi_tests::suite! { crate::compilation::check: compile_spare = Wasmtimed; {
    compilation:
        waiting_compiler_serves_one_module_of_a_daemon_and_is_replaced;
}}

runwasi_tests::suite! { crate::compilation::check: compile_spare_shim = Wasmtime; {
    compilation:
        shim_of_a_pod_keeps_no_compiler;
}}

runwasi_tests::suite! { crate::compilation::check_little_memory: little_wasmtime = Wasmtime, little_wasmtimed = Wasmtimed; {
    compilation:
        compiler_beyond_its_memory_is_a_start_error;
}}

runwasi_tests::suite! { crate::compilation::check_little_time: hasty_wasmtime = Wasmtime, hasty_wasmtimed = Wasmtimed; {
    compilation:
        compiler_beyond_its_time_is_a_start_error;
}}

runwasi_tests::suite! { mounts_wasmtime = Wasmtime, mounts_wasmtimed = Wasmtimed; {
    mounts:
        host_proc_below_a_recursive_bind_is_left_out
        host_proc_below_a_root_is_left_out;
}}

// Cases that compare times or load all CPUs: each has the machine to itself.
runwasi_tests::suite! { runwasi_tests::check_alone:
    loads_wasmtime_alone = Wasmtime, loads_wasmtimed_alone = Wasmtimed,
    loads_component_wasmtime_alone = WasmtimeComponent, loads_component_wasmtimed_alone = WasmtimedComponent; {
    files:
        fifo_swapped_in_by_another_container_holds_no_worker
        cpu_of_file_calls_is_charged_to_the_container;
}}

// The guest as a component, whose calls are others.
runwasi_tests::suite! {
    files_wasmtime = Wasmtime, files_wasmtimed = Wasmtimed,
    files_component_wasmtime = WasmtimeComponent, files_component_wasmtimed = WasmtimedComponent; {
    files:
        file_under_a_lease_of_another_process_holds_no_worker
        file_on_a_hung_file_system_holds_only_its_reader
        output_to_a_hung_file_system_holds_only_its_guests;
}}

runwasi_tests::suite! { below_wasmtime = Wasmtime, below_wasmtimed = Wasmtimed; {
    files:
        hung_file_system_below_a_volume_holds_only_its_reader;
}}

runwasi_tests::suite! { crate::files::check_few_threads: held_wasmtime_alone = Wasmtime, held_wasmtimed_alone = Wasmtimed; {
    files:
        container_holds_no_more_threads_than_its_setting_allows;
}}

runwasi_tests::suite! { tasks_wasmtime = Wasmtime, tasks_wasmtimed = Wasmtimed; {
    tasks:
        server_without_further_threads_refuses_by_name_and_works_again
        container_on_a_slow_file_system_waits_for_a_thread;
}}

// Each sandbox of a daemon has a process; a shim has one sandbox.
runwasi_tests::suite! { crate::tasks::check_few_tasks: few_tasks = Wasmtimed; {
    tasks:
        daemon_with_few_tasks_lives_on_under_load;
}}

runwasi_tests::suite! { no_tasks = Wasmtimed; {
    tasks:
        daemon_without_its_threads_does_not_start_and_says_why;
}}

runwasi_tests::played! { delete_wasmtime = Wasmtime, delete_wasmtimed = Wasmtimed; {
    files:
        delete_does_not_succeed_while_the_server_lives
        delete_names_what_it_could_not_remove;
}}

runwasi_tests::suite! { signals_wasmtime = Wasmtime, signals_wasmtimed = Wasmtimed; {
    signals:
        killing_a_sandbox_pid_ends_that_sandbox_only
        sigterm_to_a_sandbox_pid_is_sigterm_to_its_containers
        signals_that_dump_core_end_no_neighbour
        killed_sandbox_takes_no_further_container
        namespaces_of_a_sandbox_pid_are_the_sandboxs
        sandbox_processes_go_with_a_killed_daemon;
    hooks:
        loggers_run_in_the_runtimes_network;
    tasks:
        container_is_killed_and_deleted_while_no_thread_can_be_started;
}}

runwasi_tests::played! { played_wasmtime = Wasmtime, played_wasmtimed = Wasmtimed; {
    hooks:
        hooks_run_in_the_runtimes_network
        delete_with_a_hanging_hook_answers_within_its_deadline_and_leaves_nothing;
}}

runwasi_tests::suite! { runwasi_tests::check_alone: calls_wasmtime_alone = Wasmtime, calls_wasmtimed_alone = Wasmtimed; {
    calls:
        random_bytes_hold_no_worker
        many_subscriptions_hold_no_worker
        most_subscriptions_hold_no_worker
        a_large_directory_holds_no_worker
        a_large_write_holds_no_worker
        a_large_read_holds_no_worker
        a_large_stream_holds_no_worker
        copy_from_stream_to_stream_holds_no_worker
        a_large_directory_by_a_stream_holds_no_worker
        a_name_with_many_addresses_holds_no_worker
        a_million_missing_keys_hold_no_worker
        informational_responses_without_end_hold_no_worker
        collections_of_a_gc_heap_hold_no_worker
        spinning_guests_do_not_delay_their_neighbours;
}}

runwasi_tests::suite! { bounds_wasmtime = Wasmtime, bounds_wasmtimed = Wasmtimed; {
    calls:
        random_bytes_are_complete
        a_poll_has_a_limited_number_of_subscriptions
        a_directory_is_listed_once_with_any_buffer
        a_large_write_is_complete
        a_large_read_is_complete
        a_large_stream_is_complete;
}}

runwasi_tests::suite! { crate::stop::check: stop_wasmtime_alone = Wasmtime, stop_wasmtimed = Wasmtimed; {
    stop:
        stop_tells_the_guests_own_status_once
        stop_is_quick_without_a_client_and_delete_repeats_the_status
        stop_tells_guests_that_wait_in_the_kernel
        stopping_sandbox_takes_no_container;
}}

// The other cases of logs are tests of their own: each has its own settings of a daemon.
runwasi_tests::suite! { log_wasmtime = Wasmtime; {
    log:
        signals_for_a_closed_terminal_and_a_dump_end_no_shim;
}}

// A thin shim of the daemon logs nothing.
runwasi_tests::played! { log_played_wasmtime = Wasmtime; {
    log:
        log_fifo_that_is_never_read_stops_no_shim;
}}

runwasi_tests::played! { streams_played_wasmtime = Wasmtime, streams_played_wasmtimed = Wasmtimed; {
    streams:
        exit_is_told_although_a_reader_never_reads;
}}

runwasi_tests::suite! { runwasi_tests::check_alone: streams_wasmtime_alone = Wasmtime, streams_wasmtimed_alone = Wasmtimed; {
    streams:
        megabyte_through_a_terminal_arrives_whole;
}}
