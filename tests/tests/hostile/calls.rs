//! Host calls whose work the guest makes as long as it likes: none holds a worker. The timer of the
//! neighbours is the judge.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, Output, best_of};

use super::{guests::Guest, neighbours::Neighbours};

/// Memory limit of the attackers.
const LIMIT: u64 = 64 << 20;
/// A user other than root: its file calls are made on the worker.
const USER: u32 = 1000;

/// Imports, memory and start of a module with one host function, which `body` calls.
fn module(import: &str, body: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" {import})
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func (export "_start") (local $i i32)
            (drop (memory.grow (i32.const 920)))
            {body}))"#
    )
}

/// Demands that two attackers at once do not delay the timer.
fn judged(c: &Containers, name: &str, attacker: impl Fn() -> Result<Guest>) -> Result<()> {
    // Other work of the machine makes the ratio only worse.
    best_of(3, || {
        let attackers = vec![attacker()?, attacker()?];
        Neighbours::start(c)?.judge(name, attackers)?.timer_goes_on()
    })
}

/// Runs a guest to its end.
fn ran(c: &Containers, mut guest: Guest) -> Result<Output> {
    guest.command(c, &["--rm"], &c.next_id())?.run()
}

const RANDOM: &str = r#""random_get" (func $random (param i32 i32) (result i32))"#;

pub(crate) fn random_bytes_hold_no_worker(c: &mut Containers) -> Result<()> {
    let body = "(loop $l (drop (call $random (i32.const 0) (i32.const 58000000))) (br $l))";
    let text = module(RANDOM, body);
    judged(c, "random_get of 58 MB", || Ok(Guest::new(c, &text)?.memory(LIMIT)))
}

pub(crate) fn random_bytes_are_complete(c: &mut Containers) -> Result<()> {
    // The status is 7 if the last eight bytes are random, and the next eight are still zero.
    let body = "(if (call $random (i32.const 16) (i32.const 50000000)) (then unreachable))
        (if (i64.eqz (i64.load (i32.const 50000008))) (then unreachable))
        (if (i64.ne (i64.load (i32.const 50000016)) (i64.const 0)) (then unreachable))
        (call $exit (i32.const 7))";
    ran(c, Guest::new(c, &module(RANDOM, body))?)?.status_is(7)?;
    c.fixture.becomes_clean()
}

const POLL: &str = r#""poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32))"#;

/// Calls `poll_oneoff` with `count` timers of a millisecond.
fn polls(count: u32, then: &str) -> String {
    let body = format!(
        "(loop $i
           (i64.store offset=24 (i32.mul (local.get $i) (i32.const 48)) (i64.const 1000000))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $i (i32.lt_u (local.get $i) (i32.const {count}))))
         (loop $l
           (local.set $i
             (call $poll (i32.const 0) (i32.const 30000000) (i32.const {count}) (i32.const 60000000)))
           {then})"
    );
    module(POLL, &body)
}

pub(crate) fn many_subscriptions_hold_no_worker(c: &mut Containers) -> Result<()> {
    let text = polls(400_000, "(br $l)");
    judged(c, "poll_oneoff of 400,000", || Ok(Guest::new(c, &text)?.memory(LIMIT)))
}

pub(crate) fn most_subscriptions_hold_no_worker(c: &mut Containers) -> Result<()> {
    let text = polls(512, "(br $l)");
    judged(c, "poll_oneoff of 512", || Ok(Guest::new(c, &text)?.memory(LIMIT)))
}

pub(crate) fn a_poll_has_a_limited_number_of_subscriptions(c: &mut Containers) -> Result<()> {
    // EINVAL of the specification is 28.
    for (count, errno) in [(512, 0), (513, 28)] {
        let text = polls(count, "(call $exit (local.get $i))");
        ran(c, Guest::new(c, &text)?)?.status_is(errno)?;
    }
    c.fixture.becomes_clean()
}

const READDIR: &str = r#""fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32))"#;

/// A guest in a root file system with so many more files.
fn in_directory(c: &Containers, text: &str, files: u32) -> Result<Guest> {
    let guest = Guest::new(c, text)?;
    for n in 0..files {
        fs::write(guest.inside(&format!("file-{n}")), "")?;
    }
    Ok(guest)
}

pub(crate) fn a_large_directory_holds_no_worker(c: &mut Containers) -> Result<()> {
    let body = "(loop $l
        (drop (call $list
          (i32.const 3) (i32.const 0) (i32.const 58000000) (i64.const 0) (i32.const 58000008)))
        (br $l))";
    let text = module(READDIR, body);
    judged(c, "fd_readdir of 100,000", || {
        Ok(in_directory(c, &text, 100_000)?.memory(LIMIT).user(USER))
    })
}

/// Small buffers cut entries, which the guest asks for again.
pub(crate) fn a_directory_is_listed_once_with_any_buffer(c: &mut Containers) -> Result<()> {
    // Counts the entries: the status is their number. 100: the cookie. 8: the bytes used.
    let body = |length: u32| {
        format!(
            "(local $at i32) (local $n i32)
             (loop $call
               (if (call $list (i32.const 3) (i32.const 1000) (i32.const {length})
                     (i64.load (i32.const 100)) (i32.const 8)) (then (call $exit (i32.const 99))))
               (local.set $at (i32.const 0))
               (block $cut (loop $entry
                 (br_if $cut (i32.gt_u (i32.add (local.get $at) (i32.const 24))
                   (i32.load (i32.const 8))))
                 (br_if $cut (i32.gt_u
                   (i32.add (i32.add (local.get $at) (i32.const 24))
                     (i32.load offset=1016 (local.get $at)))
                   (i32.load (i32.const 8))))
                 (i64.store (i32.const 100) (i64.load offset=1000 (local.get $at)))
                 (local.set $n (i32.add (local.get $n) (i32.const 1)))
                 (local.set $at (i32.add (i32.add (local.get $at) (i32.const 24))
                   (i32.load offset=1016 (local.get $at))))
                 (br $entry)))
               (br_if $call (i32.eq (i32.load (i32.const 8)) (i32.const {length}))))
             (call $exit (local.get $n))"
        )
    };
    for length in [100, 5000, 60_000] {
        let text = format!(
            r#"(module
              (import "wasi_snapshot_preview1" {READDIR})
              (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "memory") 2)
              (func (export "_start") {}))"#,
            body(length)
        );
        // Besides: `.`, `..`, the guest, and the three directories of the fixture.
        for user in [0, USER] {
            ran(c, in_directory(c, &text, 200)?.user(user))?.status_is(206)?;
        }
    }
    c.fixture.becomes_clean()
}

/// Opens `/data/out` and writes 57 MB to it.
fn writes(then: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_pwrite"
            (func $write (param i32 i32 i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 920)
          (data (i32.const 16) "data/out")
          (func (export "_start")
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 1)
                  (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32))
              (then (call $exit (i32.const 9))))
            (i32.store (i32.const 40) (i32.const 100))
            (i32.store (i32.const 44) (i32.const 57000000))
            (i32.store8 (i32.const 57000099) (i32.const 33))
            (loop $l
              (if (call $write (i32.load (i32.const 32)) (i32.const 40) (i32.const 1) (i64.const 5)
                    (i32.const 48))
                (then (call $exit (i32.const 8))))
              {then})))"#
    )
}

fn writer(c: &Containers, then: &str) -> Result<Guest> {
    let guest = Guest::new(c, &writes(then))?.memory(LIMIT).user(USER);
    fs::set_permissions(guest.inside("data"), PermissionsExt::from_mode(0o777))?;
    Ok(guest)
}

pub(crate) fn a_large_write_holds_no_worker(c: &mut Containers) -> Result<()> {
    judged(c, "fd_pwrite of 57 MB", || writer(c, "(br $l)"))
}

pub(crate) fn a_large_write_is_complete(c: &mut Containers) -> Result<()> {
    let then = "(call $exit (i32.eq (i32.load (i32.const 48)) (i32.const 57000000)))";
    let mut guest = writer(c, then)?;
    guest.command(c, &["--rm"], &c.next_id())?.run()?.status_is(1)?;
    let written = fs::read(guest.inside("data/out"))?;
    ensure!(written.len() == 57_000_005 && written.last() == Some(&33), "{}", written.len());
    c.fixture.becomes_clean()
}

/// Looks up the name `a` for ever, or once; see the file.
const LOOKUP: &str = include_str!("lookup.wat");

pub(crate) fn a_name_with_many_addresses_holds_no_worker(c: &mut Containers) -> Result<()> {
    let lines = (0..90_000u32).map(|n| format!("{} a\n", std::net::Ipv4Addr::from(n + (10 << 24))));
    let hosts: String = lines.collect();
    // Within the bound of the file.
    let hosts = hosts.get(..(1 << 20) - 1).unwrap_or(&hosts).to_owned();
    judged(c, "lookup of 90,000 addresses", || {
        let guest = Guest::new(c, LOOKUP)?.export("go").memory(LIMIT);
        fs::write(guest.inside("etc/hosts"), &hosts).context("hosts")?;
        Ok(guest)
    })
}

/// Asks for a million missing keys for ever.
const GET_MANY: &str = include_str!("get_many.wat");

pub(crate) fn a_million_missing_keys_hold_no_worker(c: &mut Containers) -> Result<()> {
    // A call may take a quarter of the limit from its guest. The keys need 24 MB; a guest with less
    // is ended by its first call.
    let guest = || Ok(Guest::new(c, GET_MANY)?.export("go").memory(4 * LIMIT));
    judged(c, "get-many of 1,000,000", guest)
}
