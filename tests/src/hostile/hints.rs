//! An upstream that never comes to its response, and clients that have a server ask it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, ensure};

use super::neighbours::rest;
use crate::http::get;

/// Starts a server that sends informational responses for as long as its client takes them.
pub fn upstream() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut client, _) = listener.accept()?;
            let hints = hints.clone();
            thread::spawn(move || -> Result<()> {
                ensure!(client.read(&mut [0; 4096])? > 0, "nothing was asked");
                // Until the client leaves, which is an error.
                loop {
                    client.write_all(&hints)?;
                }
            });
        }
    });
    Ok(address)
}

/// A client for each of some servers, until it is dropped.
pub struct Asking {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU32>,
    clients: Vec<JoinHandle<()>>,
}

impl Asking {
    /// Has each server ask the upstream again and again. They may start later.
    pub fn start(servers: &[SocketAddr], upstream: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let refused = Arc::<AtomicU32>::default();
        let client = |server: &SocketAddr| {
            let server = *server;
            let stop = stop.clone();
            let refused = refused.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // An error: the server does not run yet, or not any more.
                    let answer = get(server, &format!("/get?url=http://{upstream}/"));
                    if answer.is_ok_and(|answer| answer.status >= 500) {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    rest(Duration::from_millis(20));
                }
            })
        };
        let clients = servers.iter().map(client).collect();
        Self { stop, refused, clients }
    }

    /// Requests for which the upstream had no response.
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // It has nothing to say.
            drop(client.join());
        }
    }
}
