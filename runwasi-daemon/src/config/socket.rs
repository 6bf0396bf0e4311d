//! The manager socket, and its variable: the settings of the thin shim.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use runwasi_core::{
    bootstrap::socket::MAX_PATH,
    settings::{SettingsError, absolute_path},
};

use crate::identity::Identity;

/// The longest name below the socket's directory, with the kernel's largest pid (`PID_MAX_LIMIT`).
const LONGEST_PRIVATE_SOCKET: &str = "daemons/4194304.sock";

/// An environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The manager socket for clients, which read no file: that of the variable, else the default.
pub fn client_socket(
    identity: &Identity,
    environment: Environment<'_>,
) -> Result<PathBuf, SettingsError> {
    let Some((name, path)) = variable(identity, "socket", environment)? else {
        return Ok(identity.socket());
    };
    self::socket(&path).map_err(|reason| SettingsError::new(name, reason))
}

/// The path of a socket, short enough to bind every socket beside it.
pub(super) fn socket(word: &str) -> Result<PathBuf, String> {
    let path = absolute_path(word)?;
    let (Some(directory), Some(name), false) =
        (path.parent(), path.file_name(), word.ends_with('/'))
    else {
        return Err(format!("{word:?} names a directory, not a socket"));
    };
    if directory == Path::new("/") {
        let why = "its directory becomes the daemon's own";
        return Err(format!("{word:?} is in the root directory; {why}"));
    }
    if name == "daemons" || name == "sandboxes" {
        return Err(format!("{word:?} has the name of one of the daemon's directories"));
    }
    let private = directory.join(LONGEST_PRIVATE_SOCKET);
    for path in [&path, &private] {
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            let most = format!("with {length} bytes, at most {MAX_PATH} are possible");
            return Err(format!("a socket would be {path:?} {most}"));
        }
    }
    Ok(path)
}

/// The variable of a key, if it is set, and its text: settings go into messages to containerd.
pub(super) fn variable(
    identity: &Identity,
    key: &str,
    environment: Environment<'_>,
) -> Result<Option<(String, String)>, SettingsError> {
    let name = identity.variable(key);
    match environment(&name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some((name, text))),
        Some(Err(value)) => Err(SettingsError::new(name, format_args!("{value:?} is not UTF-8"))),
    }
}
