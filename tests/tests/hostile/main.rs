//! Hostile guests, volumes and clients: each takes what is not its own, and its neighbours on the node do not notice.

mod memory;

runwasi_tests::suite! { runwasi_tests::check_alone: memory_wasmtime = Wasmtime, memory_wasmtimed = Wasmtimed; {
    memory:
        get_many_of_a_large_value_is_bounded
        unsent_bodies_are_bounded
        fields_are_bounded
        component_may_hold_twenty_thousand_handles
        gc_heap_beyond_the_limit_is_killed_and_reported
        gc_heap_is_usable_up_to_the_limit
        damaged_artifact_is_refused_by_its_sections;
}}

// A shim serves one pod: only the daemon reads for many.
runwasi_tests::suite! { runwasi_tests::check_alone: memory_of_the_node = Wasmtimed; {
    memory:
        sparse_artifacts_are_bounded_in_sum;
}}
