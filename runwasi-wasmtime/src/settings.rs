//! How an engine is set up. The same keys, in the same form, for both modes: in containerd's runtime options for a shim, in the
//! daemon's own file for the daemon. Read by `engine`, which alone knows what wasmtime calls them.
//!
//! | key | value | default |
//! |---|---|---|
//! | `slots` | guests at once, 1 to 100000 | 100 a pod; a node as many as its limits allow |
//! | `cache` | directory of compiled code, or `off` | [`CACHE_DIRECTORY`] |
//! | `cache-size` | MiB, 1 to 1048576; the longest unused code goes | 1024 |
//! | `engine.gc` | boolean: structs, arrays, typed function references | true |
//! | `engine.exceptions` | boolean | true |
//! | `engine.threads` | boolean: atomic instructions; a shared memory is refused either way, since nobody could limit it | true |
//! | `engine.memory64` | boolean | true |
//! | `engine.simd` | boolean: 128 bits, relaxed ones too | true |
//! | `engine.tail-calls` | boolean | true |
//! | `engine.optimise` | `speed`, `speed-at-any-size`, `speed-and-size` or `none` | `speed` |
//! | `engine.quantum` | microseconds between two yields of a guest while no worker is free, 100 to 100000; otherwise 5000 or, if it is longer, the quantum | 1000 |
//! | `engine.memories` | linear memories at once, 1 to 20000 | half as many again as slots |
//! | `engine.tables` | tables at once, 1 to 200000 | twice as many as slots |
//! | `engine.module-memories` | memories of one module, 1 to 100 | 4 |
//! | `engine.module-tables` | tables of one module, 1 to 100 | 8 |
//! | `engine.table-elements` | elements of one table, 1 to 10000000 | 200000 |
//!
//! The wasm features are what wasmtime has on by default: finished proposals, which toolchains use without asking. They cost a
//! guest that does not use them nothing.

use std::{
    env,
    fmt::Display,
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use runwasi_core::settings::{Entry, RawSettings, SettingsError, Value, quoted};

/// Environment variable: where shims keep compiled code; `off` keeps none. The runtime options win over it.
pub const CACHE_VARIABLE: &str = "RUNWASI_CACHE";

/// Where compiled code is kept, if nothing else is said.
pub const CACHE_DIRECTORY: &str = "/var/cache/runwasi";
/// How much of it, if nothing else is said.
pub const CACHE_BYTES: u64 = 1 << 30;

const OFF: &str = "off";
/// What a guest computes between two yields while others may wait for it.
const QUANTUM: Duration = Duration::from_millis(1);
/// Instances of one pod. 100 slots cost 0.6 ms and 0.6 MB at the start.
const SHIM_SLOTS: u32 = 100;
/// Each takes 4 GiB of the 128 TiB that a process can address.
const MAX_MEMORIES: u32 = 20_000;

/// How an engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Guests that can run at once.
    pub slots: u32,
    /// Where compiled code is kept; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// How many bytes of it.
    pub cache_bytes: u64,
    /// From yield to yield of a guest while no worker is free; see [`epoch`](crate::epoch).
    pub quantum: Duration,
    /// What wasm may do.
    pub features: Features,
    /// What the compiler works for.
    pub optimise: Optimise,
    /// Linear memories at once; by `slots` if it is not said.
    pub memories: Option<u32>,
    /// Tables at once; by `slots` if it is not said.
    pub tables: Option<u32>,
    /// Memories of one module.
    pub module_memories: u32,
    /// Tables of one module.
    pub module_tables: u32,
    /// Elements of one table.
    pub table_elements: u32,
}

/// Proposals that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Structs, arrays, typed function references.
    pub gc: bool,
    /// `try_table`, `throw`.
    pub exceptions: bool,
    /// Atomic instructions.
    pub threads: bool,
    /// Memories with 64-bit addresses.
    pub memory64: bool,
    /// Vector instructions, relaxed ones included.
    pub simd: bool,
    /// `return_call`.
    pub tail_calls: bool,
}

/// What the compiler works for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimise {
    /// Code soon.
    None,
    /// Fast code.
    Speed,
    /// Faster code: functions within their callers, for several times the time and size.
    SpeedAtAnySize,
    /// Fast and small code.
    SpeedAndSize,
}

impl Settings {
    /// For a daemon that serves a node.
    pub fn for_node(slots: u32, cache: Option<PathBuf>, cache_bytes: u64) -> Self {
        Self { slots, cache, cache_bytes, ..Self::defaults() }
    }

    /// For a shim that serves one pod.
    pub fn for_shim() -> Self {
        let cache = match env::var_os(CACHE_VARIABLE) {
            None => Some(PathBuf::from(CACHE_DIRECTORY)),
            Some(value) if value.is_empty() || value == OFF => None,
            Some(directory) => Some(PathBuf::from(directory)),
        };
        Self { cache, ..Self::defaults() }
    }

    fn defaults() -> Self {
        let features = Features {
            gc: true,
            exceptions: true,
            threads: true,
            memory64: true,
            simd: true,
            tail_calls: true,
        };
        Self {
            slots: SHIM_SLOTS,
            cache: Some(PathBuf::from(CACHE_DIRECTORY)),
            cache_bytes: CACHE_BYTES,
            quantum: QUANTUM,
            features,
            optimise: Optimise::Speed,
            memories: None,
            tables: None,
            // What one module may have, generously: more is a clear error when it is started. Reference types give toolchains
            // reasons for a second table, and large programs reach 20,000 functions in one, wasmtime's default.
            module_memories: 4,
            module_tables: 8,
            table_elements: 200_000,
        }
    }

    /// These settings as far as `written` says nothing else.
    pub fn with(&self, written: &RawSettings) -> Result<Self, SettingsError> {
        let mut settings = self.clone();
        for entry in written.entries() {
            let Some(key) = Key::ALL.into_iter().find(|key| key.name() == entry.key) else {
                return Err(written.unknown(entry, &Key::list()));
            };
            settings.set(key, &entry.value).map_err(|reason| written.wrong(entry, reason))?;
        }
        Ok(settings)
    }

    /// The first entry that says something else than these settings do, and what they say.
    pub fn difference<'a>(
        &self,
        written: &'a RawSettings,
    ) -> Result<Option<(&'a Entry, String)>, SettingsError> {
        let wanted = self.with(written)?;
        let differs = |entry: &Entry| {
            let key = Key::ALL.into_iter().find(|key| key.name() == entry.key)?;
            let ours = self.show(key);
            (wanted.show(key) != ours).then_some(ours)
        };
        Ok(written.entries().iter().find_map(|entry| Some((entry, differs(entry)?))))
    }

    /// The table `[engine]` of a file that says the same.
    pub fn to_toml(&self) -> String {
        let table =
            Key::ALL.into_iter().filter_map(|key| Some((key.name().strip_prefix("engine.")?, key)));
        let lines = table.map(|(name, key)| match (key, self.memories, self.tables) {
            (Key::Memories, None, _) | (Key::Tables, _, None) => {
                format!("# {name}: {} (by slots)\n", self.show(key))
            }
            (Key::Quantum, ..) => format!("{name} = {} # microseconds\n", self.show(key)),
            _ => format!("{name} = {}\n", self.show(key)),
        });
        format!("[engine]\n{}", lines.collect::<String>())
    }

    /// Linear memories that there is room for.
    pub(crate) fn room_for_memories(&self) -> u32 {
        // One guest may have several; that all have is not provided for, nor more than the address space holds.
        self.memories.unwrap_or_else(|| self.slots.saturating_add(self.slots / 2)).min(MAX_MEMORIES)
    }

    /// Tables that there is room for.
    pub(crate) fn room_for_tables(&self) -> u32 {
        self.tables.unwrap_or_else(|| self.slots.saturating_mul(2))
    }

    fn set(&mut self, key: Key, value: &Value) -> Result<(), String> {
        match key {
            Key::Slots => self.slots = number(value, 1..=100_000)?,
            Key::Cache => self.cache = directory(value)?,
            Key::CacheSize => self.cache_bytes = u64::from(number(value, 1..=1 << 20)?) << 20,
            Key::Gc => self.features.gc = boolean(value)?,
            Key::Exceptions => self.features.exceptions = boolean(value)?,
            Key::Threads => self.features.threads = boolean(value)?,
            Key::Memory64 => self.features.memory64 = boolean(value)?,
            Key::Simd => self.features.simd = boolean(value)?,
            Key::TailCalls => self.features.tail_calls = boolean(value)?,
            Key::Optimise => self.optimise = optimise(value)?,
            Key::Quantum => {
                self.quantum = Duration::from_micros(number(value, 100..=100_000)?.into())
            }
            Key::Memories => self.memories = Some(number(value, 1..=MAX_MEMORIES)?),
            Key::Tables => self.tables = Some(number(value, 1..=200_000)?),
            Key::ModuleMemories => self.module_memories = number(value, 1..=100)?,
            Key::ModuleTables => self.module_tables = number(value, 1..=100)?,
            Key::TableElements => self.table_elements = number(value, 1..=10_000_000)?,
        }
        Ok(())
    }

    /// The value in force, as TOML.
    fn show(&self, key: Key) -> String {
        let shown = |value: &dyn Display| value.to_string();
        match key {
            Key::Slots => shown(&self.slots),
            Key::Cache => {
                quoted(&self.cache.as_deref().unwrap_or(Path::new(OFF)).to_string_lossy())
            }
            Key::CacheSize => shown(&(self.cache_bytes >> 20)),
            Key::Gc => shown(&self.features.gc),
            Key::Exceptions => shown(&self.features.exceptions),
            Key::Threads => shown(&self.features.threads),
            Key::Memory64 => shown(&self.features.memory64),
            Key::Simd => shown(&self.features.simd),
            Key::TailCalls => shown(&self.features.tail_calls),
            Key::Optimise => quoted(self.optimise.word()),
            Key::Quantum => shown(&self.quantum.as_micros()),
            Key::Memories => shown(&self.room_for_memories()),
            Key::Tables => shown(&self.room_for_tables()),
            Key::ModuleMemories => shown(&self.module_memories),
            Key::ModuleTables => shown(&self.module_tables),
            Key::TableElements => shown(&self.table_elements),
        }
    }
}

impl Optimise {
    const ALL: [Self; 4] = [Self::Speed, Self::SpeedAtAnySize, Self::SpeedAndSize, Self::None];

    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Speed => "speed",
            Self::SpeedAtAnySize => "speed-at-any-size",
            Self::SpeedAndSize => "speed-and-size",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Slots,
    Cache,
    CacheSize,
    Gc,
    Exceptions,
    Threads,
    Memory64,
    Simd,
    TailCalls,
    Optimise,
    Quantum,
    Memories,
    Tables,
    ModuleMemories,
    ModuleTables,
    TableElements,
}

impl Key {
    const ALL: [Self; 16] = [
        Self::Slots,
        Self::Cache,
        Self::CacheSize,
        Self::Gc,
        Self::Exceptions,
        Self::Threads,
        Self::Memory64,
        Self::Simd,
        Self::TailCalls,
        Self::Optimise,
        Self::Quantum,
        Self::Memories,
        Self::Tables,
        Self::ModuleMemories,
        Self::ModuleTables,
        Self::TableElements,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Cache => "cache",
            Self::CacheSize => "cache-size",
            Self::Gc => "engine.gc",
            Self::Exceptions => "engine.exceptions",
            Self::Threads => "engine.threads",
            Self::Memory64 => "engine.memory64",
            Self::Simd => "engine.simd",
            Self::TailCalls => "engine.tail-calls",
            Self::Optimise => "engine.optimise",
            Self::Quantum => "engine.quantum",
            Self::Memories => "engine.memories",
            Self::Tables => "engine.tables",
            Self::ModuleMemories => "engine.module-memories",
            Self::ModuleTables => "engine.module-tables",
            Self::TableElements => "engine.table-elements",
        }
    }

    fn list() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Boolean(value) => Ok(*value),
        other => Err(format!("is {}, not a boolean", other.kind())),
    }
}

fn number(value: &Value, range: RangeInclusive<u32>) -> Result<u32, String> {
    let Value::Integer(wide) = value else {
        return Err(format!("is {}, not an integer", value.kind()));
    };
    let fits = u32::try_from(*wide).ok().filter(|number| range.contains(number));
    fits.ok_or_else(|| format!("{wide} is not between {} and {}", range.start(), range.end()))
}

fn optimise(value: &Value) -> Result<Optimise, String> {
    let Value::Text(word) = value else { return Err(format!("is {}, not a string", value.kind())) };
    let known = Optimise::ALL.into_iter().find(|optimise| optimise.word() == word);
    known.ok_or_else(|| {
        format!("{} is none of {}", quoted(word), Optimise::ALL.map(Optimise::word).join(", "))
    })
}

/// An absolute directory, or none.
fn directory(value: &Value) -> Result<Option<PathBuf>, String> {
    let Value::Text(text) = value else { return Err(format!("is {}, not a string", value.kind())) };
    let path = Path::new(text);
    if text == OFF {
        Ok(None)
    } else if !path.is_absolute()
        || text.contains('\0')
        || path.components().any(|part| part == Component::ParentDir)
    {
        Err(format!("{} is no absolute path without \"..\", nor {OFF:?}", quoted(text)))
    } else {
        Ok(Some(path.components().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let written = RawSettings::parse("f", text).unwrap();
        Settings::defaults().with(&written).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let text = "slots = 7\ncache = '/c'\ncache-size = 2\n[engine]\ngc = false\nexceptions = false\nthreads = false\n\
            memory64 = false\nsimd = false\ntail-calls = false\noptimise = 'none'\nquantum = 5000\nmemories = 8\ntables = 9\n\
            module-memories = 2\nmodule-tables = 3\ntable-elements = 10\n";
        let features = Features {
            gc: false,
            exceptions: false,
            threads: false,
            memory64: false,
            simd: false,
            tail_calls: false,
        };
        let wanted = Settings {
            slots: 7,
            cache: Some("/c".into()),
            cache_bytes: 2 << 20,
            quantum: Duration::from_millis(5),
            features,
            optimise: Optimise::None,
            memories: Some(8),
            tables: Some(9),
            module_memories: 2,
            module_tables: 3,
            table_elements: 10,
        };
        assert_eq!(read(text), Ok(wanted));
        assert_eq!(
            RawSettings::parse("f", text).unwrap().entries().len(),
            Key::ALL.len(),
            "a key is missing here"
        );
    }

    #[test]
    fn wrong_values_name_line_and_key() {
        for (text, error) in [
            ("slots = 0", "f:1: slots: 0 is not between 1 and 100000"),
            ("\n[engine]\ngc = 1", "f:3: engine.gc: is an integer, not a boolean"),
            ("[engine]\nquantum = '1ms'", "f:2: engine.quantum: is a string, not an integer"),
            (
                "[engine]\noptimise = 'fast'",
                "f:2: engine.optimise: \"fast\" is none of speed, speed-at-any-size, speed-and-size, none",
            ),
            ("cache = 'c'", "f:1: cache: \"c\" is no absolute path without \"..\", nor \"off\""),
            (
                "cache = '/c/../d'",
                "f:1: cache: \"/c/../d\" is no absolute path without \"..\", nor \"off\"",
            ),
            ("[engine]\nquantum = 1.5", "f:2: engine.quantum: is a float, not an integer"),
        ] {
            assert_eq!(read(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn unknown_keys_name_line_and_what_there_is() {
        for (text, start) in [
            ("slots = 1\nslot = 2", "f:2: unknown key \"slot\", expected one of slots, cache, "),
            ("[engine]\n\ntail_calls = true", "f:3: unknown key \"engine.tail_calls\", expected"),
            ("[engin]\ngc = true", "f:2: unknown key \"engin.gc\", expected"),
            ("engine = 1", "f:1: unknown key \"engine\", expected"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(start), "{error}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        let odd =
            read("[engine]\ngc = false\noptimise = 'speed-and-size'\nmemories = 3\nquantum = 200")
                .unwrap();
        for settings in [Settings::defaults(), odd] {
            assert_eq!(read(&settings.to_toml()), Ok(settings));
        }
    }

    #[test]
    fn the_example_file_has_the_defaults() {
        let example = include_str!("../../packaging/containerd-wasmtimed.toml");
        let table = example.find("\n[engine]\n").unwrap();
        assert_eq!(read(&example[table..]), Ok(Settings::defaults()));
        let lines: Vec<_> = example.lines().map(|line| line.trim_start_matches("# ")).collect();
        for name in Key::ALL.map(|key| key.name().trim_start_matches("engine.")) {
            assert!(lines.iter().any(|line| line.starts_with(&format!("{name} = "))), "{name}");
        }
    }

    #[test]
    fn only_what_differs_is_a_difference() {
        let settings = read("slots = 5\n[engine]\ngc = false").unwrap();
        let difference = |text: &str| {
            let written = RawSettings::parse("f", text).unwrap();
            let found = settings.difference(&written).unwrap();
            found.map(|(entry, value)| (entry.key.clone(), value))
        };
        assert_eq!(difference("slots = 5\n[engine]\ngc = false\nsimd = true"), None);
        assert_eq!(
            difference("slots = 6\n[engine]\ngc = true"),
            Some(("slots".into(), "5".into()))
        );
        assert_eq!(difference("[engine]\ngc = true"), Some(("engine.gc".into(), "false".into())));
    }
}
