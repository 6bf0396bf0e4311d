//! Exit of a container that a stopped server has left undeleted: a file in the bundle, for
//! `delete`.

use std::{
    fs, io,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use crate::engine::exit::{Exit, ExitStatus};

/// Name of the file. Content: the status, a space, and the time in nanoseconds since 1970.
const FILE: &str = "exit.status";

/// Leaves an exit in the bundle of its container.
pub(crate) fn write(bundle: &Path, exit: Exit) -> io::Result<()> {
    // An earlier time counts as 1970, as in the messages to containerd.
    let at = exit.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    fs::write(bundle.join(FILE), format!("{} {}", exit.status.get(), at.as_nanos()))
}

/// The exit that was left, if there is one.
pub(crate) fn read(bundle: &Path) -> Option<Exit> {
    parse(&fs::read_to_string(bundle.join(FILE)).ok()?)
}

fn parse(text: &str) -> Option<Exit> {
    let (status, at) = text.split_once(' ')?;
    let status: u8 = status.parse().ok()?;
    let at = UNIX_EPOCH.checked_add(Duration::from_nanos(at.parse().ok()?))?;
    Some(Exit { status: ExitStatus::code(status.into()), at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::signal::Signal;

    #[test]
    fn an_exit_is_read_as_it_was_left() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(read(bundle.path()), None);
        for status in
            [ExitStatus::SUCCESS, ExitStatus::code(-1), ExitStatus::signalled(Signal::TERM)]
        {
            let exit = Exit::now(status);
            write(bundle.path(), exit).unwrap();
            assert_eq!(read(bundle.path()), Some(exit));
        }
    }

    #[test]
    fn a_torn_or_foreign_file_is_no_exit() {
        for text in ["", "143", "143 ", "256 1", "-1 1", "143 x", "143 1 2", "143 1\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
