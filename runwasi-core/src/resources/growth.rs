//! Growth of one guest, charged to the memory of its container: the decisions of an engine's
//! limiter.

use super::memory::{BeyondLimit, Charge, Memory};

/// Growth of a guest.
#[derive(Debug)]
pub struct Growth {
    charge: Charge,
    /// Bytes reserved for the current growth, released if it fails for another reason.
    pending: u64,
    /// True once the guest has started.
    running: bool,
    /// The last growth that was refused and ends the guest.
    refused: Option<BeyondLimit>,
}

impl Growth {
    /// Charges what the guest has in any case: its stack.
    pub fn new(mut charge: Charge, stack: u64) -> Result<Self, BeyondLimit> {
        charge.reserve(stack)?;
        Ok(Self { charge, pending: 0, running: false, refused: None })
    }

    /// Marks the end of the instantiation.
    pub fn started(&mut self) {
        // From now on a growth can be refused. Without its initial memory a guest cannot start.
        self.running = true;
    }

    /// Decides on a growth, which may exceed the limit by `slack`. `false`: it fails in the guest,
    /// as the container wants it. An error ends the guest.
    pub fn grow(&mut self, bytes: usize, slack: u64) -> Result<bool, BeyondLimit> {
        let bytes = bytes as u64;
        // A growth that has not failed by now has succeeded: its bytes stay charged.
        self.pending = 0;
        match self.charge.reserve_with_slack(bytes, slack) {
            Ok(()) => {
                self.pending = bytes;
                Ok(true)
            }
            Err(_) if self.running && self.memory().refuses() => Ok(false),
            Err(beyond) => {
                self.refused = Some(beyond);
                Err(beyond)
            }
        }
    }

    /// Charges a further stack of the guest.
    pub fn add_stack(&mut self, bytes: u64) -> Result<(), BeyondLimit> {
        self.charge.reserve(bytes)
    }

    /// Releases a further stack.
    pub fn remove_stack(&mut self, bytes: u64) {
        self.charge.release(bytes);
    }

    /// Takes the last growth back: it has failed after it was allowed.
    ///
    /// Only for the failure of that very growth. One that succeeded is pending until the next one,
    /// and the failure of a growth that was never asked for would release its bytes.
    pub fn failed(&mut self) {
        self.charge.release(std::mem::take(&mut self.pending));
    }

    /// The growth that ends the guest.
    pub fn refused(&self) -> Option<BeyondLimit> {
        self.refused
    }

    /// The container's memory.
    pub fn memory(&self) -> &Memory {
        self.charge.memory()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn growth(refuse: bool) -> Growth {
        Growth::new(Arc::new(Memory::new(Some(100), refuse)).charge(), 10).unwrap()
    }

    #[test]
    fn growth_beyond_the_limit_ends_the_guest_and_is_kept() {
        let mut growth = growth(false);
        growth.started();
        assert_eq!(growth.grow(90, 0), Ok(true));
        let beyond = growth.grow(1, 0).unwrap_err();
        assert_eq!(growth.refused(), Some(beyond));
    }

    #[test]
    fn growth_that_has_failed_is_released_once() {
        let mut growth = growth(false);
        growth.grow(20, 0).unwrap();
        growth.grow(30, 0).unwrap();
        growth.failed();
        growth.failed();
        assert_eq!(growth.memory().usage().used, 30);
    }

    #[test]
    fn further_stacks_are_charged_until_they_are_removed() {
        let mut growth = growth(true);
        growth.started();
        growth.add_stack(60).unwrap();
        assert!(growth.add_stack(60).is_err());
        assert_eq!(growth.grow(40, 0), Ok(false));
        growth.remove_stack(60);
        assert_eq!(growth.grow(40, 0), Ok(true));
        assert_eq!(growth.memory().usage().used, 50);
    }

    #[test]
    fn growth_is_refused_only_to_a_guest_that_has_started() {
        let mut growth = growth(true);
        assert!(growth.grow(91, 0).is_err());
        growth.started();
        assert_eq!(growth.grow(91, 0), Ok(false));
    }
}
