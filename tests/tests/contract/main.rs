//! What the shim owes containerd and its users besides containers: its command line's answers, file systems given back,
//! `make install` and `make load`; run by `make test`.

mod bootstrap;
mod make;
mod rootfs;

use anyhow::Result;
use runwasi_tests::{Player, Runtime};

/// Runs one case with a player for the runtime's shim.
#[track_caller]
pub(crate) fn play(runtime: Runtime, case: impl FnOnce(&Player) -> Result<()>) {
    let player = match Player::new(runtime) {
        Ok(player) => player,
        Err(error) => panic!("no player for {runtime:?}: {error:?}"),
    };
    // A panic while the player still stands, so that the shims' log is printed.
    if let Err(error) = case(&player) {
        panic!("{runtime:?}: {error:?}");
    }
}
