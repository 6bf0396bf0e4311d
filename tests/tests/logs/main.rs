//! What the logs of shims and daemons tell about containers; run by `make test`.

mod daemon;
mod life;
mod native;
mod night;
mod pods;
mod refused;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    life:
        life_of_a_container_is_told_with_its_pod_and_its_usage
        trap_is_told_with_its_kind
        end_by_memory_is_told_as_such
        signals_are_told
        exec_is_told_with_its_id;
    refused:
        refused_container_is_told_once_with_the_reason
        refused_execs_are_told
        text_of_a_container_cannot_forge_a_line;
}}

runwasi_tests::played! { played_wasmtime = Wasmtime, played_wasmtimed = Wasmtimed; {
    life:
        container_that_was_never_started_is_told_as_such;
}}

runwasi_tests::suite! { runwasi_tests::check_alone: wasmtime_alone = Wasmtime, wasmtimed_alone = Wasmtimed; {
    life:
        long_throttling_is_told_once;
}}

runwasi_tests::suite! { crate::life::check_filtered: filtered_wasmtime = Wasmtime, filtered_wasmtimed = Wasmtimed; {
    life:
        lines_of_lives_are_filtered_by_rust_log;
}}

runwasi_tests::suite! { crate::daemon::check_json: json_wasmtimed = Wasmtimed; {
    daemon:
        every_line_of_json_parses_with_its_fields;
}}

runwasi_tests::suite! { crate::daemon::check_journal: journal_wasmtimed = Wasmtimed; {
    daemon:
        entries_of_the_journal_have_fields;
}}

runwasi_tests::suite! { native_wasmtime = WasmtimeLinux, native_wasmtimed = WasmtimedLinux; {
    native:
        life_of_a_native_container_is_told
        cause_of_a_native_end_is_told
        exec_of_a_native_container_is_told
        refused_native_container_is_told;
}}

runwasi_tests::suite! { runwasi_tests::check_pods: pods_wasmtime = Wasmtime, pods_wasmtimed = Wasmtimed; {
    pods:
        every_line_of_a_pod_names_it;
}}

// Pods that the shim makes have no pause container.
runwasi_tests::suite! { runwasi_tests::check_managed_pods: managed_wasmtime = Wasmtime, managed_wasmtimed = Wasmtimed; {
    pods:
        lines_of_a_managed_pod_name_it;
}}

// The shim's cache is damaged, too, but no shim is upgraded under its containers.
runwasi_tests::suite! { crate::night::check: night_wasmtimed = Wasmtimed; {
    night:
        what_happened_in_the_night_is_told_by_log_metrics_and_commands;
}}
