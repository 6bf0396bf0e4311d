//! Starts guests that serve HTTP; called by tests of such servers.

use std::net::SocketAddr;

use anyhow::Result;

use crate::connection::guests;
use crate::http::address;
use crate::{Command, Containers};

/// A server of WASI p2, with a path for each thing that a test wants to see.
pub const APP: &str = "/guests/http_app.wasm";
/// One of WASI p3.
pub const P3: &str = "/guests/p3_http.wasm";

/// `ctr run FLAGS` of a server on the host's network, at that address.
pub fn command(
    c: &Containers,
    flags: &[&str],
    id: &str,
    guest: &str,
    address: SocketAddr,
) -> Result<Command> {
    let address = format!("io.runwasi.http.address={address}");
    let mut all = vec!["--net-host", "--annotation", &address];
    all.extend(flags);
    command_in(c, &all, id, guest)
}

/// The same without network or address.
pub fn command_in(c: &Containers, flags: &[&str], id: &str, guest: &str) -> Result<Command> {
    let mount = format!("type=bind,src={},dst=/guests,options=rbind:ro", guests()?.display());
    let mut line = vec!["run", "--runtime", c.runtime.name(), "--mount", &mount];
    line.extend(flags);
    line.extend([c.runtime.image().name(), id, guest]);
    Ok(c.fixture.ctr_command(line))
}

/// Starts one in the background; it listens when this returns.
pub fn serve(c: &Containers, flags: &[&str], id: &str, guest: &str) -> Result<SocketAddr> {
    let address = address();
    command(c, &[&["-d"], flags].concat(), id, guest, address)?.run()?.ok()?;
    Ok(address)
}
