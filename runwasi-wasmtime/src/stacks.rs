//! Stacks of the calls of one store that are in progress.
//!
//! A call of the guest's code has a stack of its own, or is nested in another one on its stack: the
//! host calls the guest for memory. wasmtime does not tell which it is, but the address of the call
//! does.
//!
//! After their calls wasmtime keeps two stacks for a store, an idle worker's and the one of the
//! last call, and uses them for the next calls. So a store has no more stacks than
//!
//! - it has had calls at once, and than
//! - it has calls now, and two.
//!
//! Two of them need no reservation but the store's: nearly every asynchronous component has a
//! second one at times, and the pool has as many more stacks as a container may have stores.

/// Part of a guest's stack for its own calls, in bytes. The rest is for host functions.
pub(crate) const STACK: usize = 512 << 10;
/// All of a guest's stack.
pub(crate) const STACK_WITH_HOST: usize = 2 << 20;

/// Stacks that wasmtime may keep for a store beyond those of its calls.
const KEPT: usize = 2;
/// Stacks that a store may have without a further reservation.
const WITHIN: usize = 2;
/// Addresses of nested calls are at most so far below that of their stack's first call: calls of
/// the guest are at the begin of a stack, and the first calls of two stacks are one stack apart.
const DEPTH: usize = STACK_WITH_HOST / 4 * 3;
/// Addresses of a call's begin and end may differ so much.
const TOLERANCE: usize = 16 << 10;

/// Stacks of a store.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    /// Stacks of the calls in progress.
    in_use: Vec<Stack>,
    /// Stacks that it may have beyond [`WITHIN`].
    further: u32,
}

#[derive(Debug)]
struct Stack {
    /// Address of its first call.
    begin: usize,
    /// Its calls in progress.
    calls: u32,
}

impl Stack {
    fn has(&self, at: usize) -> bool {
        (self.begin + TOLERANCE).checked_sub(at).is_some_and(|depth| depth < DEPTH)
    }
}

impl Stacks {
    /// Stacks that the store may have by further reservations.
    pub(crate) fn further(&self) -> u32 {
        self.further
    }

    /// True if a call at this address is on a stack beyond those that the store may have.
    pub(crate) fn lack_one_for(&self, at: usize) -> bool {
        self.index(at).is_none() && self.in_use.len() >= self.further as usize + WITHIN
    }

    /// Counts a call at this address. The store may have the stack that it lacks for it.
    pub(crate) fn begin(&mut self, at: usize) {
        self.further += u32::from(self.lack_one_for(at));
        let known = self.index(at).and_then(|index| self.in_use.get_mut(index));
        match known {
            Some(stack) => stack.calls += 1,
            None => self.in_use.push(Stack { begin: at, calls: 1 }),
        }
    }

    /// Counts the end of a call at this address. True if the store may have one stack less then.
    pub(crate) fn end(&mut self, at: usize) -> bool {
        if let Some(index) = self.index(at)
            && let Some(stack) = self.in_use.get_mut(index)
        {
            stack.calls -= 1;
            if stack.calls == 0 {
                self.in_use.swap_remove(index);
            }
        }
        let has_less = self.further as usize + WITHIN > self.in_use.len() + KEPT;
        self.further -= u32::from(has_less);
        has_less
    }

    /// Takes back the begin of a call at this address, for which the store lacked a stack.
    pub(crate) fn take_back(&mut self, at: usize) {
        self.in_use.retain(|stack| !stack.has(at));
        self.further -= 1;
    }

    fn index(&self, at: usize) -> Option<usize> {
        // From the newest on: nearly always the only one.
        self.in_use.iter().rposition(|stack| stack.has(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Address of a call on one of some stacks beside each other, with so many bytes above it.
    fn at(stack: usize, depth: usize) -> usize {
        (stack + 9) * (STACK_WITH_HOST + 4096) - depth
    }

    #[test]
    fn nested_calls_are_on_one_stack() {
        let mut stacks = Stacks::default();
        for stack in [1, 5] {
            stacks.begin(at(stack, 2000));
        }
        // The largest depth of a guest that calls the host, which calls it again.
        for depth in [1 << 20, 5000, 2000 + (512 << 10)] {
            for other in [0, 2, 4, 6] {
                assert!(stacks.lack_one_for(at(other, depth)), "{other}, {depth}");
            }
            for known in [1, 5] {
                assert!(!stacks.lack_one_for(at(known, depth)));
                stacks.begin(at(known, depth));
                assert!(!stacks.end(at(known, depth)));
            }
        }
        for stack in [1, 5] {
            assert!(!stacks.end(at(stack, 1990)));
        }
        assert_eq!((stacks.in_use.len(), stacks.further()), (0, 0));
    }

    #[test]
    fn stacks_are_as_many_as_calls_at_once_and_two_more_than_now() {
        let mut stacks = Stacks::default();
        for n in 0..6 {
            assert_eq!(stacks.lack_one_for(at(n, 0)), n > 1);
            stacks.begin(at(n, 0));
        }
        assert_eq!(stacks.further(), 4);
        let ends = [0, 1, 2, 3, 4, 5].map(|n| (stacks.end(at(n, 0)), stacks.further()));
        let wanted = [(false, 4), (false, 4), (true, 3), (true, 2), (true, 1), (true, 0)];
        assert_eq!(ends, wanted);
        // Two are kept.
        for n in [7, 8] {
            assert!(!stacks.lack_one_for(at(n, 0)));
            stacks.begin(at(n, 0));
        }
        assert!(stacks.lack_one_for(at(9, 0)));
        stacks.begin(at(9, 0));
        stacks.take_back(at(9, 0));
        assert_eq!((stacks.in_use.len(), stacks.further()), (2, 0));
    }
}
