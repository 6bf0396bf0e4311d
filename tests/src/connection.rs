//! A connection of HTTP/1.1 that is kept, also in a network namespace of its own; called by tests of servers. One request alone is
//! [`http`](crate::http)'s.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::http::Answer;
use crate::network::Namespace;
use crate::runtime::target_dir;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The folder with the guests that `scripts/guests` builds, among them the servers; they are no part of an image.
pub fn guests() -> Result<PathBuf> {
    let folder = target_dir().join("guests");
    ensure!(
        folder.join("http_app.wasm").exists(),
        "no guests in {}: `make images` builds them",
        folder.display()
    );
    Ok(folder.canonicalize()?)
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    host: SocketAddr,
    /// Read and not used yet.
    rest: Vec<u8>,
    /// The last answer was the last of the connection.
    is_last: bool,
}

impl Connection {
    /// From the host's network.
    pub fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, host: address, rest: Vec::new(), is_last: false })
    }

    /// From inside a namespace.
    pub fn within(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        namespace.inside(|| Self::to(address))?
    }

    /// Asks, and waits for the whole answer.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(path)?;
        self.answer().with_context(|| format!("GET {path} of {}", self.host))
    }

    /// The server closes the connection after its last answer, as the head of that has told.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Asks only.
    pub fn send(&mut self, path: &str) -> Result<()> {
        Ok(write!(self.stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host)?)
    }

    /// Waits for the head of an answer whose body is still being made.
    pub fn head(&mut self) -> Result<String> {
        self.until(b"\r\n\r\n")
    }

    /// The answer to what was asked.
    pub fn answer(&mut self) -> Result<Answer> {
        let head = self.until(b"\r\n\r\n")?;
        let status =
            head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        let value = |name: &str| {
            let line = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
            line.map(|value| value.trim().to_owned())
        };
        self.is_last = value("connection:").is_some_and(|value| value == "close");
        let body = match (value("content-length:"), value("transfer-encoding:")) {
            (Some(length), _) => self.exactly(length.parse()?)?,
            (None, Some(_)) => self.chunks()?,
            (None, None) => Vec::new(),
        };
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let length = usize::from_str_radix(line.trim(), 16)
                .with_context(|| format!("{line:?} is no length"))?;
            body.extend(self.exactly(length)?);
            self.until(b"\r\n")?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn until(&mut self, mark: &[u8]) -> Result<String> {
        loop {
            if let Some(place) = self.rest.windows(mark.len()).position(|window| window == mark) {
                return Ok(String::from_utf8_lossy(&self.exactly(place + mark.len())?).into_owned());
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.rest.len() < length {
            self.more()?;
        }
        let tail = self.rest.split_off(length);
        Ok(std::mem::replace(&mut self.rest, tail))
    }

    fn more(&mut self) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        let read = self.stream.read(&mut chunk)?;
        ensure!(read > 0, "closed in the middle of an answer");
        self.rest.extend_from_slice(&chunk[..read]);
        Ok(())
    }
}
