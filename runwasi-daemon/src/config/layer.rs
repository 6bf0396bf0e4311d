//! What one source says about the keys. Every value, whatever its source, passes here as text, so a rule
//! stands once; what is wrong is said without the place, which the caller knows.

use std::{
    ffi::OsString,
    ops::RangeInclusive,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use runwasi_core::{bootstrap::socket::MAX_PATH, settings::RawSettings};
use tracing::level_filters::LevelFilter;

use super::{error::ConfigError, keys::Key};
use crate::identity::Identity;

/// The cache that is none.
pub(super) const OFF: &str = "off";

/// MiB that `cache-size` may be: up to a tebibyte.
const CACHE_SIZE_RANGE: RangeInclusive<u32> = 1..=1 << 20;

/// Seconds that `grace` may be.
const GRACE_RANGE: RangeInclusive<u32> = 0..=3600;

/// Guests that there may be room for.
const SLOTS_RANGE: RangeInclusive<u32> = 1..=100_000;

/// The longest name below the socket's directory: the private socket of a daemon with a pid of seven digits, which is
/// the kernel's largest (`PID_MAX_LIMIT`, 4194304).
const LONGEST_PRIVATE_SOCKET: &str = "daemons/4194304.sock";

/// The daemon's directories beside its socket.
const DIRECTORIES: [&str; 2] = ["daemons", "sandboxes"];

/// What one source says. `None`: nothing; a cache of `Some(None)` is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) socket: Option<PathBuf>,
    pub(super) bundle_roots: Option<Vec<PathBuf>>,
    pub(super) grace: Option<Duration>,
    pub(super) slots: Option<u32>,
    pub(super) cache: Option<Option<PathBuf>>,
    /// In MiB.
    pub(super) cache_size: Option<u32>,
    pub(super) log_level: Option<LevelFilter>,
    /// Only a file can say it.
    pub(super) engine: Option<RawSettings>,
}

impl Layer {
    /// What the environment says.
    pub(super) fn from_environment(
        identity: &Identity,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut layer = Self::default();
        for key in Key::ALL {
            layer.set_variable(identity, key, environment)?;
        }
        Ok(layer)
    }

    /// What the environment says about one key.
    pub(super) fn set_variable(
        &mut self,
        identity: &Identity,
        key: Key,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(), ConfigError> {
        let origin = key.variable(identity);
        let Some(value) = environment(origin) else { return Ok(()) };
        let value = text(value).map_err(|reason| ConfigError::Value { origin, reason })?;
        let set = match key {
            Key::BundleRoots => value.split(':').try_for_each(|root| self.set(key, root)),
            _ => self.set(key, &value),
        };
        set.map_err(|reason| ConfigError::Value { origin, reason })
    }

    /// Takes a value, or says why not. Of [`Key::BundleRoots`] it is one directory, and added to those before.
    pub(super) fn set(&mut self, key: Key, value: &str) -> Result<(), String> {
        match key {
            Key::Socket => self.socket = Some(socket(value)?),
            Key::BundleRoots => self.bundle_roots.get_or_insert_default().push(path(value)?),
            Key::Grace => {
                self.grace =
                    Some(Duration::from_secs(number(value, GRACE_RANGE, " (seconds)")?.into()));
            }
            Key::Slots => self.slots = Some(number(value, SLOTS_RANGE, "")?),
            Key::Cache if value == OFF => self.cache = Some(None),
            Key::Cache => {
                self.cache =
                    Some(Some(path(value).map_err(|reason| format!("{reason}, nor {OFF:?}"))?))
            }
            Key::CacheSize => self.cache_size = Some(number(value, CACHE_SIZE_RANGE, " (MiB)")?),
            Key::LogLevel => self.log_level = Some(log_level(value)?),
        }
        Ok(())
    }

    /// What this source says; where it says nothing, what the other one says.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            socket: self.socket.or(other.socket),
            bundle_roots: self.bundle_roots.or(other.bundle_roots),
            grace: self.grace.or(other.grace),
            slots: self.slots.or(other.slots),
            cache: self.cache.or(other.cache),
            cache_size: self.cache_size.or(other.cache_size),
            log_level: self.log_level.or(other.log_level),
            engine: self.engine.or(other.engine),
        }
    }
}

/// Flags and variables are bytes; settings are text, because they go into messages to and from containerd.
pub(super) fn text(value: OsString) -> Result<String, String> {
    value.into_string().map_err(|value| format!("{value:?} is not UTF-8"))
}

/// A number in decimal digits.
pub(super) fn number(value: &str, range: RangeInclusive<u32>, unit: &str) -> Result<u32, String> {
    let (least, most) = range.clone().into_inner();
    let wide: i128 = value
        .parse()
        .map_err(|_| format!("{value:?} is not a whole number between {least} and {most}{unit}"))?;
    u32::try_from(wide)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{wide} is not between {least} and {most}{unit}"))
}

/// An absolute path, without what means nothing in it (`//`, `/./`, a slash at the end).
fn path(value: &str) -> Result<PathBuf, String> {
    let path = Path::new(value);
    if value.is_empty() {
        Err("is empty".to_owned())
    } else if value.contains('\0') {
        Err(format!("{value:?} contains a NUL byte"))
    } else if !path.is_absolute() {
        Err(format!("{value:?} is not an absolute path"))
    } else if path.components().any(|part| part == Component::ParentDir) {
        Err(format!("{value:?} contains \"..\", and what is before it may be a link"))
    } else {
        Ok(path.components().collect())
    }
}

/// The path of a socket, so short that every socket beside it can be bound.
fn socket(value: &str) -> Result<PathBuf, String> {
    let path = path(value)?;
    let (Some(directory), Some(name), false) =
        (path.parent(), path.file_name(), value.ends_with('/'))
    else {
        return Err(format!("{value:?} names a directory, not a socket"));
    };
    if directory == Path::new("/") {
        return Err(format!(
            "{value:?} is in the root directory; its directory becomes the daemon's own"
        ));
    }
    if DIRECTORIES.iter().any(|taken| name == *taken) {
        return Err(format!("{value:?} has the name of one of the daemon's directories"));
    }
    for path in [&path, &directory.join(LONGEST_PRIVATE_SOCKET)] {
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            return Err(format!(
                "a socket would be {path:?} with {length} bytes, at most {MAX_PATH} are possible"
            ));
        }
    }
    Ok(path)
}

fn log_level(value: &str) -> Result<LevelFilter, String> {
    match value {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(format!("{value:?} is none of error, warn, info, debug, trace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: Key, value: &str) -> Result<Layer, String> {
        let mut layer = Layer::default();
        layer.set(key, value).map(|()| layer)
    }

    fn refusal(key: Key, value: &str) -> String {
        set(key, value).expect_err(value)
    }

    /// A socket in a directory whose path has this many bytes.
    fn socket_in(length: usize, name: &str) -> String {
        format!("/{}/{name}", "d".repeat(length - 1))
    }

    #[test]
    fn the_ends_of_a_range_belong_to_it() {
        assert_eq!(set(Key::Grace, "0").unwrap().grace, Some(Duration::ZERO));
        assert_eq!(set(Key::Grace, "3600").unwrap().grace, Some(Duration::from_secs(3600)));
        assert_eq!(set(Key::Slots, "1").unwrap().slots, Some(1));
        assert_eq!(set(Key::Slots, "100000").unwrap().slots, Some(100_000));
        assert_eq!(refusal(Key::Grace, "3601"), "3601 is not between 0 and 3600 (seconds)");
        assert_eq!(refusal(Key::Grace, "-1"), "-1 is not between 0 and 3600 (seconds)");
        assert_eq!(refusal(Key::Slots, "0"), "0 is not between 1 and 100000");
        assert_eq!(refusal(Key::Slots, "100001"), "100001 is not between 1 and 100000");
        assert_eq!(
            refusal(Key::Slots, "18446744073709551617"),
            "18446744073709551617 is not between 1 and 100000"
        );
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for value in ["", " 1", "1s", "1.5", "0x10", "1_000", "one"] {
            assert_eq!(
                refusal(Key::Slots, value),
                format!("{value:?} is not a whole number between 1 and 100000")
            );
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        for key in [Key::Socket, Key::BundleRoots, Key::Cache] {
            assert!(refusal(key, "").starts_with("is empty"));
            assert!(refusal(key, "run/x").starts_with(r#""run/x" is not an absolute path"#));
            assert!(refusal(key, "/run/x\0y").starts_with(r#""/run/x\0y" contains a NUL byte"#));
            assert!(refusal(key, "/run/../x").starts_with(r#""/run/../x" contains "..""#));
        }
        assert_eq!(
            set(Key::BundleRoots, "//run/./x/").unwrap().bundle_roots,
            Some(vec!["/run/x".into()])
        );
        assert_eq!(set(Key::BundleRoots, "/").unwrap().bundle_roots, Some(vec!["/".into()]));
    }

    #[test]
    fn a_socket_has_a_directory_of_its_own() {
        for value in ["/run/x/", "/"] {
            assert_eq!(
                refusal(Key::Socket, value),
                format!("{value:?} names a directory, not a socket")
            );
        }
        assert!(refusal(Key::Socket, "/manager.sock").contains("is in the root directory"));
        assert!(refusal(Key::Socket, "/run/x/daemons").contains("one of the daemon's directories"));
        assert!(
            refusal(Key::Socket, "/run/x/sandboxes").contains("one of the daemon's directories")
        );
    }

    #[test]
    fn a_socket_path_has_at_most_106_bytes() {
        let name = "n".repeat(105 - 20);
        assert_eq!(socket_in(20, &name).len(), 106);
        assert!(set(Key::Socket, &socket_in(20, &name)).is_ok());
        assert!(
            refusal(Key::Socket, &socket_in(21, &name))
                .contains("with 107 bytes, at most 106 are possible")
        );
    }

    #[test]
    fn the_private_socket_beside_a_short_name_has_at_most_106_bytes() {
        assert!(set(Key::Socket, &socket_in(85, "s")).is_ok());
        let reason = refusal(Key::Socket, &socket_in(86, "s"));
        assert!(reason.contains("/daemons/4194304.sock\" with 107 bytes"), "{reason}");
    }

    #[test]
    fn a_cache_is_a_path_or_off() {
        assert_eq!(set(Key::Cache, "off").unwrap().cache, Some(None));
        assert_eq!(set(Key::Cache, "/c").unwrap().cache, Some(Some("/c".into())));
        assert_eq!(refusal(Key::Cache, "Off"), r#""Off" is not an absolute path, nor "off""#);
    }

    #[test]
    fn log_levels_are_five_words() {
        for (word, level) in [
            ("error", LevelFilter::ERROR),
            ("warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("debug", LevelFilter::DEBUG),
            ("trace", LevelFilter::TRACE),
        ] {
            assert_eq!(set(Key::LogLevel, word).unwrap().log_level, Some(level));
        }
        for word in ["off", "INFO", "3", ""] {
            assert_eq!(
                refusal(Key::LogLevel, word),
                format!("{word:?} is none of error, warn, info, debug, trace")
            );
        }
    }
}
