//! Descriptors of preview 1, whose files are opened by ourselves. Part of `guests.rs`.

use super::{Fixture, Result, sleep::status_with_idle_stdin};

/// Checks one step after the other; its exit status is the number of the first that fails.
const STEPS: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "x") (data (i32.const 110) "d") (data (i32.const 120) "inner")
  (data (i32.const 130) "new") (data (i32.const 140) "../x") (data (i32.const 150) "\ff")
  ;; The last opened descriptor.
  (func $last (result i32) (i32.load (i32.const 0)))
  (func $open (param $at i32) (param $name i32) (param $length i32) (param $how i32)
    (param $rights i64) (result i32)
    (call $path_open (local.get $at) (i32.const 1) (local.get $name) (local.get $length)
      (local.get $how) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 0)))
  (func $open_x (param $at i32) (result i32)
    (call $open (local.get $at) (i32.const 100) (i32.const 1) (i32.const 0) (i64.const 2)))
  (func $check (param $step i32) (param $got i32) (param $wanted i32)
    (if (i32.ne (local.get $got) (local.get $wanted)) (then (call $exit (local.get $step)))))
  (func (export "_start") (local $a i32) (local $b i32) (local $c i32) (local $n i32)
    (i32.store (i32.const 8) (i32.const 32)) (i32.store (i32.const 12) (i32.const 1))
    (call $check (i32.const 1) (call $open_x (i32.const 3)) (i32.const 0))
    (local.set $a (call $last))
    (call $check (i32.const 2)
      (call $open (i32.const 3) (i32.const 110) (i32.const 1) (i32.const 2) (i64.const 2))
      (i32.const 0))
    (local.set $b (call $last))
    (call $check (i32.const 3) (call $renumber (local.get $b) (local.get $a)) (i32.const 0))
    (call $check (i32.const 4)
      (call $open (local.get $a) (i32.const 120) (i32.const 5) (i32.const 0) (i64.const 2))
      (i32.const 0))
    (local.set $c (call $last))
    (call $check (i32.const 5)
      (call $read (local.get $c) (i32.const 8) (i32.const 1) (i32.const 16)) (i32.const 0))
    (call $check (i32.const 6) (i32.load8_u (i32.const 32)) (i32.const 105))
    ;; Not a directory, closed, a stream, never open.
    (call $check (i32.const 7) (call $open_x (local.get $c)) (i32.const 54))
    (call $check (i32.const 8) (call $close (local.get $c)) (i32.const 0))
    (call $check (i32.const 9) (call $open_x (local.get $c)) (i32.const 8))
    (call $check (i32.const 10) (call $open_x (i32.const 1)) (i32.const 8))
    (call $check (i32.const 11) (call $open_x (i32.const 999)) (i32.const 8))
    ;; Created for writing, and there already.
    (call $check (i32.const 12)
      (call $open (i32.const 3) (i32.const 130) (i32.const 3) (i32.const 5) (i64.const 64))
      (i32.const 0))
    (call $check (i32.const 13)
      (call $write (call $last) (i32.const 8) (i32.const 1) (i32.const 16)) (i32.const 0))
    (call $check (i32.const 14)
      (call $open (i32.const 3) (i32.const 130) (i32.const 3) (i32.const 5) (i64.const 64))
      (i32.const 20))
    (call $check (i32.const 15) (call $close (call $last)) (i32.const 0))
    ;; Outside, no UTF-8, unknown flags, a file as a directory.
    (call $check (i32.const 16)
      (call $open (i32.const 3) (i32.const 140) (i32.const 4) (i32.const 0) (i64.const 2))
      (i32.const 63))
    (call $check (i32.const 17)
      (call $open (i32.const 3) (i32.const 150) (i32.const 1) (i32.const 0) (i64.const 2))
      (i32.const 25))
    (call $check (i32.const 18)
      (call $open (i32.const 3) (i32.const 100) (i32.const 1) (i32.const 16) (i64.const 2))
      (i32.const 28))
    (call $check (i32.const 19)
      (call $open (i32.const 3) (i32.const 100) (i32.const 1) (i32.const 2) (i64.const 2))
      (i32.const 54))
    ;; As many as it may have, and again after a close.
    (loop $more
      (local.set $n (call $open_x (i32.const 3)))
      (br_if $more (i32.eqz (local.get $n))))
    (call $check (i32.const 20) (local.get $n) (i32.const 33))
    (call $check (i32.const 21) (call $close (call $last)) (i32.const 0))
    (call $check (i32.const 22) (call $open_x (i32.const 3)) (i32.const 0))
    (call $check (i32.const 23) (call $open_x (i32.const 3)) (i32.const 33))
    (call $check (i32.const 24) (call $close (call $last)) (i32.const 0))
    (call $check (i32.const 25) (call $close (i32.const 3)) (i32.const 0))
    (call $check (i32.const 26) (call $open_x (i32.const 3)) (i32.const 8))))"#;

#[tokio::test]
async fn descriptors_name_their_files_through_closing_and_renumbering() -> Result {
    let fixture = Fixture::new(10).await?;
    let unstable = STEPS.replace("wasi_snapshot_preview1", "wasi_unstable");
    for module in [STEPS, &unstable] {
        let files = [("/m", module), ("/x", "outer"), ("/d/inner", "inner")];
        let ran = fixture.run(&["/m"], &files).await?;
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    }
    Ok(())
}

/// Functions and helpers of the guests below; each checks one step after the other, as above.
const COMMON: &str = r#"
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread"
    (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite"
    (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_tell" (func $tell (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags"
    (func $set_flags (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_sync" (func $sync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_datasync" (func $datasync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "x") (data (i32.const 110) "d") (data (i32.const 120) "dev/stdin")
  (data (i32.const 140) "dev/stdout") (data (i32.const 160) "abcdef")
  (func $check (param $step i32) (param $got i32) (param $wanted i32)
    (if (i32.ne (local.get $got) (local.get $wanted)) (then (call $exit (local.get $step)))))
  ;; The vector at 8: bytes to read or to write.
  (func $bytes (param $at i32) (param $length i32)
    (i32.store (i32.const 8) (local.get $at)) (i32.store (i32.const 12) (local.get $length)))
  ;; Opens below the root, and returns the descriptor.
  (func $open (param $step i32) (param $name i32) (param $length i32) (param $how i32)
    (param $rights i64) (param $flags i32) (result i32)
    (call $check (local.get $step)
      (call $path_open (i32.const 3) (i32.const 1) (local.get $name) (local.get $length)
        (local.get $how) (local.get $rights) (i64.const 0) (local.get $flags) (i32.const 0))
      (i32.const 0))
    (i32.load (i32.const 0)))
"#;

/// Runs a guest of these steps in a container with a file, a directory, and an idle stdin.
async fn run_steps(steps: &str) -> Result {
    let fixture = Fixture::new(10).await?;
    let module = format!("(module {COMMON} {steps})");
    let bundle = fixture.harness.bundle("c", &["/m"]).file("/m", module);
    let bundle = bundle.file("/x", "....").file("/d/inner", "inner").devices();
    assert_eq!(status_with_idle_stdin(&fixture, bundle).await?, (0, String::new()));
    Ok(())
}

/// As Linux does it, which has no offset for a file that appends.
#[tokio::test]
async fn file_appends_as_long_as_its_flag_is_set() -> Result {
    run_steps(
        r#"(func $written (param $step i32) (param $fd i32) (param $at i32)
          (call $bytes (local.get $at) (i32.const 1))
          (call $check (local.get $step)
            (call $write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16))
            (i32.const 0)))
        (func $written_at_1 (param $step i32) (param $fd i32) (param $at i32)
          (call $bytes (local.get $at) (i32.const 1))
          (call $check (local.get $step)
            (call $pwrite (local.get $fd) (i32.const 8) (i32.const 1) (i64.const 1) (i32.const 16))
            (i32.const 0)))
        (func (export "_start") (local $fd i32)
          (local.set $fd
            (call $open (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 0) (i64.const 66)
              (i32.const 1)))
          (call $written (i32.const 2) (local.get $fd) (i32.const 160))
          (call $written_at_1 (i32.const 3) (local.get $fd) (i32.const 161))
          (call $check (i32.const 4)
            (call $set_flags (local.get $fd) (i32.const 0)) (i32.const 0))
          (call $written_at_1 (i32.const 5) (local.get $fd) (i32.const 162))
          (call $check (i32.const 6)
            (call $set_flags (local.get $fd) (i32.const 1)) (i32.const 0))
          (call $written (i32.const 7) (local.get $fd) (i32.const 163))
          ;; "....", then "ab" at the end, "c" at 1, and "d" at the end.
          (call $bytes (i32.const 200) (i32.const 100))
          (call $check (i32.const 8)
            (call $pread (local.get $fd) (i32.const 8) (i32.const 1) (i64.const 0) (i32.const 16))
            (i32.const 0))
          (call $check (i32.const 9) (i32.load (i32.const 16)) (i32.const 7))
          (call $check (i32.const 10) (i32.load (i32.const 200)) (i32.const 0x2e2e632e))
          (call $check (i32.const 11)
            (i32.and (i32.load (i32.const 204)) (i32.const 0xffffff)) (i32.const 0x646261))
          (call $check (i32.const 12)
            (call $tell (local.get $fd) (i32.const 16)) (i32.const 0))
          (call $check (i32.const 13) (i32.load (i32.const 16)) (i32.const 7)))"#,
    )
    .await
}

/// As with `poll(2)`.
#[tokio::test]
async fn file_is_ready_at_once_and_a_stream_when_it_has_something() -> Result {
    run_steps(
        r#";; Polls a descriptor without waiting, and the clock: the number of events must be that.
        (func $polled (param $step i32) (param $fd i32) (param $kind i32) (param $wanted i32)
          (i32.store8 (i32.const 312) (local.get $kind))
          (i32.store (i32.const 320) (local.get $fd))
          (i32.store8 (i32.const 360) (i32.const 0)) (i32.store (i32.const 368) (i32.const 1))
          (call $check (local.get $step)
            (call $poll (i32.const 304) (i32.const 512) (i32.const 2) (i32.const 16))
            (i32.const 0))
          (call $check (local.get $step) (i32.load (i32.const 16)) (local.get $wanted))
          ;; A stream that is not ready leaves the event of the clock.
          (call $check (local.get $step) (i32.load8_u (i32.const 522))
            (select (local.get $kind) (i32.const 0) (i32.eq (local.get $wanted) (i32.const 2)))))
        (func (export "_start") (local $fd i32)
          (local.set $fd
            (call $open (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 0) (i64.const 66)
              (i32.const 0)))
          (call $polled (i32.const 2) (local.get $fd) (i32.const 1) (i32.const 2))
          (call $polled (i32.const 3) (local.get $fd) (i32.const 2) (i32.const 2))
          ;; At its end, too, and without the flag of a closed connection.
          (call $check (i32.const 4)
            (call $seek (local.get $fd) (i64.const 100) (i32.const 0) (i32.const 16))
            (i32.const 0))
          (call $polled (i32.const 5) (local.get $fd) (i32.const 1) (i32.const 2))
          (call $check (i32.const 6) (i32.load16_u (i32.const 536)) (i32.const 0))
          (call $polled (i32.const 7) (i32.const 0) (i32.const 1) (i32.const 1))
          (call $polled (i32.const 8)
            (call $open (i32.const 9) (i32.const 120) (i32.const 9) (i32.const 0) (i64.const 2)
              (i32.const 0))
            (i32.const 1) (i32.const 1))
          (call $polled (i32.const 10) (i32.const 1) (i32.const 2) (i32.const 2))
          (call $polled (i32.const 11)
            (call $open (i32.const 12) (i32.const 140) (i32.const 10) (i32.const 0) (i64.const 64)
              (i32.const 0))
            (i32.const 2) (i32.const 2))
          ;; A directory, and the wrong way.
          (i32.store (i32.const 320) (i32.const 3))
          (call $check (i32.const 13)
            (call $poll (i32.const 304) (i32.const 512) (i32.const 1) (i32.const 16))
            (i32.const 8))
          (i32.store (i32.const 320) (i32.const 0))
          (call $check (i32.const 14)
            (call $poll (i32.const 304) (i32.const 512) (i32.const 1) (i32.const 16))
            (i32.const 8)))"#,
    )
    .await
}

/// Below it a C library opens files only for what it may hand on.
#[tokio::test]
async fn opened_directory_hands_on_the_right_to_write() -> Result {
    run_steps(
        r#"(func (export "_start")
          (call $check (i32.const 2)
            (call $stat
              (call $open (i32.const 1) (i32.const 110) (i32.const 1) (i32.const 2) (i64.const 2)
                (i32.const 0))
              (i32.const 400))
            (i32.const 0))
          (call $check (i32.const 3) (i32.load8_u (i32.const 400)) (i32.const 3))
          ;; Files are read, written and sought, the directory itself is listed.
          (call $check (i32.const 4)
            (i32.and (i32.load (i32.const 408)) (i32.const 0x4046)) (i32.const 0x4000))
          (call $check (i32.const 5)
            (i32.and (i32.load (i32.const 416)) (i32.const 0x4046)) (i32.const 0x4046))
          ;; As of the root, which is a preopen.
          (call $check (i32.const 6) (call $stat (i32.const 3) (i32.const 432)) (i32.const 0))
          (call $check (i32.const 7) (i32.load (i32.const 408)) (i32.load (i32.const 440)))
          (call $check (i32.const 8) (i32.load (i32.const 416)) (i32.load (i32.const 448))))"#,
    )
    .await
}

#[tokio::test]
async fn flags_of_a_synchronized_file_are_its_own_and_may_be_set_again() -> Result {
    run_steps(
        r#"(func $flags (param $step i32) (param $fd i32) (param $wanted i32)
          (call $check (local.get $step)
            (call $stat (local.get $fd) (i32.const 400)) (i32.const 0))
          (call $check (local.get $step) (i32.load16_u (i32.const 402)) (local.get $wanted)))
        (func $opened (param $step i32) (param $flag i32) (result i32)
          (call $open (local.get $step) (i32.const 100) (i32.const 1) (i32.const 0) (i64.const 66)
            (local.get $flag)))
        (func $set (param $step i32) (param $fd i32) (param $flags i32) (param $wanted i32)
          (call $check (local.get $step)
            (call $set_flags (local.get $fd) (local.get $flags)) (local.get $wanted)))
        (func (export "_start") (local $data i32) (local $file i32)
          (local.set $data (call $opened (i32.const 1) (i32.const 2)))
          (local.set $file (call $opened (i32.const 2) (i32.const 17)))
          (call $flags (i32.const 3) (local.get $data) (i32.const 2))
          (call $flags (i32.const 4) (local.get $file) (i32.const 17))
          (call $set (i32.const 5) (local.get $data) (i32.const 7) (i32.const 0))
          (call $flags (i32.const 6) (local.get $data) (i32.const 7))
          (call $set (i32.const 7) (local.get $file) (i32.const 16) (i32.const 0))
          (call $flags (i32.const 8) (local.get $file) (i32.const 16))
          ;; What it has not cannot be added.
          (call $set (i32.const 9) (local.get $data) (i32.const 16) (i32.const 28))
          (call $flags (i32.const 10) (local.get $data) (i32.const 7)))"#,
    )
    .await
}

#[tokio::test]
async fn standard_stream_by_its_name_has_no_position() -> Result {
    run_steps(
        r#"(func $none (param $step i32) (param $fd i32) (param $rights i64)
          (call $check (local.get $step)
            (call $seek (local.get $fd) (i64.const 0) (i32.const 1) (i32.const 16))
            (i32.const 70))
          (call $check (local.get $step)
            (call $tell (local.get $fd) (i32.const 16)) (i32.const 70))
          (call $bytes (i32.const 200) (i32.const 10))
          (call $check (local.get $step)
            (call $pread (local.get $fd) (i32.const 8) (i32.const 1) (i64.const 0) (i32.const 16))
            (i32.const 70))
          ;; What the process's own stream of the kind tells: no terminal, and this right alone.
          (call $check (local.get $step)
            (call $stat (local.get $fd) (i32.const 400)) (i32.const 0))
          (call $check (local.get $step) (i32.load8_u (i32.const 400)) (i32.const 0))
          (call $check (local.get $step)
            (i64.eq (i64.load (i32.const 408)) (local.get $rights)) (i32.const 1)))
        (func (export "_start")
          (call $none (i32.const 2)
            (call $open (i32.const 1) (i32.const 120) (i32.const 9) (i32.const 0) (i64.const 2)
              (i32.const 0))
            (i64.const 2))
          (call $none (i32.const 4)
            (call $open (i32.const 3) (i32.const 140) (i32.const 10) (i32.const 0) (i64.const 64)
              (i32.const 0))
            (i64.const 64)))"#,
    )
    .await
}

/// As with `readv(2)`, `writev(2)`, and those with an offset.
#[tokio::test]
async fn call_reads_or_writes_the_bytes_of_all_its_vectors() -> Result {
    run_steps(
        r#"(func $vector (param $at i32) (param $start i32) (param $length i32)
          (i32.store (local.get $at) (local.get $start))
          (i32.store offset=4 (local.get $at) (local.get $length)))
        (func $done (param $step i32) (param $got i32) (param $bytes i32)
          (call $check (local.get $step) (local.get $got) (i32.const 0))
          (call $check (local.get $step) (i32.load (i32.const 16)) (local.get $bytes)))
        (func (export "_start") (local $fd i32)
          (local.set $fd
            (call $open (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 0) (i64.const 66)
              (i32.const 0)))
          (call $vector (i32.const 600) (i32.const 160) (i32.const 2))
          (call $vector (i32.const 608) (i32.const 0) (i32.const 0))
          (call $vector (i32.const 616) (i32.const 162) (i32.const 4))
          (call $done (i32.const 2)
            (call $write (local.get $fd) (i32.const 600) (i32.const 3) (i32.const 16))
            (i32.const 6))
          (call $done (i32.const 3)
            (call $write (i32.const 1) (i32.const 600) (i32.const 3) (i32.const 16))
            (i32.const 6))
          (call $check (i32.const 4)
            (call $seek (local.get $fd) (i64.const 0) (i32.const 0) (i32.const 16))
            (i32.const 0))
          (call $vector (i32.const 600) (i32.const 200) (i32.const 1))
          (call $vector (i32.const 608) (i32.const 208) (i32.const 100))
          (call $done (i32.const 5)
            (call $read (local.get $fd) (i32.const 600) (i32.const 2) (i32.const 16))
            (i32.const 6))
          (call $check (i32.const 6) (i32.load8_u (i32.const 200)) (i32.const 0x61))
          (call $check (i32.const 7) (i32.load (i32.const 208)) (i32.const 0x65646362))
          (call $done (i32.const 8)
            (call $pread (local.get $fd) (i32.const 600) (i32.const 2) (i64.const 3)
              (i32.const 16))
            (i32.const 3))
          (call $check (i32.const 9) (i32.load8_u (i32.const 200)) (i32.const 0x64))
          (call $check (i32.const 10) (i32.load16_u (i32.const 208)) (i32.const 0x6665))
          ;; Beyond the end, and without a vector.
          (call $done (i32.const 11)
            (call $pread (local.get $fd) (i32.const 600) (i32.const 2) (i64.const 100)
              (i32.const 16))
            (i32.const 0))
          (call $done (i32.const 12)
            (call $pread (local.get $fd) (i32.const 600) (i32.const 0) (i64.const 0)
              (i32.const 16))
            (i32.const 0))
          ;; No offset of a file, and streams, which have none.
          (call $check (i32.const 13)
            (call $pread (local.get $fd) (i32.const 600) (i32.const 2) (i64.const -1)
              (i32.const 16))
            (i32.const 28))
          (call $check (i32.const 14)
            (call $pwrite (local.get $fd) (i32.const 600) (i32.const 2) (i64.const -1)
              (i32.const 16))
            (i32.const 28))
          (call $check (i32.const 15)
            (call $pread (i32.const 0) (i32.const 600) (i32.const 2) (i64.const 0)
              (i32.const 16))
            (i32.const 70))
          (call $check (i32.const 16)
            (call $pwrite (i32.const 1) (i32.const 600) (i32.const 2) (i64.const 0)
              (i32.const 16))
            (i32.const 70))
          (call $vector (i32.const 600) (i32.const 160) (i32.const 1))
          (call $vector (i32.const 608) (i32.const 160) (i32.const 1))
          (call $done (i32.const 17)
            (call $pwrite (local.get $fd) (i32.const 600) (i32.const 2) (i64.const 1)
              (i32.const 16))
            (i32.const 2))
          (call $bytes (i32.const 200) (i32.const 4))
          (call $done (i32.const 18)
            (call $pread (local.get $fd) (i32.const 8) (i32.const 1) (i64.const 0)
              (i32.const 16))
            (i32.const 4))
          (call $check (i32.const 19) (i32.load (i32.const 200)) (i32.const 0x64616161)))"#,
    )
    .await
}

/// As the specification has it, whichever function the call meets.
#[tokio::test]
async fn pointer_that_is_not_aligned_is_a_trap() -> Result {
    let fixture = Fixture::new(10).await?;
    for call in [
        "(call $read (i32.const 1) (i32.const 9) (i32.const 1) (i32.const 16))",
        "(call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 17))",
        "(call $write (i32.const 1) (i32.const 10) (i32.const 1) (i32.const 16))",
        "(call $pread (i32.const 1) (i32.const 8) (i32.const 1) (i64.const 0) (i32.const 18))",
        "(call $stat (i32.const 3) (i32.const 404))",
        "(call $poll (i32.const 305) (i32.const 512) (i32.const 1) (i32.const 16))",
        "(call $poll (i32.const 304) (i32.const 516) (i32.const 1) (i32.const 16))",
        "(call $poll (i32.const 304) (i32.const 512) (i32.const 1) (i32.const 17))",
        "(call $path_open (i32.const 3) (i32.const 1) (i32.const 110) (i32.const 1) (i32.const 2)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 2))",
    ] {
        let module = format!(r#"(module {COMMON} (func (export "_start") (drop {call})))"#);
        let ran = fixture.run(&["/m"], &[("/m", &module), ("/d/inner", "inner")]).await?;
        assert_eq!(ran.status, 134, "{call}");
    }
    Ok(())
}

/// As with `fcntl(2)`; the pipe itself is shared, and never waits.
#[tokio::test]
async fn stream_waits_for_nothing_if_its_descriptor_says_so() -> Result {
    run_steps(
        r#"(func $flags (param $step i32) (param $fd i32) (param $wanted i32)
          (call $check (local.get $step)
            (call $stat (local.get $fd) (i32.const 400)) (i32.const 0))
          (call $check (local.get $step) (i32.load16_u (i32.const 402)) (local.get $wanted)))
        (func $again (param $step i32) (param $fd i32)
          (call $check (local.get $step)
            (call $read (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16))
            (i32.const 6)))
        (func (export "_start") (local $fd i32)
          (call $bytes (i32.const 200) (i32.const 10))
          (local.set $fd
            (call $open (i32.const 1) (i32.const 120) (i32.const 9) (i32.const 0) (i64.const 2)
              (i32.const 4)))
          (call $flags (i32.const 2) (local.get $fd) (i32.const 4))
          (call $again (i32.const 3) (local.get $fd))
          ;; The process's own stream is another descriptor.
          (call $flags (i32.const 4) (i32.const 0) (i32.const 0))
          (call $check (i32.const 5) (call $set_flags (i32.const 0) (i32.const 4)) (i32.const 0))
          (call $flags (i32.const 6) (i32.const 0) (i32.const 4))
          (call $again (i32.const 7) (i32.const 0))
          (call $check (i32.const 8)
            (call $set_flags (i32.const 0) (i32.const 16)) (i32.const 28))
          (call $check (i32.const 9) (call $set_flags (i32.const 0) (i32.const 0)) (i32.const 0))
          (call $flags (i32.const 10) (i32.const 0) (i32.const 0))
          ;; A write takes what there is room for: all, before its reader has to read.
          (call $check (i32.const 11) (call $set_flags (i32.const 1) (i32.const 4)) (i32.const 0))
          (call $check (i32.const 12)
            (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))
            (i32.const 0))
          (call $check (i32.const 13) (i32.load (i32.const 16)) (i32.const 10)))"#,
    )
    .await
}

/// As with `fsync(2)`: a program makes a new name durable by its directory.
#[tokio::test]
async fn directory_is_synced_as_a_file_is() -> Result {
    run_steps(
        r#"(func (export "_start") (local $fd i32)
          (local.set $fd
            (call $open (i32.const 1) (i32.const 110) (i32.const 1) (i32.const 2) (i64.const 2)
              (i32.const 0)))
          (call $check (i32.const 2) (call $sync (local.get $fd)) (i32.const 0))
          (call $check (i32.const 3) (call $datasync (local.get $fd)) (i32.const 0))
          ;; The root, a stream, and no descriptor.
          (call $check (i32.const 4) (call $sync (i32.const 3)) (i32.const 0))
          (call $check (i32.const 5) (call $datasync (i32.const 3)) (i32.const 0))
          (call $check (i32.const 6) (call $sync (i32.const 1)) (i32.const 8))
          (call $check (i32.const 7) (call $sync (i32.const 99)) (i32.const 8)))"#,
    )
    .await
}

/// As with `open(2)`: the guest may have no right to write to it.
#[tokio::test]
async fn file_that_is_created_if_missing_is_open_for_reading_alone() -> Result {
    run_steps(
        r#"(func (export "_start") (local $fd i32)
          (local.set $fd
            (call $open (i32.const 1) (i32.const 100) (i32.const 1) (i32.const 1) (i64.const 2)
              (i32.const 0)))
          (call $bytes (i32.const 200) (i32.const 4))
          (call $check (i32.const 2)
            (call $read (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16))
            (i32.const 0))
          (call $check (i32.const 3) (i32.load (i32.const 200)) (i32.const 0x2e2e2e2e))
          (call $check (i32.const 4)
            (call $write (local.get $fd) (i32.const 8) (i32.const 1) (i32.const 16))
            (i32.const 8))
          ;; A missing one is created.
          (call $check (i32.const 5)
            (call $read
              (call $open (i32.const 6) (i32.const 160) (i32.const 6) (i32.const 1) (i64.const 2)
                (i32.const 0))
              (i32.const 8) (i32.const 1) (i32.const 16))
            (i32.const 0))
          (call $check (i32.const 7) (i32.load (i32.const 16)) (i32.const 0)))"#,
    )
    .await
}

#[tokio::test]
async fn nothing_is_read_at_once_from_an_idle_stdin() -> Result {
    run_steps(
        r#"(func $nothing (param $step i32) (param $fd i32) (param $count i32)
          (i32.store (i32.const 16) (i32.const 1))
          (call $check (local.get $step)
            (call $read (local.get $fd) (i32.const 8) (local.get $count) (i32.const 16))
            (i32.const 0))
          (call $check (local.get $step) (i32.load (i32.const 16)) (i32.const 0)))
        (func (export "_start") (local $fd i32)
          (local.set $fd
            (call $open (i32.const 1) (i32.const 120) (i32.const 9) (i32.const 0) (i64.const 2)
              (i32.const 0)))
          (call $bytes (i32.const 200) (i32.const 0))
          (call $nothing (i32.const 2) (i32.const 0) (i32.const 1))
          (call $nothing (i32.const 3) (local.get $fd) (i32.const 1))
          (call $nothing (i32.const 4) (i32.const 0) (i32.const 0))
          ;; Not of an output, and of no descriptor.
          (call $check (i32.const 5)
            (call $read (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)) (i32.const 8))
          (call $check (i32.const 6)
            (call $read (i32.const 99) (i32.const 8) (i32.const 1) (i32.const 16))
            (i32.const 8)))"#,
    )
    .await
}
