//! Programs in wasm OCI images, which nobody unpacks, on containerd 1.6, 1.7 and 2; run by `make test`.
//!
//! `ctr` of 1.6 cannot run such an image, and that of no version an artifact: containers of those are made through the gRPC API.

mod fixture;
mod forms;
mod layers;
mod pods;
mod refused;

runwasi_tests::suite! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    forms:
        every_form_runs_from_the_content_store
        import_of_a_wasm_image_needs_its_flags
        file_of_the_rootfs_comes_before_the_layer;
    layers:
        name_chooses_among_several_layers
        only_layer_runs_whatever_it_is_called
        exec_runs_another_layer
        function_of_a_layer_is_called
        compiled_layer_is_not_read_again;
    refused:
        name_that_no_layer_has_is_an_error_with_those_there_are
        exec_of_a_missing_layer_is_an_error
        missing_content_is_named
        damaged_content_does_not_run
        removed_image_is_named
        layer_that_is_no_wasm_is_refused
        ordinary_image_without_the_file_tells_its_layers
        container_without_an_image_says_so;
}}

runwasi_tests::suite! { runwasi_tests::check_on_1_7: wasmtime_1_7 = Wasmtime, wasmtimed_1_7 = Wasmtimed; {
    forms:
        every_form_runs_from_the_content_store
        import_of_a_wasm_image_needs_its_flags
        images_with_the_standard_config_run_by_ctr;
    layers:
        exec_runs_another_layer;
    refused:
        name_that_no_layer_has_is_an_error_with_those_there_are
        missing_content_is_named;
}}

runwasi_tests::suite! { runwasi_tests::check_on_2: wasmtime_2 = Wasmtime, wasmtimed_2 = Wasmtimed; {
    forms:
        every_form_runs_from_the_content_store
        import_of_a_wasm_image_needs_its_flags
        images_with_the_standard_config_run_by_ctr;
    layers:
        exec_runs_another_layer;
    refused:
        name_that_no_layer_has_is_an_error_with_those_there_are
        missing_content_is_named;
}}

runwasi_tests::played! { played_wasmtime = Wasmtime, played_wasmtimed = Wasmtimed; {
    refused:
        silent_containerd_is_waited_for_a_while
        absent_containerd_is_named;
}}

// The CRI of 1.6 pulls no image that it cannot unpack.
runwasi_tests::suite! { runwasi_tests::check_pods: pods_wasmtime = Wasmtime, pods_wasmtimed = Wasmtimed; {
    pods:
        imported_wasm_images_run_in_a_pod
        images_of_one_config_are_refused_if_the_pod_names_none;
}}

runwasi_tests::suite! { runwasi_tests::check_pods_on_1_7: pods_wasmtime_1_7 = Wasmtime, pods_wasmtimed_1_7 = Wasmtimed; {
    pods:
        imported_wasm_images_run_in_a_pod
        pulled_wasm_images_run_in_a_pod
        index_for_wasm_alone_is_not_pulled_for_a_pod
        images_of_one_config_are_refused_if_the_pod_names_none;
}}

runwasi_tests::suite! { runwasi_tests::check_pods_on_2: pods_wasmtime_2 = Wasmtime, pods_wasmtimed_2 = Wasmtimed; {
    pods:
        imported_wasm_images_run_in_a_pod
        pulled_wasm_images_run_in_a_pod
        image_that_a_pod_names_runs_although_another_has_its_config
        index_for_wasm_alone_is_not_pulled_for_a_pod
        images_of_one_config_are_refused_if_the_pod_names_none;
}}
