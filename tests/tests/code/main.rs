//! Compiled code and the engine's settings, under a real containerd; run by `make test`. What only settings can show goes with both
//! modes: a shim has them by containerd's runtime options, the daemon by its file.

mod cache;
mod fixture;
mod modules;
mod options;
mod precompile;
mod settings;
mod trouble;

runwasi_tests::suite! { crate::fixture::check: wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    cache:
        two_starts_of_a_new_module_compile_it_once
        killed_compiler_leaves_no_lock_and_no_half_file
        damaged_code_is_compiled_again
        compilation_is_told_with_its_container_its_time_and_its_sizes
        program_that_was_seen_is_not_read_again
        file_of_a_volume_or_a_plain_directory_is_read_at_every_start
        compiling_is_nice_and_delays_no_other_container
        precompiled_code_from_an_image_is_refused;
    precompile:
        precompiled_file_and_image_need_no_compiler_when_they_start
        precompiled_images_of_containerd_need_no_compiler_either
        precompiling_what_is_no_wasm_names_it_and_does_the_rest;
}}

runwasi_tests::suite! { crate::fixture::check_full: wasmtime_full = Wasmtime, wasmtimed_full = Wasmtimed; {
    trouble:
        full_disk_only_warns;
}}

runwasi_tests::suite! { crate::fixture::check_unwritable: wasmtime_unwritable = Wasmtime, wasmtimed_unwritable = Wasmtimed; {
    trouble:
        unwritable_cache_only_warns;
}}

runwasi_tests::suite! { crate::fixture::check: defaults_shim = Wasmtime, defaults_daemon = Wasmtimed; {
    settings:
        finished_proposals_are_on
        what_toolchains_emit_runs
        unfinished_proposal_is_refused
        memory_of_more_than_the_largest_size_is_refused_by_its_setting
        cycles_are_collected
        shared_memory_is_refused;
}}

runwasi_tests::suite! { crate::fixture::check_all_off: off_shim = Wasmtime, off_daemon = Wasmtimed; {
    settings:
        what_is_off_is_refused_by_its_name
        plain_module_needs_none_of_them;
}}

runwasi_tests::suite! { crate::fixture::check_large_memories: large_shim = Wasmtime, large_daemon = Wasmtimed; {
    settings:
        memory_beyond_4_gib_is_used_and_grows_no_further_than_its_setting;
}}

runwasi_tests::suite! { crate::fixture::check_unfinished: unfinished_shim = Wasmtime, unfinished_daemon = Wasmtimed; {
    settings:
        unfinished_proposal_runs_where_it_is_on;
}}

runwasi_tests::suite! { crate::fixture::check_counting: counting_shim = Wasmtime, counting_daemon = Wasmtimed; {
    settings:
        reference_counting_keeps_cycles;
}}

runwasi_tests::suite! { crate::fixture::check_inlined: inlined_shim = Wasmtime, inlined_daemon = Wasmtimed; {
    settings:
        guests_compiled_for_speed_at_any_size_run_trap_and_can_be_killed;
}}

runwasi_tests::suite! { crate::fixture::check_one_slot: one_slot_shim = Wasmtime, one_slot_daemon = Wasmtimed; {
    settings:
        second_guest_of_one_slot_is_refused_until_the_first_has_ended;
}}

runwasi_tests::suite! { crate::fixture::check: options_shim = Wasmtime, options_daemon = Wasmtimed; {
    options:
        unknown_and_wrong_options_are_refused_with_their_line
        missing_options_file_is_named;
}}

runwasi_tests::suite! { crate::fixture::check: shims_options = Wasmtime; {
    options:
        containers_of_a_pod_have_one_engine
        options_name_the_cache_and_its_size;
}}

runwasi_tests::suite! { crate::fixture::check: daemons_options = Wasmtimed; {
    options:
        daemon_takes_options_that_it_fulfils_and_refuses_others;
}}
