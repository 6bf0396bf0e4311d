//! Shares of the pool: the stacks, linear memories and tables of one container, and of all.
//!
//! Each store reserves for its whole life: one stack, and the memories and tables of its program. A
//! reservation counts twice, for the container and for the node. So a container takes no more than
//! its share, and a start that does not fit is refused before any code of the guest runs.
//!
//! A component may have several calls in progress, each on a stack of its own: an asynchronous call
//! of another component goes on beside its caller. So a store reserves its third [stack](Stacks)
//! and each further one as well, and ends if there is none.
//!
//! A heap of collected objects lies in a memory of the pool, which a program does not name among
//! its own. It is reserved when it is made ([`Memories`]).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use runwasi_core::{EngineError, InstanceSpec, engine::Pool, resources::descriptors::Descriptors};
use wasmtime::ResourcesRequired;

use crate::{maps::Maps, settings::Settings, stacks::Stacks};

/// A bounded resource of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Stacks,
    Memories,
    Tables,
    /// Memory maps, by the bound of the settings. They are estimated, not reserved.
    Maps,
    /// Memory maps, by the kernel's bound.
    KernelMaps,
}

const RESOURCES: [Resource; 3] = [Resource::Stacks, Resource::Memories, Resource::Tables];

/// One number for each [`Resource`], in the order of [`RESOURCES`].
type Numbers = [u32; RESOURCES.len()];

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Self::Stacks => "instance slots",
            Self::Memories => "linear memories",
            Self::Tables => "tables",
            Self::Maps | Self::KernelMaps => "memory maps",
        }
    }

    /// Key that raises the bound of the node.
    fn node_setting(self) -> &'static str {
        match self {
            Self::Stacks => "slots",
            Self::Memories => "engine.memories",
            Self::Tables => "engine.tables",
            Self::Maps => "engine.memory-maps",
            Self::KernelMaps => "vm.max_map_count",
        }
    }

    /// Key that raises the bound of each container.
    fn container_setting(self) -> &'static str {
        match self {
            Self::Stacks => "engine.container-stacks",
            // A container's maps are bounded by its memories.
            Self::Memories | Self::Maps | Self::KernelMaps => "engine.container-memories",
            Self::Tables => "engine.container-tables",
        }
    }
}

/// Reserved numbers, and their limits.
#[derive(Debug)]
pub(crate) struct Account {
    limits: Numbers,
    used: [AtomicU32; RESOURCES.len()],
    /// Memory maps of the process, which only the account of all containers has.
    maps: Option<Maps>,
}

/// Account of one container in the slots for requests.
struct OfRequests(Arc<Account>);

/// A resource that an account lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lack {
    resource: Resource,
    wanted: u32,
    used: u32,
    limit: u32,
}

impl Account {
    /// The account of all containers.
    pub(crate) fn of_node(settings: &Settings) -> Self {
        let limits = [settings.slots, settings.room_for_memories(), settings.room_for_tables()];
        Self { maps: Some(Maps::of_process(settings.memory_maps)), ..Self::new(limits) }
    }

    /// The account of one container.
    fn of_container(settings: &Settings) -> Self {
        Self::new([
            settings.share_of_stacks(),
            settings.share_of_memories(),
            settings.share_of_tables(),
        ])
    }

    fn new(limits: Numbers) -> Self {
        Self { limits, used: Default::default(), maps: None }
    }

    /// Reserves all numbers or none.
    fn reserve(&self, numbers: &Numbers) -> Result<(), Lack> {
        for (index, resource) in RESOURCES.into_iter().enumerate() {
            if let Err(lack) = self.reserve_one(index, resource, numbers[index]) {
                for (used, done) in self.used.iter().zip(numbers).take(index) {
                    used.fetch_sub(*done, Relaxed);
                }
                return Err(lack);
            }
        }
        self.check_maps(numbers).inspect_err(|_| self.release(numbers))
    }

    /// Checks the maps of memories that are reserved already.
    fn check_maps(&self, numbers: &Numbers) -> Result<(), Lack> {
        let Some(maps) = &self.maps else { return Ok(()) };
        let memories = self.memories();
        let estimate = maps.estimate(memories);
        if estimate <= maps.limit() {
            return Ok(());
        }
        let number = |maps: u64| u32::try_from(maps).unwrap_or(u32::MAX);
        let before = memories.saturating_sub(numbers[Resource::Memories as usize]);
        let used = maps.estimate(before);
        let wanted = number(estimate - used);
        let resource = if maps.is_kernels() { Resource::KernelMaps } else { Resource::Maps };
        Err(Lack { resource, wanted, used: number(used), limit: number(maps.limit()) })
    }

    /// The bounded resources, for the metrics.
    pub(crate) fn pools(&self) -> Vec<Pool> {
        let pool = |(resource, name)| {
            let index = resource as usize;
            let used = self.used[index].load(Relaxed).into();
            Pool { name, used, limit: self.limits[index].into() }
        };
        let names = ["stacks", "memories", "tables"];
        let mut pools: Vec<_> = RESOURCES.into_iter().zip(names).map(pool).collect();
        if let Some(maps) = &self.maps {
            let used = maps.estimate(self.memories());
            pools.push(Pool { name: "maps", used, limit: maps.limit() });
        }
        pools
    }

    /// Memories in use.
    fn memories(&self) -> u32 {
        self.used[Resource::Memories as usize].load(Relaxed)
    }

    /// Counts the start of a container or exec with this number of memories. True if
    /// [`Account::look_at_maps`] is due.
    pub(crate) fn start(&self, memories: u32) -> bool {
        let with_it = self.memories().saturating_add(memories);
        self.maps.as_ref().is_some_and(|maps| maps.start(with_it))
    }

    /// Counts the maps of this process. Blocks.
    pub(crate) fn look_at_maps(&self) {
        let Some(maps) = &self.maps else { return };
        if let Err(error) = maps.look(|| self.memories()) {
            tracing::warn!(%error, "memory maps cannot be counted");
        }
    }

    fn reserve_one(&self, index: usize, resource: Resource, wanted: u32) -> Result<(), Lack> {
        // One atomic step, so that concurrent starts stay within the limit together. Relaxed, since
        // no other data depends on the counters.
        let limit = self.limits[index];
        let within = |used: u32| used.checked_add(wanted).filter(|sum| *sum <= limit);
        match self.used[index].fetch_update(Relaxed, Relaxed, within) {
            Ok(_) => Ok(()),
            Err(used) => Err(Lack { resource, wanted, used, limit }),
        }
    }

    /// Reserves one more stack.
    fn reserve_stack(&self) -> Result<(), Lack> {
        self.reserve_one(Resource::Stacks as usize, Resource::Stacks, 1)
    }

    fn release_stacks(&self, number: u32) {
        self.used[Resource::Stacks as usize].fetch_sub(number, Relaxed);
    }

    fn release(&self, numbers: &Numbers) {
        for (used, number) in self.used.iter().zip(numbers) {
            used.fetch_sub(*number, Relaxed);
        }
    }
}

/// Shares of the stores of one process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shares {
    node: Arc<Account>,
    container: Arc<Account>,
    /// File descriptors of the container.
    pub(crate) descriptors: Arc<Descriptors>,
    /// Size of the largest linear memory.
    pub(crate) memory_bytes: u64,
    /// Needs of one store.
    numbers: Numbers,
}

impl Shares {
    /// Shares for the stores of a program. Refuses a program that can never fit.
    pub(crate) fn of(
        required: Option<&ResourcesRequired>,
        spec: &InstanceSpec,
        settings: &Settings,
        node: Arc<Account>,
    ) -> Result<Self, EngineError> {
        let container = spec.extensions.get_or_make(|| Account::of_container(settings));
        let descriptors =
            spec.extensions.get_or_make(|| Descriptors::new(settings.share_of_descriptors()));
        let numbers = numbers(required);
        let memory_bytes = settings.memory_bytes();
        let shares = Self { node, container, descriptors, memory_bytes, numbers };
        shares.check_limits()?;
        Ok(shares)
    }

    /// Shares of the slots for requests: `settings` and `node` are those of their pool.
    pub(crate) fn of_requests(
        required: Option<&ResourcesRequired>,
        spec: &InstanceSpec,
        settings: &Settings,
        node: Arc<Account>,
    ) -> Result<Self, EngineError> {
        // Beside the container's account in the first pool: a server draws from both.
        let make = || OfRequests(Arc::new(Account::of_container(settings)));
        let container = spec.extensions.get_or_make(make).0.clone();
        let descriptors =
            spec.extensions.get_or_make(|| Descriptors::new(settings.share_of_descriptors()));
        let numbers = numbers(required);
        let memory_bytes = settings.memory_bytes();
        let shares = Self { node, container, descriptors, memory_bytes, numbers };
        shares.check_limits()?;
        Ok(shares)
    }

    /// The same for stores with a heap of collected objects, which is reserved with the others
    /// then: a store without room for its heap is refused before it is made.
    pub(crate) fn with_heap(mut self) -> Self {
        self.numbers[Resource::Memories as usize] += 1;
        self
    }

    /// Linear memories of one store.
    pub(crate) fn memories(&self) -> u32 {
        self.numbers[Resource::Memories as usize]
    }

    /// Stores that the container can have at once.
    pub(crate) fn most_stores(&self) -> u32 {
        let limits = self.node.limits.iter().zip(&self.container.limits);
        let stores = limits.zip(self.numbers).filter(|(_, number)| *number > 0);
        stores.map(|((node, own), number)| node.min(own) / number).min().unwrap_or(u32::MAX)
    }

    /// Reserves the needs of one store.
    pub(crate) fn take(&self) -> Result<Share, Shortage> {
        reserve(&self.container, &self.node, &self.numbers)?;
        Ok(Share {
            node: self.node.clone(),
            container: self.container.clone(),
            numbers: self.numbers,
            stacks: Stacks::default(),
        })
    }

    fn check_limits(&self) -> Result<(), EngineError> {
        let accounts = [(&self.container, Scope::Container), (&self.node, Scope::Node)];
        for (account, scope) in accounts {
            for (index, resource) in RESOURCES.into_iter().enumerate() {
                let wanted = self.numbers[index];
                let limit = account.limits[index];
                if wanted > limit {
                    let lack = Lack { resource, wanted, used: 0, limit };
                    return Err(Shortage { scope, lack }.into());
                }
            }
        }
        Ok(())
    }
}

/// Needs of one store of a program.
fn numbers(required: Option<&ResourcesRequired>) -> Numbers {
    // Absent only for a component that imports core modules, which no host provides.
    let number = |of: fn(&ResourcesRequired) -> u32| required.map_or(0, of);
    [1, number(|required| required.num_memories), number(|required| required.num_tables)]
}

/// Reservation of one store. Dropped with it.
#[derive(Debug)]
pub(crate) struct Share {
    node: Arc<Account>,
    container: Arc<Account>,
    numbers: Numbers,
    /// Stacks of its calls; the further ones are reserved.
    stacks: Stacks,
}

impl Share {
    /// Counts a call of the guest's code at this address of a stack, and reserves the stack if it
    /// is a further one. True if it has reserved it.
    pub(crate) fn begin_call(&mut self, at: usize) -> Result<bool, Shortage> {
        let lacks_one = self.stacks.lack_one_for(at);
        if lacks_one {
            self.reserve_stack()?;
        }
        self.stacks.begin(at);
        Ok(lacks_one)
    }

    /// Counts the end of a call. True if that has released a stack.
    pub(crate) fn end_call(&mut self, at: usize) -> bool {
        let has_less = self.stacks.end(at);
        if has_less {
            self.release_stacks(1);
        }
        has_less
    }

    /// Takes back the begin of a call that has reserved a stack.
    pub(crate) fn take_call_back(&mut self, at: usize) {
        self.stacks.take_back(at);
        self.release_stacks(1);
    }

    /// Count of the memories that are made for the store.
    pub(crate) fn memories(&self) -> Memories {
        let heap = Heap { node: self.node.clone(), container: self.container.clone(), held: false };
        Memories { own: self.numbers[Resource::Memories as usize], heap }
    }

    fn reserve_stack(&self) -> Result<(), Shortage> {
        let shortage = |scope| move |lack| Shortage { scope, lack };
        self.container.reserve_stack().map_err(shortage(Scope::Container))?;
        self.node
            .reserve_stack()
            .inspect_err(|_| self.container.release_stacks(1))
            .map_err(shortage(Scope::Node))
    }

    fn release_stacks(&self, number: u32) {
        self.node.release_stacks(number);
        self.container.release_stacks(number);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release_stacks(self.stacks.further());
        self.node.release(&self.numbers);
        self.container.release(&self.numbers);
    }
}

/// Memories that are made for a store: first its own, in any order, and a heap of collected
/// objects.
#[derive(Debug)]
pub(crate) struct Memories {
    /// Memories of its program that are still to come.
    own: u32,
    heap: Heap,
}

/// Reservation of a memory for a heap.
#[derive(Debug)]
struct Heap {
    node: Arc<Account>,
    container: Arc<Account>,
    held: bool,
}

/// The memory of a heap.
const HEAP: Numbers = [0, 1, 0];

impl Memories {
    /// Counts a memory that is about to be made, and reserves it if it is the heap's.
    pub(crate) fn make(&mut self) -> Result<(), Shortage> {
        match self.own.checked_sub(1) {
            Some(left) => self.own = left,
            None => self.heap.reserve()?,
        }
        Ok(())
    }

    /// True if more were made than those that the store has reserved: with the heap.
    pub(crate) fn has_heap(&self) -> bool {
        self.heap.held
    }
}

impl Heap {
    fn reserve(&mut self) -> Result<(), Shortage> {
        // A store has one heap.
        if self.held {
            return Ok(());
        }
        reserve(&self.container, &self.node, &HEAP)?;
        self.held = true;
        Ok(())
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        if self.held {
            self.node.release(&HEAP);
            self.container.release(&HEAP);
        }
    }
}

/// Reserves numbers of a container and of the node, or none.
fn reserve(container: &Account, node: &Account, numbers: &Numbers) -> Result<(), Shortage> {
    let shortage = |scope| move |lack| Shortage { scope, lack };
    container.reserve(numbers).map_err(shortage(Scope::Container))?;
    node.reserve(numbers).inspect_err(|_| container.release(numbers)).map_err(shortage(Scope::Node))
}

/// A reservation beyond the share of a container, or beyond the pool of the node.
// Without the container's id: the error of the request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    scope: Scope,
    lack: Lack,
}

/// Owner of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Container,
    Node,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lack { resource, wanted, used, limit } = self.lack;
        let (scope, setting) = match self.scope {
            Scope::Container => ("one container", resource.container_setting()),
            Scope::Node => ("all containers", resource.node_setting()),
        };
        write!(
            f,
            "{wanted} more than the {used} in use are beyond the {limit} of {scope}, which {setting} \
             raises"
        )
    }
}

impl std::error::Error for Shortage {}

impl From<Shortage> for EngineError {
    fn from(shortage: Shortage) -> Self {
        Self::Exhausted { what: shortage.lack.resource.name(), reason: shortage.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Shares {
        /// Shares of stores that need one stack and these memories, of ten each.
        pub(crate) fn of_ten(memories: u32) -> Self {
            shares([10; 3], [10; 3], [1, memories, 0])
        }

        /// Memories that the container has.
        pub(crate) fn used_memories(&self) -> u32 {
            self.container.memories()
        }
    }

    fn shares(node: Numbers, container: Numbers, numbers: Numbers) -> Shares {
        let node = Arc::new(Account::new(node));
        let descriptors = Arc::new(Descriptors::new(1));
        let container = Arc::new(Account::new(container));
        Shares { node, container, descriptors, memory_bytes: 0, numbers }
    }

    #[test]
    fn container_is_bounded_by_its_share_and_gives_it_back() {
        let shares = shares([10, 10, 10], [5, 4, 5], [1, 2, 0]);
        let one = shares.take().unwrap();
        let other = shares.take().unwrap();
        let refused = EngineError::from(shares.take().unwrap_err()).to_string();
        assert_eq!(
            refused,
            "out of linear memories: 2 more than the 4 in use are beyond the 4 of one \
             container, which engine.container-memories raises"
        );
        drop(one);
        let again = shares.take().unwrap();
        drop((other, again));
        for account in [&shares.node, &shares.container] {
            assert!(account.used.iter().all(|used| used.load(Relaxed) == 0), "{account:?}");
        }
    }

    #[test]
    fn node_that_is_full_leaves_the_container_as_it_was() {
        let full = shares([1, 10, 10], [5, 5, 5], [1, 1, 1]);
        let _first = full.take().unwrap();
        let other = Shares { container: Arc::new(Account::new([5; 3])), ..full.clone() };
        let refused = EngineError::from(other.take().unwrap_err()).to_string();
        assert_eq!(
            refused,
            "out of instance slots: 1 more than the 1 in use are beyond the 1 of all containers, \
             which slots raises"
        );
        assert!(other.container.used.iter().all(|used| used.load(Relaxed) == 0));
    }

    #[test]
    fn memories_whose_maps_do_not_fit_are_refused() {
        let mut shares = shares([9, 9, 9], [9, 9, 9], [1, 2, 0]);
        let maps = Maps::of_process(None);
        let limit = maps.limit();
        // Counts as if nothing were left but the maps of three memories.
        maps.set_for_tests(limit - 12);
        shares.node = Arc::new(Account { maps: Some(maps), ..Account::new([9, 9, 9]) });
        let _first = shares.take().unwrap();
        let error = EngineError::from(shares.take().unwrap_err()).to_string();
        let wanted = format!(
            "out of memory maps: 8 more than the {} in use are beyond the {limit} of all \
             containers, which vm.max_map_count raises",
            limit - 4
        );
        assert_eq!(error, wanted);
        assert_eq!((shares.node.memories(), shares.container.memories()), (2, 2));
    }

    #[test]
    fn program_that_never_fits_is_refused_before_it_runs() {
        let error = shares([9, 9, 9], [9, 9, 3], [1, 1, 4]).check_limits().unwrap_err();
        assert!(error.to_string().contains("engine.container-tables"), "{error}");
        let error = shares([9, 2, 9], [9, 9, 9], [1, 3, 4]).check_limits().unwrap_err();
        assert!(error.to_string().contains("engine.memories"), "{error}");
        shares([9, 9, 9], [9, 9, 9], [1, 9, 9]).check_limits().unwrap();
    }

    /// Address of a call on a stack of its own.
    fn at(stack: usize) -> usize {
        (stack + 9) << 21
    }

    #[test]
    fn further_stacks_of_a_store_are_taken_and_given_back() {
        let shares = shares([4, 9, 9], [3, 9, 9], [1, 0, 0]);
        let stacks = |account: &Account| account.used[Resource::Stacks as usize].load(Relaxed);
        let used = || (stacks(&shares.container), stacks(&shares.node));
        let mut share = shares.take().unwrap();
        for (n, number) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
            assert_eq!(share.begin_call(at(n)).unwrap(), n > 1);
            assert!(!share.begin_call(at(n) - 4096).unwrap(), "nested");
            assert_eq!(used(), (number, number));
        }
        let refused = share.begin_call(at(4)).unwrap_err().to_string();
        let wanted = "1 more than the 3 in use are beyond the 3 of one container, which \
                      engine.container-stacks raises";
        assert_eq!(refused, wanted);
        let other = Shares { container: Arc::new(Account::new([9; 3])), ..shares.clone() };
        let mut last = other.take().unwrap();
        for n in [5, 6] {
            last.begin_call(at(n)).unwrap();
        }
        assert!(last.begin_call(at(7)).unwrap_err().to_string().contains("of all containers"));
        assert_eq!(stacks(&other.container), 1, "as before");
        drop(last);
        for (n, left) in [(0, 3), (1, 3), (2, 2), (3, 1)] {
            share.end_call(at(n) - 4096);
            share.end_call(at(n));
            assert_eq!(used(), (left, left), "two are kept");
        }
        for n in 0..3 {
            share.begin_call(at(n)).unwrap();
        }
        share.take_call_back(at(2));
        assert_eq!(used(), (1, 1));
        drop(share);
        assert_eq!(used(), (0, 0));
    }

    #[test]
    fn memory_beyond_those_of_the_program_is_reserved_once_as_its_heap() {
        let shares = shares([9, 5, 9], [9, 3, 9], [1, 2, 0]);
        let first = shares.take().unwrap();
        let mut memories = first.memories();
        for used in [2, 2, 3, 3] {
            memories.make().unwrap();
            assert_eq!((shares.container.memories(), shares.node.memories()), (used, used));
        }
        let mut beyond = first.memories();
        (0..2).for_each(|_| beyond.make().unwrap());
        let refused = EngineError::from(beyond.make().unwrap_err()).to_string();
        assert!(refused.contains("beyond the 3 of one container"), "{refused}");
        drop((beyond, memories, first));
        assert_eq!((shares.container.memories(), shares.node.memories()), (0, 0));
    }

    #[test]
    fn heap_that_is_known_is_reserved_with_the_memories_of_the_program() {
        let shares = shares([9, 9, 9], [9, 5, 9], [1, 1, 0]);
        let first = shares.take().unwrap();
        let mut memories = first.memories();
        (0..2).for_each(|_| memories.make().unwrap());
        assert!(memories.has_heap());
        drop((memories, first));
        let shares = shares.with_heap();
        assert_eq!(shares.most_stores(), 2);
        let stores = [(); 2].map(|()| shares.take().unwrap());
        shares.take().unwrap_err();
        for store in &stores {
            let mut memories = store.memories();
            (0..2).for_each(|_| memories.make().unwrap());
            assert!(!memories.has_heap() && shares.container.memories() == 4);
        }
    }

    #[test]
    fn scarcest_resource_decides_the_number_of_stores() {
        assert_eq!(shares([90, 90, 90], [50, 20, 90], [1, 3, 0]).most_stores(), 6);
        assert_eq!(shares([4, 90, 90], [50, 20, 90], [1, 3, 0]).most_stores(), 4);
    }
}
