//! System calls of one container life, beside those that are recorded; run by `make test`. Times are noisy, these counts are
//! not: a change that makes a life dearer is seen on any machine.
//!
//! - `life`: the case. A hello is created, run and deleted several times, each phase by itself.
//! - `tracer`: `strace` on the programs of a life, and the counts of a phase.
//! - `recorded`: the table, and what has grown.

mod life;
mod recorded;
mod tracer;

runwasi_tests::played! { wasmtime = Wasmtime, wasmtimed = Wasmtimed; {
    life:
        life_makes_no_more_system_calls_than_recorded;
}}
