//! The flags of one start of a daemon.

use std::{ffi::OsString, path::Path};

use clap::Args;
use runwasi_core::settings::Within;

/// Flags of one start, which are no keys of a file.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct StartFlags {
    /// Write "ready" to this open descriptor (3 or more) and close it, when serving.
    #[arg(long, value_name = "N", value_parser = open_fd)]
    pub ready_fd: Option<i32>,
    /// Take this open descriptor (3 or more) as the manager socket, listening.
    #[arg(long, value_name = "N", value_parser = open_fd)]
    pub listen_fd: Option<i32>,
    /// Leave a small parent process, for systemd.
    #[arg(long)]
    pub guard: bool,
    /// Report to the guard by this open descriptor (3 or more); guards add this flag.
    #[arg(long, value_name = "N", value_parser = open_fd)]
    pub guard_fd: Option<i32>,
    /// The flags that a guard passes on to the daemons it starts.
    #[arg(skip)]
    pub of_hosts: Vec<OsString>,
}

/// A descriptor that is open now, before any is opened here: a wrong number could later be that of
/// a connection, and `ready` would go to a stranger. A standard stream must not be closed.
fn open_fd(word: &str) -> Result<i32, String> {
    let fd = Within::<0, { i32::MAX.unsigned_abs() }>::parse(word, "")?.cast_signed();
    if fd < 3 {
        return Err(format!("{fd} is a standard stream; 3 or more is needed"));
    }
    let open = Path::new("/proc/self/fd").join(fd.to_string()).symlink_metadata();
    open.map(|_| fd).map_err(|_| format!("{fd} is not open"))
}
