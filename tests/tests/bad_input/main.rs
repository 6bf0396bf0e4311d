//! Bad input: each gives containerd an error with file and reason, leaves nothing and hangs nothing; run by `make test`.
//!
//! What `ctr` can ask for goes through a real containerd; the rest through the shim's own command line and
//! socket. Every call has a deadline, every fixture and shim driver fails when something is left.

mod bundle;
mod command_line;
mod entrypoint;
mod module;
mod network;
mod socket;
mod stdio;

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
pub(crate) use runwasi_tests::says;

/// How an absent file is spoken of.
pub(crate) const MISSING: &[&str] = &["no such file", "not found"];

/// A container that must not start: the message of `ctr`, with the fixture clean and the id free afterwards.
pub(crate) fn refused(c: &Containers, command: runwasi_tests::Command) -> Result<String> {
    let said = command.run()?.refused()?;
    let list = c.fixture.ctr(["container", "ls", "-q"])?.ok()?;
    ensure!(list.out().trim().is_empty(), "a container is left: {list}");
    c.fixture.becomes_clean()?;
    Ok(said)
}

// Only the wasm engine reads the module.
runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    module:
        directory_as_module_is_refused
        fifo_as_module_is_refused
        dangling_link_as_module_is_refused
        link_loop_as_module_is_refused
        link_out_of_the_rootfs_stays_inside
        path_out_of_the_rootfs_stays_inside
        text_that_is_no_module_is_refused
        empty_module_is_refused
        truncated_module_is_refused
        garbage_after_the_magic_is_refused
        invalid_text_format_is_refused
        invalid_module_is_refused
        unknown_import_is_refused
        import_with_another_signature_is_refused
        missing_export_is_refused
        export_that_is_no_function_is_refused
        module_without_start_is_refused
        good_module_runs;
}}

runwasi_tests::suite! { any_wasmtime = Wasmtime, any_wasmtimed = Wasmtimed, any_runc = Runc; {
    entrypoint:
        missing_program_is_refused
        empty_args_are_refused
        missing_rootfs_is_refused;
}}

// runc has other words for a working directory, and knows nothing of these annotations' values.
runwasi_tests::suite! { own_wasmtime = Wasmtime, own_wasmtimed = Wasmtimed, own_native = Native; {
    entrypoint:
        file_as_working_directory_is_refused
        relative_working_directory_is_refused
        unknown_container_type_is_refused
        misspelt_annotation_is_refused
        sandbox_id_with_a_path_is_refused
        sandbox_id_of_4000_characters_is_refused;
}}

// runc's instance shows that the shim driver plays containerd well enough for a shim nobody here wrote.
runwasi_tests::played! { shim_wasmtime = Wasmtime, shim_wasmtimed = Wasmtimed, shim_native = Native, shim_runc = Runc; {
    bundle:
        missing_config_is_refused
        invalid_config_is_refused
        config_that_is_a_directory_is_refused
        rootfs_that_cannot_be_mounted_is_refused
        delete_without_a_bundle_ends;
    socket:
        stale_socket_is_replaced;
    stdio:
        missing_fifo_is_refused;
    command_line:
        good_container_runs;
}}

// runc's shim reads and waits for whatever is there (a huge file, a FIFO without a reader), and its messages name no id.
runwasi_tests::played! { strict_wasmtime = Wasmtime, strict_wasmtimed = Wasmtimed, strict_native = Native; {
    bundle:
        bundle_that_went_before_create_is_refused
        huge_config_is_refused
        config_that_is_a_fifo_is_refused
        bundle_that_takes_no_address_leaves_no_shim
        delete_without_a_create_ends_the_shim
        delete_ends_a_container_whose_shim_still_serves
        delete_cleans_up_after_a_killed_shim;
    command_line:
        id_with_a_slash_is_refused
        id_with_dots_is_refused
        id_of_4000_characters_is_refused
        namespace_with_a_path_is_refused
        missing_id_is_refused
        create_with_a_bad_id_is_refused
        second_start_is_denied_by_the_shim
        delete_before_exit_is_denied_by_the_shim
        calls_for_an_unknown_id_fail
        both_service_names_are_served;
    socket:
        start_is_idempotent
        file_in_place_of_the_socket_is_no_hang
        directory_in_place_of_the_socket_is_refused
        events_without_a_listener_do_not_keep_the_shim
        silent_and_garbling_clients_disturb_nobody;
    network:
        missing_network_namespace_is_refused
        file_as_network_namespace_is_refused
        fifo_as_network_namespace_is_refused
        namespace_of_another_kind_is_refused
        network_namespace_becomes_the_shims;
    stdio:
        unread_output_does_not_outlive_a_kill
        little_unread_output_does_not_delay_the_exit
        path_of_stderr_is_ignored_at_a_terminal
        log_nobody_reads_does_not_hang_start;
}}

// A daemon that leaves takes no successor in: that is the suite `daemon`'s.
runwasi_tests::played! { leaving_wasmtime = Wasmtime, leaving_native = Native; {
    socket:
        leaving_shim_spares_its_successors_socket;
}}

// The daemon's variable is its own, and the native engine keeps no code.
runwasi_tests::played! { variable_wasmtime = Wasmtime; {
    command_line:
        wrong_directory_of_compiled_code_is_refused_by_its_variable;
}}

// The native engine has every program: only a wasm file can be missing.
runwasi_tests::played! { mount_wasmtime = Wasmtime, mount_wasmtimed = Wasmtimed; {
    bundle:
        refused_create_leaves_no_mounted_rootfs;
}}

// The text of an error passes through containerd, which each does in its own way.
runwasi_tests::suite! { runwasi_tests::check_on_1_7: wasmtime_1_7 = Wasmtime, wasmtimed_1_7 = Wasmtimed; {
    entrypoint:
        missing_program_is_refused
        file_as_working_directory_is_refused;
    module:
        text_that_is_no_module_is_refused;
}}

runwasi_tests::suite! { runwasi_tests::check_on_2: wasmtime_2 = Wasmtime, wasmtimed_2 = Wasmtimed; {
    entrypoint:
        missing_program_is_refused
        file_as_working_directory_is_refused;
    module:
        text_that_is_no_module_is_refused;
}}
