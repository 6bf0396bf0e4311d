//! Which lines are logged: the level of the settings, and `RUST_LOG`.

use std::env;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

const VARIABLE: &str = "RUST_LOG";

/// The filter of this process, and the error of a variable that is no filter.
pub(super) fn of_process(level: LevelFilter) -> (Targets, Option<String>) {
    let directives = env::var_os(VARIABLE).unwrap_or_default();
    filter(level, &directives.to_string_lossy())
}

/// Directives are `LEVEL` or `TARGET=LEVEL`, separated by commas. They win over `level`.
fn filter(level: LevelFilter, directives: &str) -> (Targets, Option<String>) {
    // The warnings of wasmtime's libraries are about the behaviour of guests, as often as guests
    // like: they do not belong in the log of a node.
    let base = Targets::new().with_default(level).with_target("wasmtime", LevelFilter::ERROR);
    match parsed(directives) {
        Ok(given) => {
            let level = given.default_level().unwrap_or(level);
            (base.with_default(level).with_targets(given), None)
        }
        Err(error) => (base, Some(error)),
    }
}

/// Directives without the empty ones, which the library takes for `error`.
fn parsed(directives: &str) -> Result<Targets, String> {
    let parts = directives.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.collect();
    if let Some(part) = parts.iter().find(|part| part.starts_with('=')) {
        return Err(format!("{part:?} has no target"));
    }
    if parts.is_empty() {
        return Ok(Targets::new());
    }
    parts.join(",").parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn directives_win_over_the_level() {
        let info = |directives: &str| filter(LevelFilter::INFO, directives).0;
        for (directives, target, level, expected) in [
            ("", "lifecycle", Level::INFO, true),
            ("", "runwasi_core::server", Level::DEBUG, false),
            ("", "wasmtime", Level::WARN, false),
            ("debug", "runwasi_core::server", Level::DEBUG, true),
            ("debug", "wasmtime", Level::WARN, false),
            ("debug,wasmtime=warn", "wasmtime", Level::WARN, true),
            ("warn", "lifecycle", Level::INFO, false),
            ("lifecycle=off", "lifecycle", Level::INFO, false),
            ("lifecycle=off", "runwasi_core::server", Level::INFO, true),
            ("off,lifecycle=info", "lifecycle", Level::INFO, true),
            ("off,lifecycle=info", "runwasi_core::server", Level::ERROR, false),
            ("runwasi_core::events=trace", "runwasi_core::events", Level::TRACE, true),
            ("debug,", "lifecycle", Level::DEBUG, true),
            (" debug, ,lifecycle=info,", "runwasi_core::server", Level::DEBUG, true),
            (",", "lifecycle", Level::INFO, true),
        ] {
            let enabled = info(directives).would_enable(target, &level);
            assert_eq!(enabled, expected, "{directives:?} {target} {level}");
        }
    }

    #[test]
    fn variable_that_is_no_filter_changes_nothing() {
        for directives in ["lifecycle=loud", "=", "debug,=info"] {
            let (targets, error) = filter(LevelFilter::INFO, directives);
            assert!(error.is_some(), "{directives}");
            assert!(targets.would_enable("lifecycle", &Level::INFO), "{directives}");
            assert!(!targets.would_enable("lifecycle", &Level::DEBUG), "{directives}");
        }
    }
}
