//! The kinds of fixtures of this suite. Each suite of `main.rs` names the check that makes its kind.

use anyhow::Result;
use runwasi_tests::Runtime;
use runwasi_tests::code::run_code_case as run;
pub(crate) use runwasi_tests::code::{CodeFixture as Fixture, SEEN, names};

/// All proposals that can be switched off, switched off.
const ALL_OFF: &str = "[engine]\ngc = false\nexceptions = false\nthreads = false\nmemory64 = false\nsimd = false\n\
    tail-calls = false\nwide-arithmetic = false\n";
/// Room for memories beyond 4 GiB.
const LARGE_MEMORIES: &str = "[engine]\nmemory-size = 8\n";
/// Proposals that are off otherwise.
const UNFINISHED: &str = "[engine]\nunfinished-proposals = ['custom-page-sizes']\n";

#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "", None), case);
}

/// On a file system with next to no room.
#[track_caller]
pub(crate) fn check_full(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "", Some("size=16k,mode=0700")), case);
}

/// At a place where no directory can be.
#[track_caller]
pub(crate) fn check_unwritable(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "file/code", "", None), case);
}

#[track_caller]
pub(crate) fn check_all_off(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", ALL_OFF, None), case);
}

#[track_caller]
pub(crate) fn check_large_memories(
    runtime: Runtime,
    case: impl FnOnce(&mut Fixture) -> Result<()>,
) {
    run(Fixture::new(runtime, "code", LARGE_MEMORIES, None), case);
}

#[track_caller]
pub(crate) fn check_unfinished(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", UNFINISHED, None), case);
}

#[track_caller]
pub(crate) fn check_counting(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "[engine]\ngc-collector = 'drc'\n", None), case);
}

#[track_caller]
pub(crate) fn check_inlined(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "[engine]\noptimise = 'speed-at-any-size'\n", None), case);
}

#[track_caller]
pub(crate) fn check_one_slot(runtime: Runtime, case: impl FnOnce(&mut Fixture) -> Result<()>) {
    run(Fixture::new(runtime, "code", "slots = 1\n", None), case);
}
