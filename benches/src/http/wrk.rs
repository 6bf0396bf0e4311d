//! The load: Debian's `wrk`, for a few seconds on one server; called by `http`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;

/// Kept open, each with one request at a time.
pub(crate) const CONNECTIONS: usize = 32;

const SECONDS: u64 = 3;

/// One thread: it shares two cores with the server.
const THREADS: usize = 1;

/// What a server did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Every answer must be a good one, or it is no measurement.
pub(crate) fn load(server: SocketAddr, path: &str) -> Result<Load> {
    let (threads, connections) = (format!("-t{THREADS}"), format!("-c{CONNECTIONS}"));
    let (duration, url) = (format!("-d{SECONDS}s"), format!("http://{server}/{path}"));
    let command = Command::new("wrk").args(["--latency", &threads, &connections, &duration, &url]);
    let ended = command
        .deadline(Duration::from_secs(SECONDS + 20))
        .run()
        .context("`make setup` installs wrk")?
        .ok()?;
    parse(&ended.out())
}

fn parse(text: &str) -> Result<Load> {
    for complaint in ["Socket errors", "Non-2xx"] {
        ensure!(!text.contains(complaint), "not all requests were answered:\n{text}");
    }
    let value =
        |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let millis =
        |name: &str| value(name).and_then(millis).with_context(|| format!("no {name} in:\n{text}"));
    let rate = value("Requests/sec:").and_then(|rate| rate.parse().ok());
    let rate: f64 = rate.with_context(|| format!("no rate in:\n{text}"))?;
    ensure!(rate > 0.0, "no requests:\n{text}");
    Ok(Load { rate, p50: millis("50%")?, p99: millis("99%")? })
}

/// `wrk` gives times with a unit of its choice.
fn millis(text: &str) -> Option<f64> {
    let (unit, factor) =
        [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)].into_iter().find(|(unit, _)| {
            text.strip_suffix(unit)
                .is_some_and(|number| number.ends_with(|last: char| last.is_ascii_digit()))
        })?;
    Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
Running 3s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.17ms    1.00ms  20.00ms   90.00%
  Latency Distribution
     50%  980.00us
     75%    1.20ms
     90%    2.00ms
     99%    1.01s
  44321 requests in 3.00s, 5.00MB read
Requests/sec:  14773.67
Transfer/sec:      1.67MB
";

    #[test]
    fn figures_are_read_whatever_their_unit() {
        assert_eq!(parse(SAID).unwrap(), Load { rate: 14773.67, p50: 0.98, p99: 1010.0 });
        assert_eq!(
            (millis("2.50ms"), millis("1.00m"), millis("x"), millis("ms")),
            (Some(2.5), Some(6e4), None, None)
        );
    }

    #[test]
    fn failed_requests_are_no_measurement() {
        let failed = SAID.replace("Requests/sec", "  Non-2xx or 3xx responses: 7\nRequests/sec");
        assert!(format!("{:#}", parse(&failed).unwrap_err()).contains("Non-2xx"));
        let cut = SAID.replace(
            "Requests/sec",
            "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec",
        );
        assert!(parse(&cut).is_err());
        assert!(parse("Requests/sec: 5").is_err());
    }
}
