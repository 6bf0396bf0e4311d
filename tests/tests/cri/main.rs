//! Pods as Kubernetes makes them, through containerd's CRI plugin, each fixture on a host of its own; run by `make test`.
//!
//! runc with the native guest shows that the client, the network and the cases are right.

mod fixture;
mod life;
mod mixed;
mod names;
mod namespaces;
mod network;
mod options;
mod programs;
mod recovery;
mod refused;
mod sandbox_api;
mod scale;
mod shared;
mod volumes;

runwasi_tests::suite! { runwasi_tests::check_pods: wasmtime = Wasmtime, wasmtimed = Wasmtimed, runc = Runc; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing
        output_of_the_guest_is_in_its_log
        stats_tell_what_a_guest_computes
        limits_are_changed_while_a_guest_runs
        container_beyond_its_memory_limit_is_oom_killed
        stopped_pod_ends_its_containers
        pod_is_removed_with_what_still_runs
        refused_container_does_not_disturb_its_pod
        ended_container_is_replaced_in_its_pod;
    programs:
        exec_beyond_its_time_is_killed_alone;
    network:
        pod_has_a_network_of_its_own_with_an_address
        containers_are_in_the_network_of_their_pod
        pods_are_in_different_networks
        pod_on_the_hosts_network_is_in_the_hosts
        networks_vanish_with_their_pods;
    recovery:
        restarted_containerd_still_knows_a_pod
        log_has_every_line_over_a_restart_of_containerd;
    volumes:
        later_mounts_of_the_host_reach_a_pod;
}}

// runc has an OS process for each container, and one that outlives its shim.
runwasi_tests::suite! { runwasi_tests::check_pods: shared_wasmtime = Wasmtime, shared_wasmtimed = Wasmtimed; {
    shared:
        containers_of_a_pod_share_its_pid
        annotations_of_a_pod_reach_the_runtime;
    network:
        server_in_a_pod_answers_at_the_pods_address;
    recovery:
        log_has_what_was_printed_at_the_end_while_containerd_was_away
        pod_is_removed_after_what_served_it_was_killed;
    scale:
        many_pods_at_once_run_and_leave_nothing
        replaced_servers_fail_no_request
        wanted_pods_are_there_after_random_kills;
}}

// runc has options of its own.
runwasi_tests::suite! { crate::options::check: options_wasmtime = Wasmtime, options_wasmtimed = Wasmtimed; {
    options:
        options_of_containerds_configuration_reach_the_engine;
}}

// From containerd 1.7 on the CRI makes its pods in other ways, and in 2 it has parts of its own for images and for pods.
runwasi_tests::suite! { runwasi_tests::check_pods_on_1_7: wasmtime_1_7 = Wasmtime, wasmtimed_1_7 = Wasmtimed, runc_1_7 = Runc; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing
        output_of_the_guest_is_in_its_log
        stats_tell_what_a_guest_computes
        pod_is_removed_with_what_still_runs
        refused_container_does_not_disturb_its_pod
        ended_container_is_replaced_in_its_pod;
    network:
        containers_are_in_the_network_of_their_pod;
    recovery:
        restarted_containerd_still_knows_a_pod;
}}

// Pods that the shim makes by containerd's Sandbox API: `sandboxer = "shim"`. They need no image of their own. runc's shim does
// not start without a `config.json`, which such a pod has not. A pod on the host's network is missing: containerd 2.1.9 does not
// support this combination.
runwasi_tests::suite! { runwasi_tests::check_managed_pods: managed_wasmtime = Wasmtime, managed_wasmtimed = Wasmtimed; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing
        output_of_the_guest_is_in_its_log
        stats_tell_what_a_guest_computes
        limits_are_changed_while_a_guest_runs
        container_beyond_its_memory_limit_is_oom_killed
        stopped_pod_ends_its_containers
        pod_is_removed_with_what_still_runs
        refused_container_does_not_disturb_its_pod
        ended_container_is_replaced_in_its_pod;
    programs:
        exec_beyond_its_time_is_killed_alone;
    network:
        pod_has_a_network_of_its_own_with_an_address
        containers_are_in_the_network_of_their_pod
        pods_are_in_different_networks
        networks_vanish_with_their_pods
        server_in_a_pod_answers_at_the_pods_address;
    names:
        containers_have_the_dns_and_the_names_of_their_pod
        containers_of_a_pod_share_its_memory
        parameters_of_a_pod_are_those_of_its_network;
    shared:
        containers_of_a_pod_share_its_pid;
    refused:
        pod_with_a_user_namespace_is_refused_with_the_field;
    recovery:
        restarted_containerd_still_knows_a_pod
        log_has_every_line_over_a_restart_of_containerd
        pod_is_removed_after_what_served_it_was_killed;
    scale:
        many_pods_at_once_run_and_leave_nothing
        replaced_servers_fail_no_request
        wanted_pods_are_there_after_random_kills;
    sandbox_api:
        sandbox_with_a_spec_without_a_process_runs
        sandbox_forgotten_before_its_start_leaves_by_itself;
}}

runwasi_tests::suite! { runwasi_tests::check_pods_on_2: wasmtime_2 = Wasmtime, wasmtimed_2 = Wasmtimed, runc_2 = Runc; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing
        output_of_the_guest_is_in_its_log
        stats_tell_what_a_guest_computes
        container_beyond_its_memory_limit_is_oom_killed
        pod_is_removed_with_what_still_runs
        refused_container_does_not_disturb_its_pod
        ended_container_is_replaced_in_its_pod;
    network:
        containers_are_in_the_network_of_their_pod;
    names:
        containers_have_the_dns_and_the_names_of_their_pod
        containers_of_a_pod_share_its_memory
        parameters_of_a_pod_are_those_of_its_network;
    recovery:
        restarted_containerd_still_knows_a_pod;
}}

runwasi_tests::suite! { runwasi_tests::check_pods_on_2: shared_wasmtime_2 = Wasmtime, shared_wasmtimed_2 = Wasmtimed; {
    shared:
        containers_of_a_pod_share_its_pid
        annotations_of_a_pod_reach_the_runtime;
    network:
        server_in_a_pod_answers_at_the_pods_address;
    recovery:
        pod_is_removed_after_what_served_it_was_killed;
    scale:
        many_pods_at_once_run_and_leave_nothing
        replaced_servers_fail_no_request
        wanted_pods_are_there_after_random_kills;
}}

// Native programs in pods of the runtimes for wasm, alone and beside wasm.
runwasi_tests::suite! { runwasi_tests::check_pods: linux_wasmtime = WasmtimeLinux, linux_wasmtimed = WasmtimedLinux; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing
        output_of_the_guest_is_in_its_log
        stats_tell_what_a_guest_computes
        limits_are_changed_while_a_guest_runs
        stopped_pod_ends_its_containers
        pod_is_removed_with_what_still_runs
        ended_container_is_replaced_in_its_pod;
    mixed:
        native_init_container_writes_for_a_wasm_container
        native_and_wasm_containers_have_the_namespaces_of_their_pod
        native_container_that_comes_later_sees_the_volume
        native_container_without_memory_is_killed_alone
        native_sidecar_is_started_again_beside_a_wasm_container
        containers_of_a_mixed_pod_are_stopped_in_order_with_their_grace
        paused_native_container_stands_still_beside_a_wasm_one
        limits_of_a_mixed_pod_are_those_of_each_container;
    namespaces:
        native_containers_share_the_pid_namespace_of_their_pod_if_asked
        orphans_in_a_shared_pid_namespace_are_reaped
        debug_container_is_in_the_pid_namespace_of_its_target
        native_containers_have_what_their_pod_has_of_the_host
        native_container_on_the_host_is_on_the_host;
    programs:
        native_and_wasm_programs_talk_over_localhost
        exec_runs_what_its_container_has
        exec_beyond_its_time_is_killed_alone;
    network:
        containers_are_in_the_network_of_their_pod;
    recovery:
        restarted_containerd_still_knows_a_pod
        pod_is_removed_after_what_served_it_was_killed;
}}

runwasi_tests::suite! { runwasi_tests::check_pods_on_1_7: linux_wasmtime_1_7 = WasmtimeLinux, linux_wasmtimed_1_7 = WasmtimedLinux; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing;
    mixed:
        native_and_wasm_containers_have_the_namespaces_of_their_pod
        native_container_without_memory_is_killed_alone;
    namespaces:
        orphans_in_a_shared_pid_namespace_are_reaped
        debug_container_is_in_the_pid_namespace_of_its_target;
    programs:
        native_and_wasm_programs_talk_over_localhost;
}}

// containerd 1.6 knows no user namespaces of pods.
runwasi_tests::suite! { runwasi_tests::check_pods_on_1_7: mapped_wasmtime_1_7 = Wasmtime, mapped_wasmtimed_1_7 = Wasmtimed; {
    refused:
        pod_with_a_user_namespace_is_refused_with_the_field;
}}

runwasi_tests::suite! { runwasi_tests::check_pods_on_2: mapped_wasmtime_2 = Wasmtime, mapped_wasmtimed_2 = Wasmtimed; {
    refused:
        pod_with_a_user_namespace_is_refused_with_the_field;
}}

runwasi_tests::suite! { crate::refused::check_off: off_wasmtime = Wasmtime, off_wasmtimed = Wasmtimed; {
    refused:
        native_container_is_refused_if_they_are_off;
}}

// Not the shim per pod, which has the setting from options: with those containerd 2.1.9 starts no
// container in a pod that the shim makes.
runwasi_tests::suite! { crate::refused::check_managed_off: managed_off_wasmtimed = Wasmtimed; {
    refused:
        native_container_is_refused_if_they_are_off;
}}

runwasi_tests::suite! { crate::refused::check_missing: missing_wasmtime = Wasmtime, missing_wasmtimed = Wasmtimed; {
    refused:
        native_container_is_refused_without_its_runtime;
}}

runwasi_tests::suite! { crate::refused::check_managed_missing: managed_missing_wasmtimed = Wasmtimed; {
    refused:
        native_container_is_refused_without_its_runtime;
}}

runwasi_tests::suite! { runwasi_tests::check_pods_on_2: linux_wasmtime_2 = WasmtimeLinux, linux_wasmtimed_2 = WasmtimedLinux; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing
        stats_tell_what_a_guest_computes
        pod_is_removed_with_what_still_runs;
    mixed:
        native_init_container_writes_for_a_wasm_container
        native_and_wasm_containers_have_the_namespaces_of_their_pod
        native_container_that_comes_later_sees_the_volume
        native_container_without_memory_is_killed_alone
        native_sidecar_is_started_again_beside_a_wasm_container
        containers_of_a_mixed_pod_are_stopped_in_order_with_their_grace
        paused_native_container_stands_still_beside_a_wasm_one
        limits_of_a_mixed_pod_are_those_of_each_container;
    namespaces:
        native_containers_share_the_pid_namespace_of_their_pod_if_asked
        orphans_in_a_shared_pid_namespace_are_reaped
        debug_container_is_in_the_pid_namespace_of_its_target
        native_containers_have_what_their_pod_has_of_the_host
        native_container_on_the_host_is_on_the_host;
    programs:
        native_and_wasm_programs_talk_over_localhost
        exec_runs_what_its_container_has
        exec_beyond_its_time_is_killed_alone;
    recovery:
        restarted_containerd_still_knows_a_pod
        pod_is_removed_after_what_served_it_was_killed;
}}

runwasi_tests::suite! { runwasi_tests::check_managed_pods: linux_managed_wasmtime = WasmtimeLinux, linux_managed_wasmtimed = WasmtimedLinux; {
    life:
        pod_with_two_containers_lives_and_leaves_nothing
        stats_tell_what_a_guest_computes
        limits_are_changed_while_a_guest_runs
        stopped_pod_ends_its_containers
        pod_is_removed_with_what_still_runs
        ended_container_is_replaced_in_its_pod;
    mixed:
        native_init_container_writes_for_a_wasm_container
        native_and_wasm_containers_have_the_namespaces_of_their_pod
        native_container_that_comes_later_sees_the_volume
        native_container_without_memory_is_killed_alone
        native_sidecar_is_started_again_beside_a_wasm_container
        containers_of_a_mixed_pod_are_stopped_in_order_with_their_grace
        native_and_wasm_containers_share_the_memory_of_their_pod
        paused_native_container_stands_still_beside_a_wasm_one
        limits_of_a_mixed_pod_are_those_of_each_container;
    namespaces:
        native_containers_share_the_pid_namespace_of_their_pod_if_asked
        orphans_in_a_shared_pid_namespace_are_reaped
        debug_container_is_in_the_pid_namespace_of_its_target
        native_containers_have_what_their_pod_has_of_the_host;
    programs:
        native_and_wasm_programs_talk_over_localhost
        exec_runs_what_its_container_has
        exec_beyond_its_time_is_killed_alone;
    names:
        containers_have_the_dns_and_the_names_of_their_pod
        containers_of_a_pod_share_its_memory;
    recovery:
        restarted_containerd_still_knows_a_pod
        pod_is_removed_after_what_served_it_was_killed;
}}
