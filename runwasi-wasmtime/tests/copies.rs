//! The host copies nothing of the output of a guest. The only test of this binary, since it counts
//! every allocation there is.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use runwasi_core::testing::Harness;
use runwasi_wasmtime::{Settings, WasmtimeEngine};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Counts the bytes of all allocations there have been.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, with a counter beside it; `realloc` is the trait's own, made of
// the other two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: passed on as it is.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: passed on as it is.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const WRITES: usize = 4096;
/// Bytes of one write.
const PART: usize = 64 << 10;
/// Most bytes of memory that the host may take for each.
const MOST: usize = 4096;

/// Writes WRITES times PART bytes to its output, as vectors in number COUNT.
const WRITER: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    ;; At 0 two vectors, at 16 what was written.
    (data (i32.const 0) "\00\04\00\00\00\00\01\00\00\04\00\00\01\00\00\00")
    (func (export "_start") (local $left i32)
        (local.set $left (i32.const WRITES))
        (loop $next
            (if (call $write (i32.const 1) (i32.const 0) (i32.const COUNT) (i32.const 16))
                (then (unreachable)))
            (if (i32.lt_u (i32.load (i32.const 16)) (i32.const PART)) (then (unreachable)))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $next (local.get $left)))))"#;

/// Bytes that were allocated during a life of the writer.
async fn allocated(vectors: usize) -> Result<usize> {
    let harness =
        Harness::start(WasmtimeEngine::new(&Settings { cache: None, ..Settings::default() })?)?;
    let client = harness.client().await?;
    let numbers = [("WRITES", WRITES), ("COUNT", vectors), ("PART", PART)];
    let guest = numbers
        .into_iter()
        .fold(WRITER.to_owned(), |text, (name, number)| text.replace(name, &number.to_string()));
    let bundle = harness.bundle("writer", &["/guest.wat"]).file("/guest.wat", &guest).write()?;
    client.create("writer", &bundle, &Default::default(), &[]).await?;
    let before = BYTES.load(Relaxed);
    client.start("writer").await?;
    let status = client.wait("writer").await?;
    let bytes = BYTES.load(Relaxed) - before;
    assert_eq!(status, 0);
    client.delete("writer").await?;
    harness.stop().await;
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn write_of_one_vector_needs_no_memory_of_the_host() -> Result {
    let one = allocated(1).await?;
    assert!(one < WRITES * MOST, "{one} bytes for {WRITES} writes");
    // So that the counter is known to count: those of several vectors are gathered.
    let two = allocated(2).await?;
    assert!(two > WRITES * PART, "{two} bytes for {WRITES} writes of two vectors");
    Ok(())
}
