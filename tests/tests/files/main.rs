//! Users, mounts and what a guest must not reach, under a real containerd; run by `make test`.

mod escape;
mod fixture;
mod identity;
mod mounts;
mod paths;
mod restricted;
mod special;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed, runc = Runc; {
    identity:
        files_belong_to_the_containers_user
        home_is_that_of_the_user
        umask_is_the_processes_own
        files_of_others_are_refused
        root_opens_files_of_others_by_its_capability
        directories_of_others_are_refused_also_below_an_open_one
        further_groups_open_what_belongs_to_them
        users_in_a_row_get_nothing_of_each_other
        exec_has_a_user_of_its_own;
    escape:
        links_of_the_image_lead_nowhere_outside
        dots_lead_nowhere_outside
        hard_links_do_not_leave_their_file_system
        mount_over_a_link_lands_inside;
    mounts:
        read_only_root_refuses_writes_and_volumes_take_them
        single_files_are_mounted
        missing_places_are_made
        missing_working_directory_is_made
        removal_while_reading_removes_every_file
        appends_to_an_overlay_go_to_the_end
        volumes_lie_in_the_order_of_the_config
        tmpfs_holds_what_it_may_and_no_more
        memory_log_and_socket_below_dev_are_mounted
        null_swallows_and_gives_nothing;
    restricted:
        masked_paths_are_empty
        read_only_paths_refuse_writes
        ro_spares_the_mounts_below_and_rro_does_not
        later_mounts_of_the_host_appear_below_a_slave
        tmpfs_begins_with_what_it_covers_on_request;
    paths:
        absolute_links_resolve_inside_the_container
        read_only_file_systems_and_other_mounts_are_told_as_such
        mount_places_go_through_links_and_dots;
    special:
        devices_of_an_image_are_refused
        process_has_so_many_files_and_no_more;
}}

// Native programs have a /proc, wait for FIFOs as long as they like, and know no wrong users: runc asks the kernel.
runwasi_tests::suite! { wasm_wasmtime = Wasmtime, wasm_wasmtimed = Wasmtimed; {
    identity:
        sleepers_of_other_users_delay_nobody
        wrong_users_are_named;
    escape:
        there_is_no_proc
        sysrq_trigger_is_absent;
    mounts:
        nothing_a_guest_sees_has_devices_or_setuid
        kernel_interfaces_are_refused
        host_root_comes_without_its_proc
        unknown_types_are_named
        dev_is_our_own_and_small
        names_of_the_standard_streams_are_the_processes_own
        mounts_below_dev_are_in_the_containers_own;
    restricted:
        later_kernel_interfaces_of_the_host_stay_out
        wrong_options_are_named;
    paths:
        components_of_both_versions_see_links_and_errors
        modules_of_both_versions_see_links_and_errors;
    special:
        fifo_of_an_image_is_refused_and_holds_no_thread
        socket_of_an_image_is_refused;
}}

// The guest as a component, whose calls are others.
runwasi_tests::suite! { component_wasmtime = WasmtimeComponent, component_wasmtimed = WasmtimedComponent; {
    identity:
        files_belong_to_the_containers_user
        home_is_that_of_the_user
        umask_is_the_processes_own
        files_of_others_are_refused
        root_opens_files_of_others_by_its_capability
        directories_of_others_are_refused_also_below_an_open_one
        further_groups_open_what_belongs_to_them
        users_in_a_row_get_nothing_of_each_other
        exec_has_a_user_of_its_own
        sleepers_of_other_users_delay_nobody;
    escape:
        links_of_the_image_lead_nowhere_outside
        dots_lead_nowhere_outside
        hard_links_do_not_leave_their_file_system
        mount_over_a_link_lands_inside
        there_is_no_proc;
    mounts:
        read_only_root_refuses_writes_and_volumes_take_them
        missing_working_directory_is_made
        removal_while_reading_removes_every_file
        appends_to_an_overlay_go_to_the_end
        single_files_are_mounted
        dev_is_our_own_and_small
        names_of_the_standard_streams_are_the_processes_own
        memory_log_and_socket_below_dev_are_mounted
        mounts_below_dev_are_in_the_containers_own;
    restricted:
        masked_paths_are_empty
        read_only_paths_refuse_writes
        later_mounts_of_the_host_appear_below_a_slave;
    paths:
        absolute_links_resolve_inside_the_container
        read_only_file_systems_and_other_mounts_are_told_as_such
        mount_places_go_through_links_and_dots;
    special:
        devices_of_an_image_are_refused
        process_has_so_many_files_and_no_more
        fifo_of_an_image_is_refused_and_holds_no_thread
        socket_of_an_image_is_refused;
}}
