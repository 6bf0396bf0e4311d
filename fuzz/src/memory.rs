//! Bound of the memory that one input may take: what is allocated follows the length of the input.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that are allocated now, and the most since the last [`bounded`] began.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Bytes that any input may take, and those for each of its bytes.
// A JSON value of two bytes is a `Value` or a struct of a hundred bytes and more, in a vector that
// doubles, and some are held twice.
const BASE: usize = 32 << 20;
const FACTOR: usize = 2000;

/// Runs a check of an input. Fails if it took more memory than an input of this length may.
pub fn bounded(input: &[u8], check: impl FnOnce(&[u8])) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    check(input);
    let taken = PEAK.load(Relaxed).saturating_sub(before);
    let limit = BASE + FACTOR * input.len();
    assert!(taken <= limit, "{taken} bytes of memory for {} of input", input.len());
}

struct Counting;

fn took(bytes: usize) {
    PEAK.fetch_max(LIVE.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: All calls go to `System` unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: As the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: As the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: As the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: As the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}
