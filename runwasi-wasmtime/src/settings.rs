//! Settings of the engine: one struct, filled by containerd's runtime options or the daemon's file.
//!
//! The wasm features that are on are finished proposals, which toolchains use without asking. They
//! cost a guest that does not use them nothing.

use std::{collections::BTreeSet, env, ffi::OsString, path::PathBuf, time::Duration};

use runwasi_core::{
    engine::FileThreads,
    settings::{
        Entry, OFF, RawSettings, SettingsError, Within, directory_or_off, in_force, or_off, to_toml,
    },
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::proposals::Unfinished;

/// Environment variable: where shims keep compiled code, or `off`. Runtime options win over it.
pub const CACHE_VARIABLE: &str = "RUNWASI_CACHE";

/// Where compiled code is kept, if nothing else is set.
pub const CACHE_DIRECTORY: &str = "/var/cache/runwasi";

/// Most memories of 4 GiB: they take 80 of the 128 TiB that a process can address.
pub(crate) const MAX_MEMORIES: u32 = 20_000;
/// Least size of a memory, in GiB: compiled code counts on it for addresses of 32 bits.
pub(crate) const MEMORY_SIZE: u32 = 4;

/// Makes [`Settings`] of its keys, each with its documentation, bounds and default.
macro_rules! settings {
    ($($(#[$attribute:meta])* $field:ident: $kind:ty = $default:expr,)*) => {
        /// How an engine is set up. Each field is a key of the file.
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
        pub struct Settings {
            $($(#[$attribute])* pub $field: $kind,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

settings! {
    /// Guests that can run at once.
    // A pod's. 100 slots cost 0.6 ms and 0.6 MB at the start.
    #[serde(with = "Within::<1, 100_000>")]
    slots: u32 = 100,
    /// Guests that can run at once if those beyond `slots` are instances for requests. Their slots
    /// are made when requests first need them. Fewer where `vm.max_map_count` does not suffice;
    /// none if memories, tables, maps or shares are set.
    #[serde(rename = "engine.request-slots", with = "Within::<0, 100_000>")]
    request_slots: u32 = 600,
    /// Where compiled code is kept; `None`: compiled code is not kept.
    #[serde(serialize_with = "or_off", deserialize_with = "directory")]
    cache: Option<PathBuf> = Some(CACHE_DIRECTORY.into()),
    /// How much of it, in MiB; the longest unused code goes.
    #[serde(with = "Within::<1, 1_048_576>")]
    cache_size: u32 = 1024,
    /// Structs, arrays, typed function references.
    #[serde(rename = "engine.gc")]
    gc: bool = true,
    /// Collector of structs and arrays.
    #[serde(rename = "engine.gc-collector")]
    gc_collector: GcCollector = GcCollector::Copying,
    /// `try_table`, `throw`.
    #[serde(rename = "engine.exceptions")]
    exceptions: bool = true,
    /// Atomic instructions. A shared memory is refused either way, since it could not be limited.
    #[serde(rename = "engine.threads")]
    threads: bool = true,
    /// Memories with 64-bit addresses.
    #[serde(rename = "engine.memory64")]
    memory64: bool = true,
    /// Vector instructions, relaxed ones included.
    #[serde(rename = "engine.simd")]
    simd: bool = true,
    /// `return_call`.
    #[serde(rename = "engine.tail-calls")]
    tail_calls: bool = true,
    /// `i64.add128`, `i64.mul_wide_s` and the like.
    // As wasmtime has it from 49 on.
    #[serde(rename = "engine.wide-arithmetic")]
    wide_arithmetic: bool = true,
    /// Further proposals that guests may use.
    #[serde(rename = "engine.unfinished-proposals")]
    unfinished_proposals: BTreeSet<Unfinished> = BTreeSet::new(),
    /// The goal of the compiler.
    #[serde(rename = "engine.optimise")]
    optimise: Optimise = Optimise::Speed,
    /// Memory of the process that compiles one artifact, in MiB.
    #[serde(rename = "engine.compile-memory", with = "Within::<64, 1_048_576>")]
    compile_memory: u32 = 1024,
    /// Seconds of CPU time that the compilation of one artifact may take for each of its threads;
    /// by the clock it may take ten times as long.
    #[serde(rename = "engine.compile-time", with = "Within::<1, 3600>")]
    compile_time: u32 = 60,
    /// Microseconds from yield to yield of a guest while no worker is free; see
    /// [`epoch`](crate::epoch).
    #[serde(rename = "engine.quantum", with = "Within::<100, 100_000>")]
    quantum: u32 = 1000,
    /// Linear memories at once; by `slots` if it is not set.
    #[serde(rename = "engine.memories", with = "Within::<1, MAX_MEMORIES>")]
    memories: Option<u32> = None,
    /// Largest linear memory, in GiB. Each takes as much address space.
    #[serde(rename = "engine.memory-size", with = "Within::<MEMORY_SIZE, 1024>")]
    memory_size: u32 = MEMORY_SIZE,
    /// Tables at once; by `slots` if it is not set.
    #[serde(rename = "engine.tables", with = "Within::<1, 200_000>")]
    tables: Option<u32> = None,
    /// Memory maps of the OS process at which no further guest starts; by `vm.max_map_count` if it
    /// is not set.
    #[serde(rename = "engine.memory-maps", with = "Within::<100, 1_000_000_000>")]
    memory_maps: Option<u32> = None,
    /// Memories of one module.
    // Generous: more is a clear error at the start of a module. Reference types give
    // toolchains reasons for a second table, tools for tests make six memories, and a
    // program of GHC has 707,000 elements in its table. An element takes 8 bytes of address
    // space in each table of the pool, and no memory until it is used.
    #[serde(rename = "engine.module-memories", with = "Within::<1, 100>")]
    module_memories: u32 = 10,
    /// Tables of one module.
    #[serde(rename = "engine.module-tables", with = "Within::<1, 100>")]
    module_tables: u32 = 8,
    /// Elements of one table.
    #[serde(rename = "engine.table-elements", with = "Within::<1, 10_000_000>")]
    table_elements: u32 = 1_000_000,
    /// Core instances of one component.
    // A component of a large toolchain has some tens.
    #[serde(rename = "engine.component-instances", with = "Within::<1, 10_000>")]
    component_instances: u32 = 500,
    /// Processes and requests of one container at once; by `slots` if it is not set.
    #[serde(rename = "engine.container-stacks", with = "Within::<1, 100_000>")]
    container_stacks: Option<u32> = None,
    /// Linear memories of one container at once; by `memories` if it is not set.
    #[serde(rename = "engine.container-memories", with = "Within::<1, MAX_MEMORIES>")]
    container_memories: Option<u32> = None,
    /// Tables of one container at once; by `tables` if it is not set.
    #[serde(rename = "engine.container-tables", with = "Within::<1, 200_000>")]
    container_tables: Option<u32> = None,
    /// Files, sockets and connections of one container at once; by `RLIMIT_NOFILE` if it is not
    /// set.
    #[serde(rename = "engine.container-descriptors", with = "Within::<1, 1_000_000>")]
    container_descriptors: Option<u32> = None,
    /// Threads that file calls of one container may hold while the kernel does not end them.
    #[serde(rename = "engine.container-file-threads", with = "Within::<1, 1000>")]
    container_file_threads: u32 = FileThreads::default().limit,
}

/// Collector of structs and arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GcCollector {
    /// Copies what is in use from one half of the heap to the other. Frees cycles.
    Copying,
    /// Deferred reference counting: uses the whole heap, and never frees cycles.
    Drc,
}

/// The goal of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimise {
    /// Fast code.
    Speed,
    /// Faster code: functions within their callers, for several times the time and size.
    SpeedAtAnySize,
    /// Fast and small code.
    SpeedAndSize,
    /// Code soon.
    None,
}

impl Settings {
    /// For a shim that serves one pod: the defaults, with the directory of [`CACHE_VARIABLE`].
    pub fn for_shim() -> Result<Self, SettingsError> {
        Self::with_cache_of(env::var_os(CACHE_VARIABLE))
    }

    fn with_cache_of(variable: Option<OsString>) -> Result<Self, SettingsError> {
        let settings = Self::default();
        let Some(value) = variable else { return Ok(settings) };
        let text = value.into_string().map_err(|value| format!("{value:?} is not UTF-8"));
        let cache = text.and_then(|text| directory_or_off(&text));
        let cache = cache.map_err(|reason| SettingsError::new(CACHE_VARIABLE, reason))?;
        Ok(Self { cache, ..settings })
    }

    /// The first entry that differs from these settings, with the value in force.
    pub fn difference<'a>(
        &self,
        written: &'a RawSettings,
    ) -> Result<Option<(&'a Entry, String)>, SettingsError> {
        let wanted = in_force(&written.read(self)?.with_room())?;
        let ours = in_force(&self.with_room())?;
        let mut entries = written.entries.iter();
        let differing = entries.find(|entry| wanted.get(&entry.key) != ours.get(&entry.key));
        Ok(differing.and_then(|entry| Some((entry, ours.get(&entry.key)?.to_string()))))
    }

    /// The table `[engine]` of a file with the values in force.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        let values = in_force(&self.with_room())?.into_iter();
        let table = values.filter_map(|(key, value)| {
            key.strip_prefix("engine.").map(|key| (key.to_owned(), value))
        });
        let set = in_force(self)?;
        let lines = to_toml(table.collect(), |key| match key {
            "request-slots" if self.wanted_for_requests() == 0 => ("", " # none beyond slots"),
            "quantum" => ("", " # microseconds"),
            "compile-memory" => ("", " # MiB"),
            "compile-time" => ("", " # seconds"),
            "memory-size" => ("", " # GiB"),
            _ if set.contains_key(&format!("engine.{key}")) => ("", ""),
            "memory-maps" => ("# ", " # by vm.max_map_count"),
            "container-memories" => ("# ", " # by memories"),
            "container-tables" => ("# ", " # by tables"),
            "container-descriptors" => ("# ", " # by RLIMIT_NOFILE"),
            _ => ("# ", " # by slots"),
        });
        Ok(format!("[engine]\n{lines}"))
    }

    /// Largest linear memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        u64::from(self.memory_size) << 30
    }

    /// Memory of the process that compiles one artifact, in bytes.
    pub(crate) fn compile_bytes(&self) -> u64 {
        u64::from(self.compile_memory) << 20
    }

    /// The quantum as a duration.
    pub fn quantum(&self) -> Duration {
        Duration::from_micros(self.quantum.into())
    }
}

/// Deserializes an absolute directory, or [`OFF`].
fn directory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let refusal = format!("{text:?} is no absolute path without \"..\", nor {OFF:?}");
    directory_or_off(&text).map_err(|_| D::Error::custom(refusal))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parse(text: &str) -> RawSettings {
        RawSettings::parse("f", text.as_bytes(), |_| true).unwrap()
    }

    fn read(text: &str) -> Result<Settings, String> {
        parse(text).read(&Settings::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read_and_printed() {
        let top = "slots = 7\ncache = \"/c\"\ncache-size = 2\n";
        let engine = "[engine]\nrequest-slots = 8 # none beyond slots\ngc = false\n\
            gc-collector = \"drc\"\nexceptions = false\nthreads = false\nmemory64 = false\n\
            simd = false\ntail-calls = false\nwide-arithmetic = false\n\
            unfinished-proposals = [\"custom-page-sizes\"]\noptimise = \"none\"\n\
            compile-memory = 100 # MiB\ncompile-time = 5 # seconds\n\
            quantum = 5000 # microseconds\nmemories = 8\nmemory-size = 16 # GiB\n\
            tables = 9\nmemory-maps = 200\nmodule-memories = 2\nmodule-tables = 3\n\
            table-elements = 10\ncomponent-instances = 11\ncontainer-stacks = 4\n\
            container-memories = 5\ncontainer-tables = 6\ncontainer-descriptors = 7\n\
            container-file-threads = 12\n";
        let read = read(&format!("{top}{engine}")).unwrap();
        assert_eq!((read.slots, read.cache.as_deref()), (7, Some("/c".as_ref())));
        assert_eq!(read.to_toml().unwrap(), engine);
        let default = in_force(&Settings::default().with_room()).unwrap();
        let changed = in_force(&read).unwrap();
        assert!(default.iter().all(|(key, value)| changed[key] != *value), "a key is missing");
    }

    #[test]
    fn variable_of_the_cache_is_an_absolute_directory_or_off() {
        let off = r#"; "off" is for no directory"#;
        let parent =
            format!(r#""/c/../d" contains "..", and what is before it may be a link{off}"#);
        let rows: [(&[u8], Result<_, String>); 7] = [
            (b"/c//d/", Ok(Some("/c/d".into()))),
            (b"off", Ok(None)),
            (b"", Err(format!("is empty{off}"))),
            (b"code", Err(format!(r#""code" is not an absolute path{off}"#))),
            (b"Off", Err(format!(r#""Off" is not an absolute path{off}"#))),
            (b"/c/../d", Err(parent)),
            (b"/\xff", Err(r#""/\xFF" is not UTF-8"#.to_owned())),
        ];
        for (value, wanted) in rows {
            let read = Settings::with_cache_of(Some(OsString::from_vec(value.to_owned())));
            let cache = read.map(|settings| settings.cache).map_err(|error| error.to_string());
            assert_eq!(cache, wanted.map_err(|reason| format!("RUNWASI_CACHE: {reason}")));
        }
        assert_eq!(Settings::with_cache_of(None), Ok(Settings::default()));
    }

    #[test]
    fn printed_settings_show_the_values_in_force_and_read_back() {
        let settings = read("slots = 1000\n[engine]\nmemories = 3").unwrap();
        let printed = settings.to_toml().unwrap();
        let lines = "\nmemories = 3\nmemory-size = 4 # GiB\n# tables = 2000 # by slots\n";
        assert!(printed.contains(lines), "{printed}");
        assert_eq!(
            parse(&printed).read(&Settings { memories: None, ..settings.clone() }),
            Ok(settings)
        );
    }

    #[test]
    fn wrong_keys_and_values_are_refused_with_their_line() {
        let all = in_force(&Settings::default().with_room()).unwrap();
        let known = all.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let levels = "speed, speed-at-any-size, speed-and-size, none";
        let proposals = Unfinished::NAMES.join(", ");
        let rows = r#"slots = 0 => f:1: slots: 0 is not between 1 and 100000
[engine]⏎⏎gc = 1 => f:3: engine.gc: is an integer, not a boolean
[engine]⏎quantum = '1ms' => f:2: engine.quantum: is a string, not an integer
[engine]⏎quantum = 1.5 => f:2: engine.quantum: is a float, not an integer
[engine]⏎memory-size = 3 => f:2: engine.memory-size: 3 is not between 4 and 1024
[engine]⏎LIST = [⏎'x'] => f:3: engine.LIST: "x" is none of PROPOSALS
[engine]⏎LIST = [⏎'component-gc',⏎3] => f:4: engine.LIST: is an integer, not a string
[engine]⏎LIST = 'x' => f:2: engine.LIST: is a string, not an array
[engine]⏎gc = [true] => f:2: engine.gc: is an array, not a boolean
[engine]⏎optimise = 1979-05-27 => f:2: engine.optimise: is a date or time, not a string
[engine]⏎optimise = { none = {} } => f:2: engine.optimise: is a table, not a string
[engine]⏎optimise = 1 => f:2: engine.optimise: is an integer, not a string
[engine]⏎optimise = 'fast' => f:2: engine.optimise: "fast" is none of LEVELS
cache = 'c' => f:1: cache: "c" is no absolute path without "..", nor "off"
cache = '/c/../d' => f:1: cache: "/c/../d" is no absolute path without "..", nor "off"
slots = 1⏎slot = 2 => f:2: unknown key "slot", expected one of KNOWN
[engine]⏎⏎tail_calls = true => f:3: unknown key "engine.tail_calls", expected one of KNOWN
[engin]⏎gc = true => f:2: unknown key "engin.gc", expected one of KNOWN
engine = 1 => f:1: unknown key "engine", expected one of KNOWN"#;
        let rows = rows.replace("LIST", "unfinished-proposals");
        for (text, error) in rows.lines().filter_map(|row| row.split_once(" => ")) {
            let error = error.replace("KNOWN", &known).replace("LEVELS", levels);
            let error = error.replace("PROPOSALS", &proposals);
            assert_eq!(read(&text.replace('⏎', "\n")), Err(error));
        }
    }

    #[test]
    fn the_example_file_has_the_defaults() {
        let example = include_str!("../../packaging/containerd-wasmtimed.toml");
        let table = example.find("\n[engine]\n").unwrap();
        assert_eq!(read(&example[table..]), Ok(Settings::default()));
        let lines: Vec<_> = example.lines().map(|line| line.trim_start_matches("# ")).collect();
        for (key, _) in in_force(&Settings::default().with_room()).unwrap() {
            let start = format!("{} = ", key.trim_start_matches("engine."));
            assert!(lines.iter().any(|line| line.starts_with(&start)), "{start}");
        }
    }

    #[test]
    fn only_differing_settings_are_a_difference() {
        let settings = read("slots = 5\n[engine]\ngc = false").unwrap();
        let difference = |text: &str| {
            let written = parse(text);
            let found = settings.difference(&written).unwrap();
            found.map(|(entry, value)| format!("{} {value}", entry.key))
        };
        assert_eq!(difference("slots = 5\n[engine]\ngc = false\nsimd = true\nmemories = 7"), None);
        assert_eq!(difference("slots = 6\n[engine]\ngc = true"), Some("slots 5".into()));
        assert_eq!(difference("[engine]\ngc = true"), Some("engine.gc false".into()));
    }
}
