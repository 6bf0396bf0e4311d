//! Containers of a Docker Engine, which has a containerd, root folders and a host of its own; run
//! by `make test`.
//!
//! Its `daemon.json` and the Compose file are those of `docs/docker.md`. runc with the native guest
//! shows that a case is right.

mod compose;
mod files;
mod images;
mod life;
mod limits;
mod network;
mod options;
mod run;

runwasi_tests::suite! { runwasi_tests::check_docker: wasmtime = Wasmtime, wasmtimed = Wasmtimed, runc = Runc; {
    run:
        program_gets_what_docker_run_says
        exit_statuses_are_those_of_docker
        exec_runs_beside_the_program;
    files:
        volumes_are_mounted;
    life:
        stop_and_kill_give_the_signals_status
        paused_container_stands_still
        on_failure_starts_it_again_so_often
        always_starts_it_again_after_its_process_was_killed;
    limits:
        memory_limit_is_an_oom_kill
        limits_are_shown_and_changed;
}}

// A native program under the runtimes for wasm.
runwasi_tests::suite! { runwasi_tests::check_docker: linux_wasmtime = WasmtimeLinux, linux_wasmtimed = WasmtimedLinux; {
    run:
        program_gets_what_docker_run_says
        exit_statuses_are_those_of_docker
        exec_runs_beside_the_program;
    files:
        volumes_are_mounted;
    life:
        stop_and_kill_give_the_signals_status
        paused_container_stands_still
        on_failure_starts_it_again_so_often
        always_starts_it_again_after_its_process_was_killed;
    limits:
        memory_limit_is_an_oom_kill
        limits_are_shown_and_changed;
}}

runwasi_tests::suite! { runwasi_tests::check_docker: wasm_wasmtime = Wasmtime, wasm_wasmtimed = Wasmtimed; {
    compose:
        compose_file_of_the_documentation_runs;
    images:
        layers_of_wasm_run
        images_for_wasi_run_from_import_and_build;
    life:
        stopped_host_gives_the_programs_own_status;
    network:
        published_port_reaches_a_server;
}}

runwasi_tests::suite! { crate::run::check_with_init: init_wasmtime = Wasmtime, init_wasmtimed = Wasmtimed; {
    run:
        init_is_refused_with_advice;
}}

// Docker tries once to start a container again: a daemon that was killed needs the socket of its
// service manager, at which the next one is waited for.
runwasi_tests::suite! { runwasi_tests::check_docker: shim_wasmtime = Wasmtime; {
    life:
        always_starts_it_again_after_its_shim_was_killed;
}}

runwasi_tests::suite! { runwasi_tests::check_docker_26: wasmtime_26 = Wasmtime, wasmtimed_26 = Wasmtimed; {
    images:
        imported_image_for_wasi_runs
        docker_26_names_no_image;
}}

runwasi_tests::suite! { crate::life::check_live_restore: live_wasmtime = Wasmtime, live_wasmtimed = Wasmtimed, live_runc = Runc; {
    life:
        containers_outlive_their_docker;
}}

runwasi_tests::suite! { crate::options::check: options_wasmtime = Wasmtime, options_wasmtimed = Wasmtimed; {
    options:
        file_of_config_path_reaches_the_engine;
}}

runwasi_tests::suite! { crate::images::check_classic_store: classic_wasmtime = Wasmtime, classic_wasmtimed = Wasmtimed; {
    images:
        plain_image_runs_from_the_classic_store;
}}
