//! Address at which metrics are served.

use std::{fmt, net::SocketAddr, path::PathBuf};

use runwasi_core::{
    bootstrap::socket::MAX_PATH,
    settings::{OFF, absolute_path},
};
use serde::{Serialize, Serializer};

/// Value of the setting `metrics-address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Metrics are not served.
    Off,
    /// A TCP port.
    Ip(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Parses `off`, `IP:PORT` or an absolute path.
    pub fn parse(word: &str) -> Result<Self, String> {
        if word == OFF {
            return Ok(Self::Off);
        }
        if word.starts_with('/') {
            return unix(word).map(Self::Unix);
        }
        // No name: it would be looked up, and could lead elsewhere tomorrow.
        let address: SocketAddr = word.parse().map_err(|_| {
            format!("{word:?} is no IP address with a port, nor an absolute path, nor {OFF:?}")
        })?;
        match address.port() {
            0 => Err(format!("{word:?} has no port")),
            _ => Ok(Self::Ip(address)),
        }
    }
}

fn unix(word: &str) -> Result<PathBuf, String> {
    let path = absolute_path(word)?;
    if path.file_name().is_none() || word.ends_with('/') {
        return Err(format!("{word:?} names a directory, not a socket"));
    }
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(format!("{word:?} has {length} bytes, at most {MAX_PATH} are possible"));
    }
    Ok(path)
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str(OFF),
            Self::Ip(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
