//! Bad input: each gives containerd an error with file and reason, leaves nothing and hangs nothing; run by `make test`.
//!
//! What `ctr` can ask for goes through a real containerd; the rest through the shim's own command line and
//! socket. Every call has a deadline, every bed and player fails when something is left.

mod bundle;
mod command_line;
mod entrypoint;
mod module;
mod network;
mod socket;
mod stdio;

use anyhow::{Result, ensure};
use runwasi_tests::Containers;

/// How an absent file is spoken of.
pub(crate) const MISSING: &[&str] = &["no such file", "not found"];

/// Demands that `said` names all of `names` and gives one of `reasons`, upper and lower case alike.
pub(crate) fn says(said: &str, names: &[&str], reasons: &[&str]) -> Result<()> {
    let lower = said.to_lowercase();
    for name in names {
        ensure!(said.contains(name), "{name} is not named in: {said}");
    }
    let reason = reasons.is_empty() || reasons.iter().any(|reason| lower.contains(reason));
    ensure!(reason, "none of the reasons {reasons:?} in: {said}");
    Ok(())
}

/// A container that must not start: the message of `ctr`, with the bed clean and the id free afterwards.
pub(crate) fn refused(c: &Containers, command: runwasi_tests::Command) -> Result<String> {
    let said = command.run()?.refused()?;
    let list = c.bed.ctr(["container", "ls", "-q"])?.ok()?;
    ensure!(list.out().trim().is_empty(), "a container is left: {list}");
    c.bed.becomes_clean()?;
    Ok(said)
}

/// Like `runwasi_tests::suite!`, for cases over a [`Player`].
macro_rules! played {
    ($($name:ident = $runtime:ident),*; $cases:tt) => {
        $(played!(@one $name $runtime $cases);)*
    };
    (@one $name:ident $runtime:ident { $($module:ident: $($case:ident)*;)* }) => {
        mod $name {
            $($(#[test]
            fn $case() {
                runwasi_tests::play(runwasi_tests::Runtime::$runtime, super::$module::$case);
            })*)*
        }
    };
}

// Only the wasm engine reads the module.
runwasi_tests::suite! { wasmtime = Wasmtime; {
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

runwasi_tests::suite! { any_wasmtime = Wasmtime, any_runc = Runc; {
    entrypoint:
        missing_program_is_refused
        empty_args_are_refused
        missing_rootfs_is_refused;
}}

// runc makes a missing working directory and knows nothing of these annotations' values.
runwasi_tests::suite! { own_wasmtime = Wasmtime, own_native = Native; {
    entrypoint:
        missing_working_directory_is_refused
        relative_working_directory_is_refused
        unknown_container_type_is_refused
        sandbox_id_with_a_path_is_refused
        sandbox_id_of_4000_characters_is_refused;
}}

// runc's instance shows that the player plays containerd well enough for a shim nobody here wrote.
played! { shim_wasmtime = Wasmtime, shim_native = Native, shim_runc = Runc; {
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
played! { strict_wasmtime = Wasmtime, strict_native = Native; {
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
        leaving_shim_spares_its_successors_socket
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
        log_nobody_reads_does_not_hang_start;
}}

// The native engine has every program: only a wasm file can be missing.
played! { mount_wasmtime = Wasmtime; {
    bundle:
        refused_create_leaves_no_mounted_rootfs;
}}
