//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.

mod files;
mod hung;
mod mounts;

runwasi_tests::suite! { node_wasmtime = Wasmtime, node_wasmtimed = Wasmtimed; {
    mounts:
        host_proc_below_a_recursive_bind_is_left_out
        host_proc_below_a_root_is_left_out;
}}

// Cases that compare times: each has the machine to itself.
runwasi_tests::suite! { runwasi_tests::check_alone: wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    files:
        fifo_swapped_in_by_another_container_holds_no_worker
        file_under_a_lease_of_another_process_holds_no_worker
        file_on_a_hung_file_system_holds_only_its_reader
        hung_file_system_below_a_volume_holds_only_its_reader
        cpu_of_file_calls_is_charged_to_the_container;
}}

// The guest as a component, whose calls are others.
runwasi_tests::suite! { runwasi_tests::check_alone: component_wasmtime = WasmtimeComponent, component_wasmtimed = WasmtimedComponent; {
    files:
        file_under_a_lease_of_another_process_holds_no_worker
        file_on_a_hung_file_system_holds_only_its_reader;
}}

// A daemon's thin shim asks the daemon, which answers for itself.
runwasi_tests::played! { played_wasmtime = Wasmtime; {
    files:
        delete_does_not_succeed_while_the_server_lives;
}}
