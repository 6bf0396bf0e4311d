//! A server in a network of Docker's; the case is listed in `main.rs`.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use runwasi_tests::http::get_when_up;
use runwasi_tests::{Docker, Image};

pub(crate) fn published_port_reaches_a_server(d: &mut Docker) -> Result<()> {
    d.load(Image::Wasmguests)?;
    d.says(&["network", "create", "own"])?;
    let flags = [
        "--network",
        "own",
        "-p",
        "8080:7070",
        "--annotation",
        "io.runwasi.http.address=0.0.0.0:7070",
        "--entrypoint",
        "/http_hello.wasm",
    ];
    d.detached_of(Image::Wasmguests.name(), "server", &flags, &[])?;
    let format = "{{.NetworkSettings.Networks.own.IPAddress}}";
    let address = d.says(&["inspect", "-f", format, "server"])?;
    let address: Ipv4Addr = address.parse().with_context(|| address.clone())?;
    for place in [SocketAddr::from((address, 7070)), (Ipv4Addr::LOCALHOST, 8080).into()] {
        let answer = get_when_up(place, "/")?;
        ensure!(answer.status == 200 && answer.body == "Hello from wasm!\n", "{answer:?}");
    }
    // Docker's own name server knows it by name.
    let flags = ["--network", "own", "--entrypoint", "/net.wasm"];
    let asked = ["http-get", "http://server:7070/"];
    let answer = d.run_of(Image::Wasmguests.name(), &flags, &asked).run()?.ok()?;
    ensure!(answer.out() == "200\nHello from wasm!\n", "{answer}");
    // SIGTERM drains.
    d.says(&["stop", "server"])?;
    let state = d.state("server")?;
    ensure!(state.exit_code == 0, "{state:?}");
    let unknown = ["--annotation", "io.runwasi.http.adress=0.0.0.0:7070"];
    let refused = d.run(&unknown, &["echo"]).run()?.status_is(125)?.err();
    ensure!(refused.contains("io.runwasi.http.adress"), "{refused}");
    Ok(())
}
