//! HTTP settings of a container, from its annotations.
//!
//! They are read when the instance is made, so that a wrong one fails containerd's `Create`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use runwasi_core::{EngineError, InstanceSpec};

/// Annotation: listening address, `IP:PORT`. It wins over [`ADDRESS_VARIABLE`].
// The variable may come from the image, the annotation comes from the container's owner.
const ADDRESS: &str = "io.runwasi.http.address";
/// Environment variable of the container: listening address, if no annotation gives one.
const ADDRESS_VARIABLE: &str = "RUNWASI_HTTP_ADDRESS";
/// Annotation: number of open connections. More wait in the backlog.
const MAX_CONNECTIONS: &str = "io.runwasi.http.max-connections";
/// Annotation: number of concurrent requests, each in an instance of its own. More wait for
/// `queue-timeout`.
const MAX_REQUESTS: &str = "io.runwasi.http.max-requests";
/// Annotation: time that a request waits for an instance before it is answered with 503.
const QUEUE_TIMEOUT: &str = "io.runwasi.http.queue-timeout";
/// Annotation: time that a client may take for the head of a request.
const HEADER_TIMEOUT: &str = "io.runwasi.http.header-timeout";
/// Annotation: time that the guest may take until it answers, and again after its answer was sent.
const REQUEST_TIMEOUT: &str = "io.runwasi.http.request-timeout";
/// Annotation: time that a connection stays open without a request, and that a client may stall a
/// body.
const IDLE_TIMEOUT: &str = "io.runwasi.http.idle-timeout";
/// Annotation: number of requests that an instance of a WASI p3 component serves, one after
/// another.
const MAX_REUSE: &str = "io.runwasi.http.max-reuse";

const MOST_CONNECTIONS: u32 = 100_000;
const MOST_REQUESTS: u32 = 100_000;
const MOST_REUSE: u32 = 1_000_000;
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) address: SocketAddr,
    pub(super) max_connections: u32,
    pub(super) max_requests: u32,
    pub(super) queue_timeout: Duration,
    pub(super) header_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_reuse: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::UNSPECIFIED, 8080).into(),
            max_connections: 1024,
            max_requests: 100,
            queue_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            max_reuse: 1000,
        }
    }
}

impl Settings {
    /// Reads the settings of a container.
    pub(super) fn new(spec: &InstanceSpec) -> Result<Self, EngineError> {
        let annotation = |key: &str| spec.annotations.get(key).map(String::as_str);
        Self::read(annotation, spec.env(ADDRESS_VARIABLE)).map_err(EngineError::Failed)
    }

    fn read<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
        variable: Option<&str>,
    ) -> Result<Self, String> {
        let default = Self::default();
        // With the annotation, the variable is not read: a wrong value there does no harm.
        let address = match (annotation(ADDRESS), variable) {
            (Some(text), _) => {
                address(text).map_err(|reason| wrong("annotation", ADDRESS, text, &reason))?
            }
            (None, Some(text)) => address(text)
                .map_err(|reason| wrong("environment variable", ADDRESS_VARIABLE, text, &reason))?,
            (None, None) => default.address,
        };
        let count =
            |key, most, default| read(annotation(key), key, default, |text| count(text, most));
        let time = |key, default| read(annotation(key), key, default, time);
        Ok(Self {
            address,
            max_connections: count(MAX_CONNECTIONS, MOST_CONNECTIONS, default.max_connections)?,
            max_requests: count(MAX_REQUESTS, MOST_REQUESTS, default.max_requests)?,
            queue_timeout: time(QUEUE_TIMEOUT, default.queue_timeout)?,
            header_timeout: time(HEADER_TIMEOUT, default.header_timeout)?,
            request_timeout: time(REQUEST_TIMEOUT, default.request_timeout)?,
            idle_timeout: time(IDLE_TIMEOUT, default.idle_timeout)?,
            max_reuse: count(MAX_REUSE, MOST_REUSE, default.max_reuse)?,
        })
    }
}

fn read<T>(
    text: Option<&str>,
    key: &str,
    default: T,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, String> {
    let Some(text) = text else { return Ok(default) };
    parse(text).map_err(|reason| wrong("annotation", key, text, &reason))
}

/// Error text for a wrong value.
fn wrong(what: &str, key: &str, text: &str, reason: &str) -> String {
    // The value is the user's and may be of any length: the error shows its beginning.
    let shown: String = text.chars().take(64).collect();
    format!("{what} {key}: {shown:?} {reason}")
}

fn address(text: &str) -> Result<SocketAddr, String> {
    match SocketAddr::from_str(text) {
        Ok(address) if address.port() == 0 => Err("has no port that a client could know".into()),
        Ok(address) => Ok(address),
        Err(_) => Err("is no address: IP:PORT is one, like 0.0.0.0:8080 or [::]:8080".into()),
    }
}

fn count(text: &str, most: u32) -> Result<u32, String> {
    let number = digits(text).and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("is no number from 1 to {most}"))
}

fn time(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let parsed = units.into_iter().find_map(|(unit, millis)| {
        let number = digits(text.strip_suffix(unit)?)?;
        number.checked_mul(millis).map(Duration::from_millis)
    });
    let valid = parsed.filter(|time| !time.is_zero() && *time <= LONGEST);
    valid.ok_or_else(|| "is no time from 1ms to 24h: a number with ms, s, m or h is one".into())
}

/// Parses a number of nothing but digits.
fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take a sign, too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        annotations: &[(&str, &'static str)],
        variable: Option<&str>,
    ) -> Result<Settings, String> {
        let of = |key: &str| {
            annotations.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
        };
        Settings::read(of, variable)
    }

    #[test]
    fn defaults_apply_without_annotations() {
        assert_eq!(read(&[], None), Ok(Settings::default()));
        assert_eq!(Settings::default().address.to_string(), "0.0.0.0:8080");
    }

    #[test]
    fn the_annotation_wins_over_the_variable() {
        let address =
            |annotations, variable| read(annotations, variable).unwrap().address.to_string();
        assert_eq!(address(&[], Some("127.0.0.1:80")), "127.0.0.1:80");
        assert_eq!(address(&[(ADDRESS, "[::]:81")], Some("127.0.0.1:80")), "[::]:81");
        assert_eq!(address(&[(ADDRESS, "[::]:81")], Some("nonsense")), "[::]:81", "it is not read");
    }

    #[test]
    fn every_setting_is_read() {
        let settings = read(
            &[
                (MAX_CONNECTIONS, "1"),
                (MAX_REQUESTS, "2"),
                (QUEUE_TIMEOUT, "3ms"),
                (HEADER_TIMEOUT, "4s"),
                (REQUEST_TIMEOUT, "5m"),
                (IDLE_TIMEOUT, "6h"),
                (MAX_REUSE, "7"),
            ],
            None,
        );
        let expected = Settings {
            address: Settings::default().address,
            max_connections: 1,
            max_requests: 2,
            queue_timeout: Duration::from_millis(3),
            header_timeout: Duration::from_secs(4),
            request_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(6 * 3600),
            max_reuse: 7,
        };
        assert_eq!(settings, Ok(expected));
    }

    #[test]
    fn error_names_the_key_and_the_wrong_value() {
        let wrong = [
            (ADDRESS, "8080"),
            (ADDRESS, ":8080"),
            (ADDRESS, "localhost:8080"),
            (ADDRESS, "0.0.0.0:0"),
            (ADDRESS, "0.0.0.0:65536"),
            (MAX_CONNECTIONS, "0"),
            (MAX_CONNECTIONS, "+1"),
            (MAX_CONNECTIONS, ""),
            (MAX_REQUESTS, "many"),
            (MAX_REQUESTS, "18446744073709551616"),
            (HEADER_TIMEOUT, "10"),
            (HEADER_TIMEOUT, "0s"),
            (HEADER_TIMEOUT, "25h"),
            (REQUEST_TIMEOUT, "-1s"),
            (IDLE_TIMEOUT, "1.5s"),
            (QUEUE_TIMEOUT, "s"),
            (QUEUE_TIMEOUT, "99999999999999999h"),
            (MAX_REUSE, "0"),
        ];
        for (key, value) in wrong {
            let error = read(&[(key, value)], None).unwrap_err();
            assert!(error.contains(key) && error.contains(&format!("{value:?}")), "{error}");
        }
        let error = read(&[], Some("nonsense")).unwrap_err();
        assert!(error.contains(ADDRESS_VARIABLE), "{error}");
    }
}
