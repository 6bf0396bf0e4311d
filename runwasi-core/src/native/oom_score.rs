//! OOM scores (`proc(5)`): a delegate has that of the shims that containerd starts, one above
//! containerd's. Containers without a score in their `config.json` inherit it.

use std::{fs, io, path::Path, sync::OnceLock};

use crate::sys;

/// Highest score.
const MOST: i32 = 1000;

/// Lowest score.
const LEAST: i32 = -1000;

/// The score of this process before it has containers: at the first call.
// With those of a pod it has theirs, which delegates are not to have.
pub(crate) fn own() -> Option<i32> {
    static OWN: OnceLock<Option<i32>> = OnceLock::new();
    *OWN.get_or_init(|| of("self"))
}

/// The score of a shim that containerd starts, whose gRPC socket this is. Nothing if containerd is
/// not there.
pub(super) fn of_shims(grpc_address: &str) -> Option<i32> {
    let path = grpc_address.strip_prefix("unix://").unwrap_or(grpc_address);
    let containerd = sys::socket_peer(Path::new(path))?;
    Some((of(&containerd.to_string())? + 1).min(MOST))
}

/// The score from which a program that gives its children one more than its own makes this one.
pub(super) fn below(score: i32) -> i32 {
    (score - 1).max(LEAST)
}

/// Gives a process this score.
pub(super) fn set(pid: u32, score: i32) -> io::Result<()> {
    let pid = pid.to_string();
    // Without a change no privilege is needed.
    match of(&pid) {
        Some(present) if present == score => Ok(()),
        _ => fs::write(file(&pid), score.to_string()),
    }
}

fn of(pid: &str) -> Option<i32> {
    fs::read_to_string(file(pid)).ok()?.trim().parse().ok()
}

/// The file of a process's score.
pub(crate) fn file(pid: &str) -> String {
    format!("/proc/{pid}/oom_score_adj")
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, process::Command};

    use super::*;

    #[test]
    fn a_shim_has_one_more_than_the_process_behind_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let [bare, full] = ["", "unix://"].map(|scheme| format!("{scheme}{}", path.display()));
        assert_eq!(of_shims(&bare), None);
        let _containerd = UnixListener::bind(&path).unwrap();
        let expected = (own().unwrap() + 1).min(MOST);
        assert_eq!([of_shims(&bare), of_shims(&full)], [Some(expected); 2]);
        assert_eq!([below(-998), below(LEAST)], [-999, LEAST]);
    }

    #[test]
    fn a_process_gets_a_score() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        set(child.id(), 600).unwrap();
        set(child.id(), 600).unwrap();
        assert_eq!(of(&child.id().to_string()), Some(600));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
