//! Sizes of the pools, and the part of each that one container may have, by the settings.
//!
//! A setting that is absent follows from `slots`, and from the limits of the OS process: its memory
//! maps, its addresses and its descriptors.

use runwasi_core::resources::{descriptors, maps};

use crate::{
    maps::PER_MEMORY,
    settings::{MAX_MEMORIES, MEMORY_SIZE, Settings},
};

/// Memory maps of a stack: the stack and its guard.
const MAPS_PER_STACK: u64 = 2;

/// Stacks of a pool beyond the slots, at least.
const LEAST_SPARE_STACKS: u32 = 8;

/// Share of a container in a pool, as a divisor of the pool.
const SHARE: u32 = 8;
/// Share of a container in a small pool, where an eighth would be too little for a server.
const COMMON_SHARE: u32 = 256;
/// File descriptors of one container where an eighth would be less: those of one process by
/// containerd's default.
const PROCESS_DESCRIPTORS: u32 = 1024;
/// Largest share of file descriptors.
const MOST_DESCRIPTORS: u32 = 1_000_000;
/// Rest of a small pool that one container leaves to others, as a divisor of the pool.
const REST: u32 = 4;

impl Settings {
    /// These settings, with the numbers that follow from `slots`.
    pub(crate) fn with_room(&self) -> Self {
        Self {
            memories: Some(self.room_for_memories()),
            tables: Some(self.room_for_tables()),
            memory_maps: Some(self.room_for_maps()),
            container_stacks: Some(self.share_of_stacks()),
            container_memories: Some(self.share_of_memories()),
            container_tables: Some(self.share_of_tables()),
            container_descriptors: Some(self.share_of_descriptors()),
            ..self.clone()
        }
    }

    /// Settings of a second pool, with the slots for requests beyond `slots`: as many as the memory
    /// maps suffice for. Absent without such.
    pub(crate) fn of_requests(&self) -> Option<Self> {
        // The rest of the maps is for the first pool, which does not count these.
        let slots = self.slots_within(self.wanted_for_requests(), self.room_for_maps() / REST);
        let mut settings = self.with_slots_for_requests(slots);
        // No guest but servers draws from it, so one of them may take most of it.
        let most = |total: u32| Some(total - total / REST);
        settings.container_memories = most(settings.room_for_memories());
        settings.container_tables = most(settings.room_for_tables());
        settings.container_stacks = most(slots);
        (slots > 0).then_some(settings)
    }

    /// Slots for requests by the settings, whether the memory maps suffice for them or not.
    pub(crate) fn wanted_for_requests(&self) -> u32 {
        let bounds = [
            self.memories,
            self.tables,
            self.memory_maps,
            self.container_stacks,
            self.container_memories,
            self.container_tables,
        ];
        // A bound that was set holds for all there is.
        if bounds.iter().any(Option::is_some) {
            return 0;
        }
        self.request_slots.saturating_sub(self.slots)
    }

    fn with_slots_for_requests(&self, slots: u32) -> Self {
        // Its code is that of the first pool, not from the cache.
        Self { slots, request_slots: 0, cache: None, ..self.clone() }
    }

    /// The most slots for requests, `wanted` at most, that need no more than these memory maps.
    fn slots_within(&self, wanted: u32, most: u32) -> u32 {
        let fits = |slots: u32| {
            let memories = self.with_slots_for_requests(slots).room_for_memories();
            let stacks = self.with_slots_for_requests(slots).stacks_of_requests();
            MAPS_PER_STACK * u64::from(stacks) + PER_MEMORY * u64::from(memories) <= u64::from(most)
        };
        let mut fitting = 0;
        let mut beyond = wanted.saturating_add(1);
        while beyond - fitting > 1 {
            let middle = fitting.midpoint(beyond);
            if fits(middle) {
                fitting = middle;
            } else {
                beyond = middle;
            }
        }
        fitting
    }

    /// Linear memories that there is room for.
    pub(crate) fn room_for_memories(&self) -> u32 {
        // One guest may have several, but hardly all have; nor can all have an address space each.
        let by_slots = || self.slots.saturating_add(self.slots / 2).min(self.memories_by_maps());
        let by_addresses = (MAX_MEMORIES * MEMORY_SIZE / self.memory_size).max(1);
        self.memories.unwrap_or_else(by_slots).min(by_addresses)
    }

    /// Memories whose maps suffice even if each was in use once: its maps stay.
    fn memories_by_maps(&self) -> u32 {
        let of_stacks = MAPS_PER_STACK * u64::from(self.stacks());
        let left = u64::from(self.room_for_maps()).saturating_sub(of_stacks);
        u32::try_from(left / PER_MEMORY).unwrap_or(u32::MAX).max(1)
    }

    /// Stacks of the pool: one for each slot, and one more for each store that one container may
    /// have.
    // A store may have two stacks with one reservation (see `stacks`), so a container that has all
    // of its share leaves all of the rest to others.
    pub(crate) fn stacks(&self) -> u32 {
        self.slots.saturating_add(self.share_of_stacks().max(LEAST_SPARE_STACKS))
    }

    /// Stacks of a pool for requests. Most components need one: a request without a stack waits, or
    /// is told to come later.
    pub(crate) fn stacks_of_requests(&self) -> u32 {
        self.slots.saturating_add((self.slots / SHARE).max(LEAST_SPARE_STACKS))
    }

    /// Tables that there is room for.
    pub(crate) fn room_for_tables(&self) -> u32 {
        self.tables.unwrap_or_else(|| self.slots.saturating_mul(2))
    }

    /// Memory maps of the OS process at which no further guest starts.
    fn room_for_maps(&self) -> u32 {
        let kernel = u32::try_from(maps::limit_for_guests()).unwrap_or(u32::MAX);
        self.memory_maps.map_or(kernel, |most| most.min(kernel))
    }

    /// Stacks of one container: its processes and requests at once.
    pub(crate) fn share_of_stacks(&self) -> u32 {
        self.container_stacks.unwrap_or_else(|| share(self.slots))
    }

    /// Linear memories of one container.
    pub(crate) fn share_of_memories(&self) -> u32 {
        self.container_memories.unwrap_or_else(|| share(self.room_for_memories()))
    }

    /// Tables of one container.
    pub(crate) fn share_of_tables(&self) -> u32 {
        self.container_tables.unwrap_or_else(|| share(self.room_for_tables()))
    }

    /// File descriptors of one container.
    pub(crate) fn share_of_descriptors(&self) -> u32 {
        self.container_descriptors.unwrap_or_else(|| {
            let all = u32::try_from(descriptors::within_limits()).unwrap_or(u32::MAX);
            // At least those of one ordinary process, as long as others keep a part.
            (all / SHARE).max(PROCESS_DESCRIPTORS.min(all - all / REST)).min(MOST_DESCRIPTORS)
        })
    }
}

/// Default share of one container in a pool of `total`.
fn share(total: u32) -> u32 {
    (total / SHARE).max(COMMON_SHARE.min(total - total / REST))
}

#[cfg(test)]
mod tests {
    use runwasi_core::settings::RawSettings;

    use super::*;

    fn read(text: &str) -> Settings {
        let raw = RawSettings::parse("f", text.as_bytes(), |_| true).unwrap();
        raw.read(&Settings::default()).unwrap()
    }

    #[test]
    fn memories_by_default_are_no_more_than_the_maps_suffice_for() {
        let memories = |text| read(text).room_for_memories();
        assert_eq!(memories("slots = 100\n[engine]\nmemory-maps = 1000"), 150);
        // 1000 less two for each of 350 stacks, by four.
        assert_eq!(memories("slots = 200\n[engine]\nmemory-maps = 1000"), 75);
        assert_eq!(memories("slots = 1000\n[engine]\nmemory-maps = 1000"), 1);
        assert_eq!(memories("slots = 200\n[engine]\nmemory-maps = 1000\nmemories = 300"), 300);
        // 80,000 GiB of addresses.
        assert_eq!(memories("[engine]\nmemories = 20000"), 20_000);
        assert_eq!(memories("[engine]\nmemories = 20000\nmemory-size = 64"), 1250);
    }

    #[test]
    fn slots_for_requests_are_those_beyond_all_slots() {
        let slots = |text: &str| read(text).of_requests().map(|settings| settings.slots);
        assert_eq!(slots(""), Some(500));
        let settings = Settings::default().of_requests().unwrap();
        assert_eq!((settings.share_of_stacks(), settings.share_of_tables()), (375, 750));
        assert_eq!(slots("slots = 300\n[engine]\nrequest-slots = 400"), Some(100));
        for none in ["slots = 1000", "[engine]\nrequest-slots = 0", "[engine]\nrequest-slots = 99"]
        {
            assert_eq!(slots(none), None, "{none}");
        }
        for set in ["memories", "tables", "memory-maps", "container-stacks"] {
            assert_eq!(slots(&format!("[engine]\n{set} = 1000")), None, "{set}");
        }
    }

    #[test]
    fn slots_for_requests_beyond_the_memory_maps_are_fewer() {
        let settings = read("[engine]\nrequest-slots = 100000");
        assert_eq!(settings.wanted_for_requests(), 99_900);
        // Two maps for each of 2199 stacks, and four for each of 2932 memories.
        assert_eq!(settings.slots_within(99_900, 16_132), 1955);
        assert_eq!(settings.slots_within(1954, 16_132), 1954);
        assert_eq!([0, 5].map(|most| settings.slots_within(99_900, most)), [0; 2]);
        assert_eq!(settings.with_slots_for_requests(1955).stacks_of_requests(), 2199);
        // By the limit of this machine.
        let slots = settings.of_requests().unwrap().slots;
        assert!((500..=99_900).contains(&slots), "{slots}");
    }

    #[test]
    fn pool_has_two_stacks_for_each_store_of_one_container() {
        let stacks = |slots: u32| Settings { slots, ..Settings::default() }.stacks();
        assert_eq!([1, 8, 100, 1000, 10_752].map(stacks), [9, 16, 175, 1256, 12_096]);
        assert_eq!(read("slots = 100\n[engine]\ncontainer-stacks = 90").stacks(), 190);
    }

    #[test]
    fn one_container_leaves_a_part_of_every_pool_to_others() {
        assert_eq!([4, 100, 150, 1000, 10_755].map(share), [3, 75, 113, 256, 1344]);
        let settings = read("slots = 8\n[engine]\nmemories = 16\ncontainer-tables = 9");
        let shares = (settings.share_of_stacks(), settings.share_of_memories());
        assert_eq!((shares, settings.share_of_tables()), ((6, 12), 9));
    }
}
