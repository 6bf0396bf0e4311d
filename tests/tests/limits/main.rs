//! What a container may use, and what is said about it, under a real containerd; run by `make test`. What is measured has the
//! machine to itself.

mod cgroups;
mod cpu;
mod memory;
mod scrape;
mod stats;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    memory:
        guest_within_its_limit_runs
        growth_beyond_the_limit_ends_with_137_and_an_oom_event
        growth_beyond_the_limit_fails_if_the_container_wants_it_so
        guest_that_begins_with_more_than_its_limit_is_refused
        init_and_execs_share_the_limit
        limit_can_be_changed_while_the_guest_runs;
    stats:
        memory_and_processes_are_counted
        stats_answer_after_the_end
        wrong_updates_are_refused_with_the_field;
}}

runwasi_tests::suite! { runwasi_tests::check_alone: wasmtime_alone = Wasmtime, wasmtimed_alone = Wasmtimed; {
    cpu:
        quota_bounds_a_spinner
        quota_bounds_init_and_exec_together
        quota_can_be_changed_while_the_guest_runs
        throttled_guest_is_killed_at_once
        shares_divide_the_cpus;
    stats:
        cpu_of_a_spinner_is_what_the_kernel_counts
        cpu_of_two_spinners_adds_up;
}}

runwasi_tests::suite! { crate::scrape::check: scraped_wasmtime = Wasmtime, scraped_wasmtimed = Wasmtimed, scraped_runc = Runc; {
    scrape:
        scrape_of_containerd_has_the_container;
}}

runwasi_tests::suite! { crate::scrape::check_1_7: scraped_wasmtime_1_7 = Wasmtime, scraped_wasmtimed_1_7 = Wasmtimed; {
    scrape:
        scrape_of_containerd_has_the_container;
}}

// An interpreter.
runwasi_tests::suite! { wasmi = Wasmi; {
    memory:
        guest_within_its_limit_runs
        growth_beyond_the_limit_ends_with_137_and_an_oom_event
        growth_beyond_the_limit_fails_if_the_container_wants_it_so
        guest_that_begins_with_more_than_its_limit_is_refused
        init_and_execs_share_the_limit;
    stats:
        memory_and_processes_are_counted;
}}

runwasi_tests::suite! { runwasi_tests::check_alone: wasmi_alone = Wasmi; {
    cpu:
        quota_bounds_a_spinner;
}}

// The guests of the daemon are not told apart by the kernel.
runwasi_tests::suite! { shim = Wasmtime; {
    cgroups:
        cgroup_of_a_sleeping_container_has_workers_only_and_goes_with_it
        kernel_stands_behind_the_limits_of_a_container
        kernels_limit_is_not_below_the_memory_in_use
        container_without_limits_needs_no_cgroup
        guests_of_a_pod_are_in_its_cgroup_and_its_shim_is_not
        guests_of_a_pod_go_to_another_cgroup_when_their_first_container_ends
        systemds_path_is_a_scope_in_its_slice
        logger_of_an_exec_is_in_no_cgroup_of_its_container
        cgroup_of_a_killed_shim_goes_with_it;
}}

// The guest as a component.
runwasi_tests::suite! { component_wasmtime = WasmtimeComponent, component_wasmtimed = WasmtimedComponent; {
    memory:
        guest_within_its_limit_runs
        growth_beyond_the_limit_ends_with_137_and_an_oom_event
        growth_beyond_the_limit_fails_if_the_container_wants_it_so
        guest_that_begins_with_more_than_its_limit_is_refused
        init_and_execs_share_the_limit;
    stats:
        memory_and_processes_are_counted;
}}

runwasi_tests::suite! { runwasi_tests::check_alone:
    component_wasmtime_alone = WasmtimeComponent, component_wasmtimed_alone = WasmtimedComponent; {
    cpu:
        quota_bounds_a_spinner;
}}
