//! What the engine's settings change for guests; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::{poll_until, says};

use crate::fixture::Fixture;
use crate::modules::{SPINNING, large, printing, proposals};

pub(crate) fn finished_proposals_are_on(b: &mut Fixture) -> Result<()> {
    for proposal in proposals() {
        b.module("guest.wat", &proposal.module)?;
        b.runs("guest.wat").context(proposal.key)?;
    }
    b.fixture.becomes_clean()
}

pub(crate) fn what_is_off_is_refused_by_its_name(b: &mut Fixture) -> Result<()> {
    for proposal in proposals() {
        b.module("guest.wat", &proposal.module)?;
        says(&b.refusal("guest.wat").context(proposal.key)?, &["/guest.wat"], proposal.missed)
            .context(proposal.key)?;
    }
    Ok(())
}

pub(crate) fn plain_module_needs_none_of_them(b: &mut Fixture) -> Result<()> {
    b.module("guest.wat", printing("", ""))?;
    b.runs("guest.wat")?;
    b.fixture.becomes_clean()
}

/// A table as GHC's programs have it, and memories as tools for tests and coverage add them.
pub(crate) fn what_toolchains_emit_runs(b: &mut Fixture) -> Result<()> {
    let table = printing(
        "(table $large 707000 funcref) (func $one (result i32) (i32.const 7))
         (elem (table $large) (i32.const 706999) func $one)",
        "(if (i32.ne (call_indirect $large (result i32) (i32.const 706999)) (i32.const 7))
         (then unreachable))",
    );
    // The sixth is the module's own.
    let memories = printing(
        &"(memory 1)".repeat(5),
        "(i32.store 5 (i32.const 65532) (i32.const 7))
         (if (i32.ne (i32.load 5 (i32.const 65532)) (i32.const 7)) (then unreachable))",
    );
    for (name, module) in [("table.wat", table), ("memories.wat", memories)] {
        b.module(name, module)?;
        b.runs(name).context(name)?;
    }
    b.fixture.becomes_clean()
}

/// A memory of 5000 bytes.
fn small_pages() -> String {
    printing(
        "(memory $small 5000 (pagesize 1))",
        "(i32.store8 $small (i32.const 4999) (i32.const 1))",
    )
}

pub(crate) fn unfinished_proposal_is_refused(b: &mut Fixture) -> Result<()> {
    b.module("pages.wat", small_pages())?;
    says(&b.refusal("pages.wat")?, &["/pages.wat"], &["custom page sizes", "custom-page-sizes"])
}

pub(crate) fn unfinished_proposal_runs_where_it_is_on(b: &mut Fixture) -> Result<()> {
    b.module("pages.wat", small_pages())?;
    b.runs("pages.wat")?;
    b.fixture.becomes_clean()
}

pub(crate) fn memory_of_more_than_the_largest_size_is_refused_by_its_setting(
    b: &mut Fixture,
) -> Result<()> {
    b.module("memory.wat", printing("(memory $large i64 65537)", ""))?;
    says(&b.refusal("memory.wat")?, &["/memory.wat", "engine.memory-size", "at most 4"], &[])
}

pub(crate) fn memory_beyond_4_gib_is_used_and_grows_no_further_than_its_setting(
    b: &mut Fixture,
) -> Result<()> {
    // 5 GiB, of which one page is used, then 8 GiB, and one page more.
    let body = "(i32.store $large (i64.const 0x120000000) (i32.const 7))
        (if (i32.ne (i32.load $large (i64.const 0x120000000)) (i32.const 7)) (then unreachable))
        (if (i64.ne (memory.grow $large (i64.const 49152)) (i64.const 81920)) (then unreachable))
        (if (i64.ne (memory.grow $large (i64.const 1)) (i64.const -1)) (then unreachable))";
    b.module("memory.wat", printing("(memory $large i64 81920)", body))?;
    b.runs("memory.wat")?;
    b.fixture.becomes_clean()
}

/// Makes a million pairs of objects that refer to each other, and drops them.
const CYCLES: [&str; 2] = [
    "(type $n (struct (field (mut (ref null $n)))))",
    "(local $one (ref null $n)) (local $other (ref null $n)) (local $i i32)
    (loop $again
        (local.set $one (struct.new $n (ref.null $n)))
        (local.set $other (struct.new $n (local.get $one)))
        (struct.set $n 0 (local.get $one) (local.get $other))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 1000000))))",
];

/// The status of [`CYCLES`] under a limit of 16 MiB.
fn status_of_cycles(b: &Fixture) -> Result<i32> {
    b.module("cycles.wat", printing(CYCLES[0], CYCLES[1]))?;
    let out = b.start(&["--rm", "--memory-limit", "16777216"], &b.next_id(), "cycles.wat").run()?;
    b.fixture.becomes_clean()?;
    Ok(out.status)
}

pub(crate) fn cycles_are_collected(b: &mut Fixture) -> Result<()> {
    let status = status_of_cycles(b)?;
    ensure!(status == 0, "ended with {status}");
    Ok(())
}

pub(crate) fn reference_counting_keeps_cycles(b: &mut Fixture) -> Result<()> {
    let status = status_of_cycles(b)?;
    ensure!(status == 137, "ended with {status}");
    Ok(())
}

/// Its growth could not be counted.
pub(crate) fn shared_memory_is_refused(b: &mut Fixture) -> Result<()> {
    b.module("guest.wat", printing("(memory $shared 1 2 shared)", ""))?;
    says(&b.refusal("guest.wat")?, &["/guest.wat"], &["memory is shared", "shared memor"])
}

/// A function within its caller makes the guest yield as a function does.
pub(crate) fn guests_compiled_for_speed_at_any_size_run_trap_and_can_be_killed(
    b: &mut Fixture,
) -> Result<()> {
    b.module("hello.wat", large(20))?;
    b.runs("hello.wat")?;
    b.module("trap.wat", printing("(func $inner unreachable)", "(call $inner)"))?;
    let out = b.start(&["--rm"], &b.id("trap"), "trap.wat").run()?.status_is(134)?;
    says(&out.err(), &["unreachable"], &[])?;
    b.module("spin.wat", printing("(func $down (loop $again (br $again)))", "(call $down)"))?;
    let spinner = b.id("spinner");
    b.start(&["-d"], &spinner, "spin.wat").run()?.ok()?;
    b.is_running(&spinner)?;
    ensure!(b.kill_and_finish(&spinner)? == 137);
    b.fixture.becomes_clean()
}

/// In one pod, since the slots of a shim are those of its pod.
pub(crate) fn second_guest_of_one_slot_is_refused_until_the_first_has_ended(
    b: &mut Fixture,
) -> Result<()> {
    b.module("spin.wat", SPINNING)?;
    b.module("hello.wat", printing("", ""))?;
    let (pod, first) = (b.id("pod"), b.id("first"));
    let group = format!("io.kubernetes.cri.sandbox-id={pod}");
    let kind = "io.kubernetes.cri.container-type=container";
    let flags = ["--annotation", &group, "--annotation", kind];
    b.start(&[&flags[..], &["-d"]].concat(), &first, "spin.wat").run()?.ok()?;
    b.is_running(&first)?;
    let second = b.id("second");
    let said = b.start(&[&flags[..], &["--rm"]].concat(), &second, "hello.wat").run()?.refused()?;
    says(&said, &[], &["out of instance slots"])?;
    ensure!(b.kill_and_finish(&first)? == 137);
    poll_until("a free slot", Duration::from_secs(10), || b.runs("hello.wat").ok())?;
    b.fixture.becomes_clean()
}
