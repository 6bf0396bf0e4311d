//! The only place that builds `wasmtime::Config`.

use wasmtime::{Collector, Config, Inlining, OptLevel};

use crate::{
    proposals::Unfinished,
    settings::{GcCollector, Optimise, Settings},
    stacks::{STACK, STACK_WITH_HOST},
};

/// wasmtime's configuration without the pool. Public for benchmarks, which change parts of it and
/// compare the speed of guests.
pub fn config(settings: &Settings) -> Config {
    let mut config = Config::new();
    // The ticker makes guests yield by epochs.
    config.epoch_interruption(true);
    // Guests of one program share the pages of their initial memory until they write to them.
    config.memory_init_cow(true);
    // WASI p3 consists of async functions, streams and futures.
    config.wasm_component_model_async(true);
    config.max_wasm_stack(STACK).async_stack_size(STACK_WITH_HOST);
    // wasmtime unwinds guests itself. The system's unwind tables would only enlarge the code files.
    config.native_unwind_info(false);
    config.wasm_gc(settings.gc).wasm_function_references(settings.gc);
    match settings.gc_collector {
        // Rounded up to a page, which tells `gc_heap` that a guest has a heap.
        GcCollector::Copying => config.collector(Collector::Copying).gc_heap_initial_size(1),
        GcCollector::Drc => config.collector(Collector::DeferredReferenceCounting),
    };
    // A process that serves guests compiles at most outlines; one that compiles has its own
    // threads.
    config.parallel_compilation(false);
    config.wasm_exceptions(settings.exceptions);
    config.wasm_threads(settings.threads);
    config.wasm_memory64(settings.memory64);
    config.wasm_simd(settings.simd).wasm_relaxed_simd(settings.simd);
    config.wasm_tail_call(settings.tail_calls);
    config.wasm_wide_arithmetic(settings.wide_arithmetic);
    for proposal in &settings.unfinished_proposals {
        enable(*proposal, &mut config);
    }
    // The pool has one size for both.
    config.memory_reservation(settings.memory_bytes()).gc_heap_reservation(settings.memory_bytes());
    let (level, inlining) = match settings.optimise {
        Optimise::None => (OptLevel::None, Inlining::No),
        Optimise::Speed => (OptLevel::Speed, Inlining::No),
        // Inlining gains a program of many small calls at least the cost of its epoch checks (see
        // `compute` of the benchmarks).
        Optimise::SpeedAtAnySize => (OptLevel::Speed, Inlining::Yes),
        Optimise::SpeedAndSize => (OptLevel::SpeedAndSize, Inlining::No),
    };
    config.cranelift_opt_level(level).compiler_inlining(inlining);
    config
}

/// Lets guests use a proposal.
fn enable(proposal: Unfinished, config: &mut Config) {
    match proposal {
        Unfinished::BranchHinting => config.wasm_branch_hinting(true),
        Unfinished::CustomPageSizes => config.wasm_custom_page_sizes(true),
        Unfinished::AsyncBuiltins => config.wasm_component_model_more_async_builtins(true),
        Unfinished::AsyncStackful => config.wasm_component_model_async_stackful(true),
        Unfinished::ErrorContext => config.wasm_component_model_error_context(true),
        Unfinished::FixedLengthLists => config.wasm_component_model_fixed_length_lists(true),
        Unfinished::ComponentGc => config.wasm_component_model_gc(true),
        Unfinished::Implements => config.wasm_component_model_implements(true),
        Unfinished::Maps => config.wasm_component_model_map(true),
        Unfinished::ComponentMemory64 => config.wasm_component_model_memory64(true),
        Unfinished::Threads => config.wasm_component_model_threading(true),
    };
}
