//! Pods: containers with one `io.kubernetes.cri.sandbox-id` annotation share one shim; run by `make test`.
//!
//! In the node daemon the shim of these cases is the daemon's part in the pod: one sandbox, with the daemon's pid.
//! runc's shim groups by the same annotation, so its instance shows that the tests are right.

mod pod;
mod small;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed, native = Native, runc = Runc; {
    pod:
        three_containers_share_one_process_and_one_socket
        each_container_ends_on_its_own
        removal_of_the_first_container_keeps_the_others
        last_removal_lets_the_shim_leave
        pod_takes_a_container_after_another_ended
        pods_do_not_share_a_shim
        killed_shim_of_a_pod_is_seen_for_every_container
        restarted_containerd_still_knows_every_container_of_a_pod;
}}

// Not for runc: it has an OS process per container by nature, and a Go runtime's threads.
runwasi_tests::suite! { small_wasmtime = Wasmtime, small_wasmtimed = Wasmtimed, small_native = Native; {
    small:
        no_container_has_an_os_process_of_its_own
        shim_has_at_most_eight_threads_while_a_guest_sleeps
        shim_has_at_most_eight_threads_with_a_pod_of_sleeping_guests;
}}

// Not for the native engine, whose program is small.
runwasi_tests::suite! { code_wasmtime = Wasmtime, code_wasmtimed = Wasmtimed; {
    small:
        code_leaves_the_resident_set_while_guests_sleep;
}}

// Not for the native engine, which has every program.
runwasi_tests::suite! { strict_wasmtime = Wasmtime, strict_wasmtimed = Wasmtimed, strict_runc = Runc; {
    pod:
        refused_container_does_not_disturb_its_pod;
}}
