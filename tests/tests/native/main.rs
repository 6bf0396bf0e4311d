//! Native programs under the runtimes for wasm: what runc's shim does for them, and the ends of all three; run by `make test`.
//!
//! The suites `lifecycle`, `exec`, `stdio` and `cri` run their own cases with a native program, too.

mod config;
mod ends;
mod group;
mod joined;
mod setting;

runwasi_tests::suite! { wasmtime = WasmtimeLinux, wasmtimed = WasmtimedLinux; {
    config:
        script_is_run_by_its_interpreter
        hook_in_the_namespaces_of_the_container_runs
        init_of_a_client_is_native_if_its_program_is;
    ends:
        killed_native_runtime_is_seen_as_exit_137_of_its_containers
        container_runs_after_the_native_runtime_was_killed
        native_container_of_a_killed_server_exits_once
        exit_of_a_native_container_outlives_its_server
        killed_shim_and_native_runtime_leave_nothing;
    group:
        containers_of_a_pod_share_a_native_runtime
        wasm_and_native_programs_are_in_one_pod
        metrics_of_a_native_container_are_those_of_its_cgroup;
}}

runwasi_tests::suite! { crate::ends::check_with_short_grace: stopped_wasmtime = WasmtimeLinux, stopped_wasmtimed = WasmtimedLinux; {
    ends:
        stopped_server_ends_its_native_containers;
}}

runwasi_tests::suite! { crate::setting::check_off: off_wasmtime = WasmtimeLinux, off_wasmtimed = WasmtimedLinux; {
    setting:
        native_program_is_refused_and_wasm_runs;
}}

runwasi_tests::suite! { crate::setting::check_missing: missing_wasmtime = WasmtimeLinux, missing_wasmtimed = WasmtimedLinux; {
    setting:
        missing_native_runtime_is_named;
}}

runwasi_tests::suite! { crate::setting::check_restricted: restricted_wasmtimed = WasmtimedLinux; {
    setting:
        restricted_daemon_names_the_way_out;
}}

runwasi_tests::played! { played_wasmtime = WasmtimeLinux, played_wasmtimed = WasmtimedLinux; {
    config:
        options_of_runc_choose_the_cgroup_of_the_native_runtime;
}}

runwasi_tests::suite! { crate::joined::check: joined_wasmtime = WasmtimeLinux, joined_wasmtimed = WasmtimedLinux; {
    joined:
        joined_native_container_ends_with_its_killed_server;
}}

// Beside it what is true of guests that joined.
runwasi_tests::suite! { crate::joined::check: joined_guest_wasmtime = Wasmtime, joined_guest_wasmtimed = Wasmtimed; {
    joined:
        joined_container_of_a_killed_server_leaves_no_cgroup_and_owes_no_hook;
}}

// The daemon joins no cgroups.
runwasi_tests::suite! { shim = WasmtimeLinux; {
    group:
        native_runtime_is_in_no_cgroup_of_a_wasm_container;
}}

runwasi_tests::suite! { daemon = WasmtimedLinux; {
    setting:
        options_do_not_override_the_daemon;
}}
