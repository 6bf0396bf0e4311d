//! Servers in network namespaces; the cases are listed in `main.rs`.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::connection::Connection;
use runwasi_tests::network::Namespace;
use runwasi_tests::server::{APP, P3, command_in};

/// Nothing is said about addresses: both have the default one, each in a new network.
pub(crate) fn servers_in_two_networks_have_the_same_port(c: &mut Containers) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut networks = Vec::new();
    for (name, guest) in [("one", APP), ("other", P3)] {
        let id = c.id(name);
        command_in(c, &["-d"], &id, guest)?.run()?.ok()?;
        networks.push((Namespace::of(c.is_running(&id)?.pid)?, id));
    }
    for ((network, _), hello) in networks.iter().zip(["Hello from wasm!\n", "Hello from p3!\n"]) {
        let answer = Connection::within(network, address)?.get("/hello")?;
        ensure!(answer.body == hello, "{answer:?}");
    }
    ensure!(Connection::to(address).is_err(), "the host reaches one of them");
    for (_, id) in &networks {
        c.kill(id, "SIGTERM")?;
        ensure!(c.finish(id)? == 0);
    }
    drop(networks);
    c.fixture.becomes_clean()
}
