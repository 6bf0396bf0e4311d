//! Global allocator that charges what the host allocates for a guest to the guest's container.
//!
//! Nearly everything that a guest makes the host keep is allocated while one of the container's
//! futures is polled: values of its calls, entries of its resource tables, buffers of its streams,
//! HTTP fields and bodies, tasks. So this is the one place that sees it all, whatever library it
//! comes from.
//!
//! ```text
//! poll of a guest ─ enter(account) ─▶ this thread's account ─▶ allocate: charged to it
//!                                                                  │
//!                     [ account | bytes of the allocation … ] ◀────┘
//!                         │
//!                         └─▶ free, on any thread and at any time: taken off it
//! ```
//!
//! An allocation is charged with what it takes from the system's allocator (`footprint`): the
//! entries of a table may be so small that this is twice their own size.
//!
//! An allocator cannot refuse without ending the process. Beyond the limit it calls the container's
//! alarm, which makes the guest yield; after that poll the engine looks at the account and ends the
//! guest ([`Memory::check`](super::memory::Memory::check)). What one call of the host allocates
//! before the guest can yield is bounded where that call is made.
//!
//! A binary that runs guests declares it:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: Charging = Charging;
//! ```
//!
//! Without it guests are charged for their memories, tables and stacks only.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    marker::PhantomData,
    ptr,
};

use super::account::Account;

/// Called when a container is beyond its limit. Must not block.
pub(super) type Alarm = Box<dyn Fn() + Send + Sync>;

/// Bytes that a thread allocates or frees before it adds them to the account.
// Not each time: workers would contend for the counter of a container that runs on several.
const BATCH: i64 = 64 << 10;

/// Account, alarm and uncounted bytes of the poll on this thread.
struct Current {
    account: Cell<*const Account>,
    alarm: Cell<*const Alarm>,
    pending: Cell<i64>,
}

thread_local! {
    // `const` and without a destructor: an access neither allocates nor fails, at any time of the
    // thread's life.
    static CURRENT: Current = const {
        Current {
            account: Cell::new(ptr::null()),
            alarm: Cell::new(ptr::null()),
            pending: Cell::new(0),
        }
    };
}

/// The system's allocator with an account for each allocation. See the [module](self).
#[derive(Debug)]
pub struct Charging;

/// A poll whose allocations are charged. Ends with its drop, on the same thread.
pub(super) struct Entered<'a> {
    account: *const Account,
    alarm: *const Alarm,
    /// The account outlives the poll, and the value stays on its thread.
    poll: PhantomData<(&'a Account, *const ())>,
}

/// Charges this thread's allocations to `account` until the drop of the returned value.
pub(super) fn enter<'a>(account: &'static Account, alarm: Option<&'a Alarm>) -> Entered<'a> {
    flush();
    CURRENT.with(|current| Entered {
        account: current.account.replace(account),
        alarm: current.alarm.replace(alarm.map_or(ptr::null(), ptr::from_ref)),
        poll: PhantomData,
    })
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        flush();
        CURRENT.with(|current| {
            current.account.set(self.account);
            current.alarm.set(self.alarm);
        });
    }
}

/// Adds what this thread has not yet added to its account.
pub(super) fn flush() {
    CURRENT.with(|current| add(current, current.pending.take()));
}

fn add(current: &Current, bytes: i64) {
    if bytes == 0 {
        return;
    }
    // SAFETY: null outside of polls, else an account, and those are never freed.
    let Some(account) = (unsafe { current.account.get().as_ref() }) else { return };
    if account.add_host(bytes) {
        // SAFETY: null, or borrowed by the `Entered` that set it, whose drop takes it away.
        if let Some(alarm) = unsafe { current.alarm.get().as_ref() } {
            alarm();
        }
    }
}

/// Charges a new allocation of `size` bytes to this thread's account, which is returned. Null
/// without one.
fn charge(size: usize) -> *const Account {
    CURRENT.with(|current| {
        let account = current.account.get();
        if !account.is_null() {
            count(current, signed(footprint(size)));
        }
        account
    })
}

/// Takes bytes off the account of their allocation, or adds them.
fn settle(account: *const Account, bytes: i64) {
    if account.is_null() {
        return;
    }
    CURRENT.with(|current| {
        if current.account.get() == account {
            count(current, bytes);
            return;
        }
        // SAFETY: not null, and accounts are never freed.
        let account = unsafe { &*account };
        // No alarm: this thread's is that of another guest.
        account.add_host(bytes);
    });
}

fn count(current: &Current, bytes: i64) {
    let pending = current.pending.get() + bytes;
    if pending.abs() < BATCH {
        current.pending.set(pending);
    } else {
        current.pending.set(0);
        add(current, pending);
    }
}

/// A size as a difference. Layouts are `isize::MAX` bytes at most.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Bytes that glibc's allocator takes for an allocation of `size` bytes: with the size in front of
/// them, in steps of 16, and 32 at least.
// Without the rest of the last page of a large one, which has pages of its own.
const fn footprint(size: usize) -> usize {
    let chunk = size.saturating_add(size_of::<usize>() + 15) & !15;
    if chunk < 32 { 32 } else { chunk }
}

/// Layout of an allocation with its account in front, and the offset of the caller's bytes.
fn with_account(layout: Layout) -> Option<(Layout, usize)> {
    let offset = layout.align().max(size_of::<*const Account>());
    let size = layout.size().checked_add(offset)?;
    Some((Layout::from_size_align(size, offset).ok()?, offset))
}

/// Writes the account in front of the caller's bytes. Returns the address of these.
///
/// # Safety
/// `base` is null, or an allocation with the layout `whole` that belongs to `offset`.
unsafe fn named(base: *mut u8, offset: usize, whole: Layout) -> *mut u8 {
    if base.is_null() {
        return base;
    }
    // SAFETY: `offset` is within the allocation, and at least a pointer's size from its begin.
    let user = unsafe { base.add(offset) };
    // SAFETY: in front of `user` is room for a pointer, aligned like `user`, at least to 8 bytes.
    unsafe { user.cast::<*const Account>().sub(1).write(charge(whole.size())) };
    user
}

/// The account that [`named`] has written.
///
/// # Safety
/// `user` was returned by [`named`].
unsafe fn account_of(user: *mut u8) -> *const Account {
    // SAFETY: written there by `named`, and nothing else writes in front of the caller's bytes.
    unsafe { user.cast::<*const Account>().sub(1).read() }
}

// SAFETY: all memory is `System`'s, which keeps the contract. Each of its allocations has the
// caller's size and `offset` bytes in front, and `offset` is a multiple of the caller's alignment.
unsafe impl GlobalAlloc for Charging {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, offset)) = with_account(layout) else { return ptr::null_mut() };
        // SAFETY: the size is not 0.
        unsafe { named(System.alloc(whole), offset, whole) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((whole, offset)) = with_account(layout) else { return ptr::null_mut() };
        // SAFETY: the size is not 0.
        unsafe { named(System.alloc_zeroed(whole), offset, whole) }
    }

    unsafe fn dealloc(&self, user: *mut u8, layout: Layout) {
        // Never absent: the allocation has succeeded with the same layout.
        let Some((whole, offset)) = with_account(layout) else { return };
        // SAFETY: the caller got `user` from this allocator.
        settle(unsafe { account_of(user) }, -signed(footprint(whole.size())));
        // SAFETY: the begin and the layout of the allocation.
        unsafe { System.dealloc(user.sub(offset), whole) };
    }

    unsafe fn realloc(&self, user: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some((whole, offset)) = with_account(layout) else { return ptr::null_mut() };
        let Some(total) = size.checked_add(offset) else { return ptr::null_mut() };
        // SAFETY: the caller got `user` from this allocator.
        let account = unsafe { account_of(user) };
        // SAFETY: the begin and the layout of the allocation; `total` is not 0.
        let base = unsafe { System.realloc(user.sub(offset), whole, total) };
        if base.is_null() {
            return base;
        }
        settle(account, signed(footprint(total)) - signed(footprint(whole.size())));
        // SAFETY: `offset` is within the allocation.
        unsafe { base.add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::resources::account::FREE;

    /// Allocates by `Charging` itself, since the tests' own allocator is another.
    struct Bytes(*mut u8, Layout);

    // SAFETY: memory may be freed on any thread.
    unsafe impl Send for Bytes {}

    impl Bytes {
        fn new(size: usize, align: usize) -> Self {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: no size of the tests is 0.
            let begin = unsafe { Charging.alloc_zeroed(layout) };
            assert!(!begin.is_null() && begin.addr() % align == 0);
            // SAFETY: within the allocation.
            unsafe { begin.write_bytes(7, size) };
            Self(begin, layout)
        }

        fn resize(&mut self, size: usize) {
            // SAFETY: from this allocator, with this layout.
            self.0 = unsafe { Charging.realloc(self.0, self.1, size) };
            // SAFETY: the first byte is within the allocation.
            assert_eq!(unsafe { self.0.read() }, 7);
            self.1 = Layout::from_size_align(size, self.1.align()).unwrap();
        }
    }

    impl Drop for Bytes {
        fn drop(&mut self) {
            // SAFETY: from this allocator, with this layout.
            unsafe { Charging.dealloc(self.0, self.1) };
        }
    }

    /// Size of an allocation that is charged with so many bytes.
    fn charged_with(bytes: u64) -> usize {
        usize::try_from(bytes).unwrap() - size_of::<*const Account>() - size_of::<usize>()
    }

    /// Charged bytes, without the free part.
    fn charged(account: &Account) -> u64 {
        flush();
        account.total()
    }

    #[test]
    fn allocations_of_a_poll_are_charged_until_they_are_freed_anywhere() {
        let account = Account::open(u64::MAX);
        let before = Bytes::new(1 << 20, 8);
        let entered = enter(account, None);
        let free = Bytes::new(charged_with(FREE), 8);
        assert_eq!(charged(account), 0);
        let mut kept: Vec<_> = [1, 8, 16, 64, 4096].map(|align| Bytes::new(1000, align)).into();
        // Each with its account, padded to its alignment, in front.
        assert_eq!(charged(account), 3 * 1024 + 1072 + 5104);
        kept[0].resize(3000);
        kept[4].resize(500);
        assert_eq!(charged(account), 3024 + 2 * 1024 + 1072 + 4608);
        drop(before);
        assert_eq!(charged(account), 3024 + 2 * 1024 + 1072 + 4608, "it was not this guest's");
        let inner = enter(Account::open(u64::MAX), None);
        drop(kept.pop());
        drop(inner);
        assert_eq!(charged(account), 3024 + 2 * 1024 + 1072);
        drop(entered);
        kept[1].resize(2000);
        assert_eq!(charged(account), 3024 + 2016 + 1024 + 1072, "it stays the guest's");
        std::thread::spawn(move || drop(kept)).join().unwrap();
        assert_eq!(charged(account), 0);
        drop(free);
        account.retire();
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn footprint_is_what_the_systems_allocator_takes() {
        for size in (1..5000).step_by(7) {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the size is not 0.
            let begin = unsafe { System.alloc(layout) };
            // SAFETY: an allocation of this allocator.
            let usable = unsafe { libc::malloc_usable_size(begin.cast()) };
            // SAFETY: the allocation, with its layout.
            unsafe { System.dealloc(begin, layout) };
            // A part of a freed one that is too small for others may be given with it.
            let taken = usable + size_of::<usize>();
            assert!((footprint(size)..footprint(size) + 32).contains(&taken), "{size}: {taken}");
        }
    }

    #[test]
    fn the_alarm_is_raised_beyond_the_limit_and_at_once() {
        let account = Account::open(1 << 20);
        let raised = Arc::new(AtomicUsize::new(0));
        let counter = raised.clone();
        let alarm: Alarm = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let entered = enter(account, Some(&alarm));
        let within = Bytes::new(charged_with(FREE + (1 << 20)), 8);
        assert_eq!(raised.load(Ordering::Relaxed), 0);
        let beyond: Vec<_> = (0..4).map(|_| Bytes::new(BATCH as usize, 8)).collect();
        assert_eq!(raised.load(Ordering::Relaxed), 1);
        assert!(account.check().is_err());
        drop((within, beyond));
        flush();
        assert_eq!(account.check(), Ok(()));
        drop(entered);
        account.retire();
    }
}
