//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.

mod compilation;

runwasi_tests::suite! { crate::compilation::check: compile_wasmtime = Wasmtime, compile_wasmtimed = Wasmtimed; {
    compilation:
        compiler_has_no_privileges_no_network_and_no_files
        small_module_does_not_wait_behind_large_ones
        compilation_that_is_not_wanted_any_more_is_stopped
        module_with_an_unknown_import_is_refused_before_it_is_compiled
        module_beyond_the_pool_is_refused_before_it_is_compiled
        killed_compiler_is_a_start_error;
}}

runwasi_tests::suite! { crate::compilation::check_little_memory: little_wasmtime = Wasmtime, little_wasmtimed = Wasmtimed; {
    compilation:
        compiler_beyond_its_memory_is_a_start_error;
}}

runwasi_tests::suite! { crate::compilation::check_little_time: hasty_wasmtime = Wasmtime, hasty_wasmtimed = Wasmtimed; {
    compilation:
        compiler_beyond_its_time_is_a_start_error;
}}
