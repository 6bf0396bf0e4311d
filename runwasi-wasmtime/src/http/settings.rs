//! HTTP settings of a container, from its annotations `io.runwasi.http.*`.
//!
//! They are read when the instance is made, so that a wrong one fails containerd's `Create`.

use std::{net::SocketAddr, time::Duration};

use runwasi_core::{EngineError, InstanceSpec};

/// Prefix of the annotations.
const PREFIX: &str = "io.runwasi.http.";
/// Annotation: listening address. It wins over [`ADDRESS_VARIABLE`].
// The variable may come from the image, the annotation comes from the container's owner.
const ADDRESS: &str = "io.runwasi.http.address";
/// Environment variable of the container: listening address, if no annotation gives one.
const ADDRESS_VARIABLE: &str = "RUNWASI_HTTP_ADDRESS";

/// Longer than that of load balancers, commonly 60 s: they would send a request over a connection
/// that the server is just closing.
const IDLE_TIMEOUT: &str = "75s";

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) address: SocketAddr,
    /// Number of open connections. More wait in the backlog.
    pub(super) max_connections: u32,
    /// Number of concurrent requests, each in an instance of its own. More wait for
    /// `queue-timeout`.
    pub(super) max_requests: u32,
    /// Time that a request waits for an instance before it is answered with 503.
    pub(super) queue_timeout: Duration,
    /// Time that a client may take for the head of a request.
    pub(super) header_timeout: Duration,
    /// Time that the guest may take until it answers, and again after its answer was sent.
    pub(super) request_timeout: Duration,
    /// Time that a connection stays open without a request, and that a client may stall a body.
    pub(super) idle_timeout: Duration,
    /// Number of requests that an instance of a WASI p3 component serves, one after another.
    pub(super) max_reuse: u32,
    /// Number of requests that an instance of a WASI p3 component serves at once.
    pub(super) concurrent_reuse: u32,
}

/// Checks the annotations of a container whose guest may be no server: a wrong value has no effect
/// there, and fails the creation all the same.
pub(crate) fn check_annotations(spec: &InstanceSpec) -> Result<(), EngineError> {
    if !spec.annotations.keys().any(|key| key.starts_with(PREFIX)) {
        return Ok(());
    }
    let annotation = |key: &str| spec.annotations.get(key).map(String::as_str);
    Settings::read(annotation, None).map(drop).map_err(EngineError::Annotation)
}

impl Settings {
    /// Reads the settings of a container.
    pub(super) fn new(spec: &InstanceSpec) -> Result<Self, EngineError> {
        let annotation = |key: &str| spec.annotations.get(key).map(String::as_str);
        Self::read(annotation, spec.env(ADDRESS_VARIABLE)).map_err(EngineError::Annotation)
    }

    fn read<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        variable: Option<&'a str>,
    ) -> Result<Self, String> {
        let setting = |key: &str, default: &'a str| Setting {
            place: format!("annotation {key}"),
            text: annotation(key).unwrap_or(default),
        };
        // With the annotation, the variable is not read: a wrong value there does no harm.
        let address = match variable.filter(|_| annotation(ADDRESS).is_none()) {
            Some(text) => {
                Setting { place: format!("environment variable {ADDRESS_VARIABLE}"), text }
            }
            None => setting(ADDRESS, "0.0.0.0:8080"),
        };
        Ok(Self {
            address: address.address()?,
            max_connections: setting("io.runwasi.http.max-connections", "1024").count(100_000)?,
            max_requests: setting("io.runwasi.http.max-requests", "400").count(100_000)?,
            queue_timeout: setting("io.runwasi.http.queue-timeout", "5s").time()?,
            header_timeout: setting("io.runwasi.http.header-timeout", "10s").time()?,
            request_timeout: setting("io.runwasi.http.request-timeout", "60s").time()?,
            idle_timeout: setting("io.runwasi.http.idle-timeout", IDLE_TIMEOUT).time()?,
            max_reuse: setting("io.runwasi.http.max-reuse", "1000").count(1_000_000)?,
            concurrent_reuse: setting("io.runwasi.http.concurrent-reuse", "1").count(10_000)?,
        })
    }
}

/// A value as it is written, and its place.
struct Setting<'a> {
    place: String,
    text: &'a str,
}

impl Setting<'_> {
    fn address(&self) -> Result<SocketAddr, String> {
        let address: SocketAddr = self.text.parse().map_err(|_| {
            self.wrong("is no address: IP:PORT is one, like 0.0.0.0:8080 or [::]:8080")
        })?;
        if address.port() == 0 {
            return Err(self.wrong("has no port that a client could know"));
        }
        Ok(address)
    }

    fn count(&self, most: u32) -> Result<u32, String> {
        let number = digits(self.text).and_then(|number| u32::try_from(number).ok());
        number
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| self.wrong(&format!("is no number from 1 to {most}")))
    }

    fn time(&self) -> Result<Duration, String> {
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let parsed = units.into_iter().find_map(|(unit, millis)| {
            let number = digits(self.text.strip_suffix(unit)?)?;
            number.checked_mul(millis).map(Duration::from_millis)
        });
        parsed.filter(|time| !time.is_zero() && *time <= LONGEST).ok_or_else(|| {
            self.wrong("is no time from 1ms to 24h: a number with ms, s, m or h is one")
        })
    }

    fn wrong(&self, reason: &str) -> String {
        // The value is the user's and may be of any length: the error shows its beginning.
        let shown: String = self.text.chars().take(64).collect();
        format!("{}: {shown:?} {reason}", self.place)
    }
}

/// Parses a number of nothing but digits.
fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take a sign, too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads annotations `KEY=VALUE`, and the variable.
    fn read(annotations: &str, variable: Option<&str>) -> Result<Settings, String> {
        let lines = || annotations.split(' ').filter_map(|line| line.split_once('='));
        let annotation = |key: &str| {
            assert!(crate::annotations::NAMES.contains(&key), "the engine does not announce {key}");
            let key = key.strip_prefix(PREFIX).unwrap();
            lines().find(|(known, _)| *known == key).map(|(_, value)| value)
        };
        Settings::read(annotation, variable)
    }

    #[test]
    fn every_setting_is_read_and_has_a_default() {
        let all = "max-connections=1 max-requests=2 queue-timeout=3ms header-timeout=4s \
            request-timeout=5m idle-timeout=6h max-reuse=7 concurrent-reuse=8";
        let expected = Settings {
            address: ([0, 0, 0, 0], 8080).into(),
            max_connections: 1,
            max_requests: 2,
            queue_timeout: Duration::from_millis(3),
            header_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(6 * 3600),
            max_reuse: 7,
            concurrent_reuse: 8,
        };
        assert_eq!(read(all, None), Ok(expected));
        let seconds = Duration::from_secs;
        let default = Settings {
            address: ([0, 0, 0, 0], 8080).into(),
            max_connections: 1024,
            max_requests: 400,
            queue_timeout: seconds(5),
            header_timeout: seconds(10),
            request_timeout: seconds(60),
            idle_timeout: seconds(75),
            max_reuse: 1000,
            concurrent_reuse: 1,
        };
        assert_eq!(read("", None), Ok(default));
    }

    #[test]
    fn the_annotation_wins_over_the_variable() {
        let address = |annotation, variable| read(annotation, variable).unwrap().address;
        assert_eq!(address("", Some("127.0.0.1:80")), ([127, 0, 0, 1], 80).into());
        for unread in ["127.0.0.1:80", "nonsense"] {
            assert_eq!(address("address=[::]:81", Some(unread)), ([0; 8], 81).into());
        }
    }

    #[test]
    fn error_names_the_key_and_the_wrong_value() {
        let wrong = "address=8080 address=:8080 address=localhost:8080 address=0.0.0.0:0 \
            address=0.0.0.0:65536 max-connections=0 max-connections=+1 max-connections= \
            max-requests=many max-requests=18446744073709551616 header-timeout=10 \
            header-timeout=0s header-timeout=25h request-timeout=-1s idle-timeout=1.5s \
            queue-timeout=s queue-timeout=99999999999999999h max-reuse=0 \
            concurrent-reuse=0 concurrent-reuse=10001";
        for annotation in wrong.split_whitespace() {
            let (key, value) = annotation.split_once('=').unwrap();
            let error = read(annotation, None).unwrap_err();
            let start = format!("annotation io.runwasi.http.{key}: {value:?} ");
            assert!(error.starts_with(&start), "{error}");
        }
        let error = read("", Some("nonsense")).unwrap_err();
        let start = format!("environment variable {ADDRESS_VARIABLE}: \"nonsense\" ");
        assert!(error.starts_with(&start), "{error}");
    }
}
