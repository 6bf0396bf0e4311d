//! What a row is a ratio of, by the end of its name; read by `results` and `targets`.

use crate::peers::Peer;

/// The other side of a ratio.
#[derive(Debug, PartialEq)]
pub(crate) struct Base {
    end: &'static str,
    /// In words, for readers.
    pub(crate) what: &'static str,
    from: From,
}

/// Where the other side comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    /// Measured by the same benchmark.
    Run,
    Runtime(&'static str),
    Before,
    Peer(Peer),
}

/// The first that fits counts.
const BASES: [Base; 25] = [
    base("_to_upstream", "the shim of the runwasi project", From::Peer(Peer::Upstream)),
    base("_to_crun", "crun with wasmtime", From::Peer(Peer::Crun)),
    base("_to_cli", "wasmtime's command line", From::Peer(Peer::Cli)),
    base("_to_before", "the earlier build", From::Before),
    base("_to_runc", "runc with a native guest", From::Runtime("runc")),
    base("_to_floor", "a shim that does nothing", From::Runtime("floor")),
    base("_to_run", "the loop of wasmtime run", From::Run),
    base("_to_serve", "the loop of wasmtime serve", From::Run),
    base("output_bytes_to_native", "cat in a container of runc", From::Runtime("runc")),
    base("output_cat_to_native", "cat in a container of runc", From::Runtime("runc")),
    base("output_4k_to_native", "dd in a container of runc", From::Runtime("runc")),
    base("output_4k_cpu_to_native", "dd in a container of runc", From::Runtime("runc")),
    base("_to_native", "a native program", From::Run),
    base("_to_memory", "snapshots in memory", From::Run),
    base("_to_first", "the first start", From::Run),
    base("_to_quiet", "the same server without a line of output", From::Run),
    base("_to_env", "the same server, its variables read", From::Run),
    base("_growth", "the 100th", From::Run),
    base("_left_pss", "the daemon at its start", From::Run),
    base("_private_part", "all of the code", From::Run),
    base("_inlined_compile_time", "compiled for speed", From::Run),
    base("_inlined_code_size", "compiled for speed", From::Run),
    base("_of_weights", "the ratio of their shares", From::Run),
    base("_p50", "the same without the attack", From::Run),
    base("_p99", "the same without the attack", From::Run),
];

const fn base(end: &'static str, what: &'static str, from: From) -> Base {
    Base { end, what, from }
}

impl Base {
    /// That of a row with this name; none for one that is no ratio.
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        BASES.iter().find(|base| name.ends_with(base.end))
    }

    /// What to do for a run that has the ratio.
    pub(crate) fn how(&self) -> String {
        match self.from {
            From::Peer(peer) => peer.how().to_owned(),
            From::Before => "--before DIR: the programs of an earlier build".to_owned(),
            From::Runtime(name) => format!("--only must name {name}, too"),
            From::Run => "the benchmark was not run for it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_name_tells_the_other_side() {
        let of = |name| Base::of(name).map(|base| base.what);
        assert_eq!(of("ctr_run_above_floor_to_upstream"), Some("the shim of the runwasi project"));
        assert_eq!(of("http_hello_ratio_to_serve"), Some("the loop of wasmtime serve"));
        assert_eq!(of("files_stat_root_to_run"), Some("the loop of wasmtime run"));
        assert_eq!(of("output_cat_to_native"), Some("cat in a container of runc"));
        assert_eq!(of("sleep_1_ms_to_native"), Some("a native program"));
        assert_eq!(of("ctr_run_median"), None);
    }

    #[test]
    fn every_missing_side_says_how_to_get_it() {
        for name in ["a_to_upstream", "a_to_crun", "a_to_cli", "a_to_before", "a_to_runc"] {
            let how = Base::of(name).unwrap().how();
            assert!(how.contains("--"), "{how}");
        }
    }
}
