//! Addresses that lookups of listed names have returned, each with its allowed port. Their number
//! is bounded: those that were returned longest ago are forgotten first.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

/// Largest number of addresses that are remembered.
const MOST: usize = 4096;

/// An address, and the port that its item allows. Without it every port is allowed.
type Learned = (IpAddr, Option<u16>);

/// The remembered addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// Each with the number of its last return.
    numbers: HashMap<Learned, u64>,
    /// All returns, the oldest first. Those of an address that was returned again count no more.
    // Not searched: a lookup may return some hundred addresses, for each of which it would be.
    returns: VecDeque<(Learned, u64)>,
    last: u64,
}

impl Addresses {
    /// Remembers the addresses for the ports, as returned in this order. Those that would be
    /// forgotten at once are left out.
    pub(super) fn add(&mut self, addresses: &[IpAddr], ports: &[Option<u16>]) {
        let backwards = ports
            .iter()
            .rev()
            .flat_map(|port| addresses.iter().rev().map(|address| (address.to_canonical(), *port)));
        let newest: Vec<_> = backwards.take(MOST).collect();
        newest.into_iter().rev().for_each(|learned| self.add_one(learned));
    }

    fn add_one(&mut self, learned: Learned) {
        self.last += 1;
        // A name in use keeps its addresses: its last return counts.
        self.numbers.insert(learned, self.last);
        self.returns.push_back((learned, self.last));
        while self.numbers.len() > MOST
            && let Some((oldest, number)) = self.returns.pop_front()
        {
            if self.numbers.get(&oldest) == Some(&number) {
                self.numbers.remove(&oldest);
            }
        }
        if self.returns.len() >= 2 * MOST {
            let Self { numbers, returns, .. } = self;
            returns.retain(|(learned, number)| numbers.get(learned) == Some(number));
        }
    }

    /// True if the address is remembered with this port, or with every port.
    pub(super) fn has(&self, address: IpAddr, port: u16) -> bool {
        [None, Some(port)].iter().any(|port| self.numbers.contains_key(&(address, *port)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn address(n: usize) -> IpAddr {
        IpAddr::from(u32::try_from(n).unwrap().to_be_bytes())
    }

    #[test]
    fn oldest_addresses_are_forgotten_first() {
        let mut addresses = Addresses::default();
        for n in 0..MOST {
            addresses.add(&[address(n)], &[None]);
        }
        // In use again.
        for _ in 0..3 * MOST {
            addresses.add(&[address(0)], &[None]);
        }
        addresses.add(&[address(MOST)], &[Some(5)]);
        assert!(addresses.has(address(0), 1) && !addresses.has(address(1), 1));
        assert!(addresses.has(address(2), 1) && addresses.has(address(MOST), 5));
        assert!(!addresses.has(address(MOST), 6));
        assert_eq!(addresses.numbers.len(), MOST);
        assert!(addresses.returns.len() < 2 * MOST, "{}", addresses.returns.len());
    }

    #[test]
    fn many_addresses_for_many_ports_are_learned_within_a_turn() {
        let found: Vec<_> = (0..512).map(address).collect();
        let ports: Vec<_> = (1..=1024).map(Some).collect();
        let mut addresses = Addresses::default();
        addresses.add(&found, &ports);
        let shortest = (0..20).map(|_| {
            let began = Instant::now();
            addresses.add(&found, &ports);
            began.elapsed()
        });
        // Each pair on its own took seconds.
        let shortest = shortest.min().unwrap();
        assert!(shortest < Duration::from_millis(50), "{shortest:?}");
        println!("512 addresses for 1024 ports: {shortest:?}");
        assert!(addresses.has(address(0), 1024) && addresses.has(address(511), 1017));
        assert!(!addresses.has(address(511), 1016));
    }
}
