//! Host calls whose work the guest makes as long as it likes: none holds a worker. The timer of the
//! neighbours is the judge.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{
    Containers, Output, best_of,
    connection::guests,
    hostile::{
        guests::Guest,
        hints::{self, Asking},
        neighbours::Neighbours,
        programs::{
            self, COLLECT, COPY_STREAM, GET_MANY, LIST_STREAM, LOOKUP, RANDOM, READ_STREAM,
            READDIR, SPIN, module, polls, reads, streams, streams_for_ever, writes,
        },
    },
    http::address,
};

/// Memory limit of the attackers.
const LIMIT: u64 = 64 << 20;
/// A user other than root: its file calls are made on the worker.
const USER: u32 = 1000;

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

pub(crate) fn random_bytes_hold_no_worker(c: &mut Containers) -> Result<()> {
    let text = programs::random();
    judged(c, "random_get of 58 MB", || Ok(Guest::new(c, &text)?.memory(LIMIT)))
}

pub(crate) fn random_bytes_are_complete(c: &mut Containers) -> Result<()> {
    // The status is 7 if the last eight bytes are random, and the next eight are still zero.
    let body = "(if (call $random (i32.const 16) (i32.const 50000000)) (then unreachable))
        (if (i64.eqz (i64.load (i32.const 50000008))) (then unreachable))
        (if (i64.ne (i64.load (i32.const 50000016)) (i64.const 0)) (then unreachable))
        (call $exit (i32.const 7))";
    ran(c, Guest::new(c, module(RANDOM, body))?)?.status_is(7)?;
    c.fixture.becomes_clean()
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

/// A guest in a root file system with so many more files.
fn in_directory(c: &Containers, text: &str, files: u32) -> Result<Guest> {
    let guest = Guest::new(c, text)?;
    for n in 0..files {
        fs::write(guest.inside(&format!("file-{n}")), "")?;
    }
    Ok(guest)
}

pub(crate) fn a_large_directory_holds_no_worker(c: &mut Containers) -> Result<()> {
    let text = programs::list();
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

fn writer(c: &Containers, then: &str) -> Result<Guest> {
    let guest = Guest::new(c, writes(then))?.memory(LIMIT).user(USER);
    open_to_all(&guest.inside("data"))?;
    Ok(guest)
}

pub(crate) fn a_large_write_holds_no_worker(c: &mut Containers) -> Result<()> {
    judged(c, "fd_pwrite of 57 MB", || writer(c, "(br $l)"))
}

pub(crate) fn a_large_read_holds_no_worker(c: &mut Containers) -> Result<()> {
    judged(c, "fd_read of 57 MB", || on_file(c, &reads("(br $l)")))
}

pub(crate) fn a_large_read_is_complete(c: &mut Containers) -> Result<()> {
    // The last byte of the file, and the first one behind it.
    let then = "(call $exit (i32.add
        (i32.and (i32.eq (i32.load (i32.const 48)) (i32.const 57000000))
          (i32.eq (i32.load8_u (i32.const 57000099)) (i32.const 33)))
        (i32.load8_u (i32.const 57000100))))";
    let mut guest = on_file(c, &reads(then))?;
    let file = guest.inside("data/out");
    let mut content = vec![0; 57_000_000];
    content[56_999_999] = 33;
    fs::write(&file, content)?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666))?;
    guest.command(c, &["--rm"], &c.next_id())?.run()?.status_is(1)?;
    c.fixture.becomes_clean()
}

/// A guest with a file of 57 MB.
fn on_file(c: &Containers, text: &str) -> Result<Guest> {
    let guest = Guest::new(c, text)?.memory(LIMIT).user(USER);
    open_to_all(&guest.inside("data"))?;
    let file = guest.inside("data/out");
    fs::write(&file, vec![0; 57_000_000])?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666))?;
    Ok(guest)
}

pub(crate) fn a_large_stream_holds_no_worker(c: &mut Containers) -> Result<()> {
    let text = streams_for_ever(READ_STREAM, 0);
    judged(c, "streams of 57 MB to a file and back", || {
        let guest = Guest::new(c, &text)?.memory(2 * LIMIT).user(USER);
        open_to_all(&guest.inside("data"))?;
        Ok(guest)
    })
}

/// Also that it ends with the whole file.
pub(crate) fn copy_from_stream_to_stream_holds_no_worker(c: &mut Containers) -> Result<()> {
    let mut once = on_file(c, &streams(COPY_STREAM, 0))?;
    once.command(c, &["--rm"], &c.next_id())?.run()?.ok()?;
    ensure!(fs::metadata(once.inside("data/out"))?.len() == 57_000_000);
    let text = streams_for_ever("(call $copy)", 0);
    judged(c, "copies of 57 MB from stream to stream", || on_file(c, &text))
}

pub(crate) fn a_large_stream_is_complete(c: &mut Containers) -> Result<()> {
    let mut guest = Guest::new(c, streams(READ_STREAM, 0))?.user(USER);
    open_to_all(&guest.inside("data"))?;
    guest.command(c, &["--rm"], &c.next_id())?.run()?.ok()?;
    ensure!(fs::metadata(guest.inside("data/out"))?.len() == 57_000_000);
    // Besides: the guest, and the three directories of the fixture.
    ran(c, in_directory(c, &streams(LIST_STREAM, 504), 500)?.user(USER))?.ok()?;
    let said = ran(c, in_directory(c, &streams(LIST_STREAM, 505), 500)?.user(USER))?;
    said.status_is(134)?;
    c.fixture.becomes_clean()
}

pub(crate) fn a_large_directory_by_a_stream_holds_no_worker(c: &mut Containers) -> Result<()> {
    let text = streams_for_ever(LIST_STREAM, 100_000);
    judged(c, "read-directory of 100,000", || {
        Ok(in_directory(c, &text, 100_000)?.memory(2 * LIMIT).user(USER))
    })
}

fn open_to_all(path: &Path) -> Result<()> {
    Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o777))?)
}

pub(crate) fn a_large_write_is_complete(c: &mut Containers) -> Result<()> {
    let then = "(call $exit (i32.eq (i32.load (i32.const 48)) (i32.const 57000000)))";
    let mut guest = writer(c, then)?;
    guest.command(c, &["--rm"], &c.next_id())?.run()?.status_is(1)?;
    let written = fs::read(guest.inside("data/out"))?;
    ensure!(written.len() == 57_000_005 && written.last() == Some(&33), "{}", written.len());
    c.fixture.becomes_clean()
}

pub(crate) fn a_name_with_many_addresses_holds_no_worker(c: &mut Containers) -> Result<()> {
    let hosts = programs::hosts();
    judged(c, "lookup of 90,000 addresses", || {
        let guest = Guest::new(c, LOOKUP)?.export("go").memory(LIMIT);
        fs::write(guest.inside("etc/hosts"), &hosts).context("hosts")?;
        Ok(guest)
    })
}

pub(crate) fn a_million_missing_keys_hold_no_worker(c: &mut Containers) -> Result<()> {
    // A call may take a quarter of the limit from its guest. The keys need 24 MB; a guest with less
    // is ended by its first call.
    let guest = || Ok(Guest::new(c, GET_MANY)?.export("go").memory(4 * LIMIT));
    judged(c, "get-many of 1,000,000", guest)
}

pub(crate) fn collections_of_a_gc_heap_hold_no_worker(c: &mut Containers) -> Result<()> {
    judged(c, "lists of 200,000 objects", || Ok(Guest::new(c, COLLECT)?.memory(LIMIT)))
}

/// Two servers that ask such an upstream, which answers no request.
pub(crate) fn informational_responses_without_end_hold_no_worker(c: &mut Containers) -> Result<()> {
    let upstream = hints::upstream()?;
    for (world, file) in [("p2", "http_app.wasm"), ("p3", "p3_http.wasm")] {
        let program = fs::read(guests()?.join(file))?;
        best_of(3, || {
            let addresses = [address(), address()];
            let server = |address: &SocketAddr| -> Result<Guest> {
                let guest = Guest::new(c, &program)?.memory(LIMIT);
                Ok(guest.annotation("io.runwasi.http.address", &address.to_string()))
            };
            let servers = addresses.iter().map(server).collect::<Result<Vec<_>>>()?;
            let asking = Asking::start(&addresses, upstream);
            let name = format!("responses 103 without end, {world}");
            let judged = Neighbours::start(c)?.judge(&name, servers)?;
            let refused = asking.refused();
            ensure!(refused >= 8, "{world}: only {refused} requests, it shows nothing");
            judged.timer_goes_on()
        })?;
    }
    c.fixture.becomes_clean()
}

/// Guests that only compute are paced, and the neighbours do not notice.
pub(crate) fn spinning_guests_do_not_delay_their_neighbours(c: &mut Containers) -> Result<()> {
    let spinners = vec![Guest::new(c, SPIN)?, Guest::new(c, SPIN)?];
    Neighbours::start(c)?.judge("computation", spinners)?.timer_goes_on()
}
