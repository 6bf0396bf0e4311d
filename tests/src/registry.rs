//! A registry that images can be pulled from, as much of one as containerd asks for; used by tests of pods.
//!
//! It serves the tars that the build wrote, on the loopback of the calling thread's network, where containerd takes plain HTTP.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::runtime::Image;

/// A client that says nothing for this long is closed.
const SILENCE: Duration = Duration::from_secs(10);

/// A registry; it ends when dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

/// What it has.
#[derive(Debug, Default)]
struct Contents {
    /// Manifests and indexes by repository: their digests.
    tags: HashMap<String, String>,
    /// Blobs by their digests.
    blobs: HashMap<String, Vec<u8>>,
}

impl Registry {
    /// Serves these images.
    pub fn start(images: &[Image]) -> Result<Self> {
        let mut contents = Contents::default();
        for image in images {
            contents.add(*image).with_context(|| image.name())?;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let (address, ended) = (listener.local_addr()?, Arc::<AtomicBool>::default());
        let stop = ended.clone();
        let serve = move || {
            for stream in listener.incoming().take_while(|_| !stop.load(Ordering::SeqCst)) {
                // A client that goes away in the middle of an answer asks again, or the pull fails and says so.
                drop(stream.map(|stream| contents.answer(&stream)));
            }
        };
        Ok(Self { address, ended, server: Some(std::thread::spawn(serve)) })
    }

    /// What the image is to be pulled by.
    pub fn name(&self, image: Image) -> String {
        format!("{}/{}", self.address, repository(image))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes it, to see that.
        drop(TcpStream::connect(self.address));
        if let Some(server) = self.server.take() {
            // A panic of it has been printed, and the pull it was for has failed.
            drop(server.join());
        }
    }
}

/// `library/NAME:latest`.
fn repository(image: Image) -> &'static str {
    image.name().trim_start_matches("docker.io/")
}

impl Contents {
    fn add(&mut self, image: Image) -> Result<()> {
        let tar = image.tar();
        let bytes = fs::read(&tar)
            .with_context(|| format!("{}: `make images` writes it", tar.display()))?;
        for entry in tar::Archive::new(&*bytes).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                self.blobs.insert(format!("sha256:{hex}"), content);
            } else if path == "index.json" {
                let index: Value = serde_json::from_slice(&content)?;
                let digest =
                    index["manifests"][0]["digest"].as_str().context("an index of nothing")?;
                let name = repository(image).trim_end_matches(":latest");
                self.tags.insert(name.to_owned(), digest.to_owned());
            }
        }
        Ok(())
    }

    /// Answers one request, then the connection is closed.
    fn answer(&self, stream: &TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        let mut first = [0];
        stream.peek(&mut first)?;
        if !first[0].is_ascii_uppercase() {
            // A TLS client: this makes containerd 2 ask again without.
            return refuse(stream, "400 Bad Request");
        }
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().context("no request")??;
        // The headers do not matter, but must be read.
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let words: Vec<_> = request.split(' ').collect();
        ensure!(words.len() == 3, "{request}");
        let mut stream = stream;
        match self.find(words[1]) {
            Some((digest, content)) => {
                let media_type = media_type(content);
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nDocker-Content-Digest: {digest}\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    content.len()
                )?;
                if words[0] == "GET" {
                    stream.write_all(content)?;
                }
            }
            None => refuse(stream, "404 Not Found")?,
        }
        Ok(stream.flush()?)
    }

    /// `/v2/REPOSITORY/manifests/TAG-OR-DIGEST` or `/v2/REPOSITORY/blobs/DIGEST`.
    fn find(&self, path: &str) -> Option<(&str, &[u8])> {
        let path = path.split('?').next()?.strip_prefix("/v2/")?;
        let (repository, wanted) =
            path.split_once("/manifests/").or_else(|| path.split_once("/blobs/"))?;
        let digest =
            if wanted.starts_with("sha256:") { wanted } else { self.tags.get(repository)? };
        let (digest, content) = self.blobs.get_key_value(digest)?;
        Some((digest, content))
    }
}

fn refuse(mut stream: &TcpStream, why: &str) -> Result<()> {
    Ok(write!(stream, "HTTP/1.1 {why}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?)
}

/// Of manifests and indexes what they say themselves; of the rest nothing matters.
fn media_type(content: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(content).ok();
    let said = json.and_then(|json| json["mediaType"].as_str().map(str::to_owned));
    said.unwrap_or_else(|| "application/octet-stream".to_owned())
}
