//! Sockets that somebody else has; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, ensure};
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::{Command, ShimDriver, says};

use crate::witness::{Witness, bundle};

pub(crate) fn socket_squatted_by_another_process_is_refused(p: &ShimDriver) -> Result<()> {
    let witness = Witness::start(p, "witness")?;
    let socket = p.socket("squat");
    // It takes connections, but what it says is nobody's business.
    let squatter = UnixListener::bind(&socket)?;
    let bundle = bundle(p, "squat")?;
    let said = p.start("squat", bundle.path())?.refused()?;
    says(&said, &[&socket.to_string_lossy()], &[])?;
    ensure!(socket.exists(), "the other process's socket was removed");
    witness.is_undisturbed(p)?;
    drop(squatter);
    // Now it is stale.
    Witness::start(p, "squat")?.end(p)?;
    witness.end(p)?;
    p.becomes_clean()
}

pub(crate) fn manager_socket_squatted_by_another_process_is_refused(p: &ShimDriver) -> Result<()> {
    let (config, dir) = (p.dir().join("empty.toml"), p.dir().join("o"));
    fs::write(&config, "")?;
    fs::create_dir(&dir)?;
    let [taken, file, directory] =
        ["taken.sock", "file.sock", "dir.sock"].map(|name| dir.join(name));
    let squatter = UnixListener::bind(&taken)?;
    fs::write(&file, "not a socket")?;
    fs::create_dir(&directory)?;
    for socket in [&taken, &file, &directory] {
        let (config, path) = (config.to_string_lossy(), socket.to_string_lossy());
        let said =
            Command::new(daemon_file()).args(["--config", &*config, "--socket", &*path]).run();
        // Not even a hang may leave it without a name.
        let said = said.with_context(|| format!("at {path}"))?.refused()?;
        says(&said, &[&path], &[])?;
        ensure!(socket.exists(), "{path} was removed");
    }
    drop(squatter);
    // The daemon of the shim driver has had nothing to do with it.
    Witness::start(p, "witness")?.end(p)?;
    p.becomes_clean()
}
