//! The load: Debian's `wrk`, for a few seconds on one server; called by `http` and `clients`.

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;
use tempfile::NamedTempFile;

/// Kept open, each with one request at a time.
const CONNECTIONS: usize = 32;

const SECONDS: u64 = 2;

/// One thread: it shares two cores with the server.
const THREADS: usize = 1;

/// The request that all clients repeat, and their number.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    path: String,
    connections: usize,
    /// Bytes of its body; a request without one is a `GET`.
    body: usize,
}

impl Request {
    pub(crate) fn get(path: &str) -> Self {
        Self { path: path.to_owned(), connections: CONNECTIONS, body: 0 }
    }

    /// With a body of that many bytes.
    pub(crate) fn post(self, body: usize) -> Self {
        Self { body, ..self }
    }

    /// Sent by that many clients.
    pub(crate) fn by(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// The script for `wrk`, if it needs one.
    fn script(&self) -> Result<Option<NamedTempFile>> {
        if self.body == 0 {
            return Ok(None);
        }
        let mut file = NamedTempFile::new()?;
        let body = format!("string.rep(\"x\", {})", self.body);
        write!(file, "wrk.method = \"POST\"\nwrk.body = {body}\n")?;
        Ok(Some(file))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections, /{}", self.connections, self.path)?;
        if self.body > 0 {
            write!(f, " with a body of {} bytes", self.body)?;
        }
        Ok(())
    }
}

/// What a server did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// All of them.
    pub(crate) requests: f64,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Every answer must be a good one, or it is no measurement.
pub(crate) fn load(server: SocketAddr, request: &Request) -> Result<Load> {
    let (threads, connections) = (format!("-t{THREADS}"), format!("-c{}", request.connections));
    let (duration, url) = (format!("-d{SECONDS}s"), format!("http://{server}/{}", request.path));
    let script = request.script()?;
    let mut command =
        Command::new("wrk").args(["--latency", &threads, &connections, &duration, &url]);
    if let Some(script) = &script {
        command = command.args(["-s".as_ref(), script.path().as_os_str()]);
    }
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
    let requests =
        text.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
    let requests: f64 = requests.with_context(|| format!("no number of requests in:\n{text}"))?;
    ensure!(rate > 0.0 && requests > 0.0, "no requests:\n{text}");
    Ok(Load { requests, rate, p50: millis("50%")?, p99: millis("99%")? })
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
        assert_eq!(
            parse(SAID).unwrap(),
            Load { requests: 44321.0, rate: 14773.67, p50: 0.98, p99: 1010.0 }
        );
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
        assert!(parse("nothing").is_err());
    }
}
