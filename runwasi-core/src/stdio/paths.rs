//! Paths and addresses of standard streams, as containerd gives them.

use std::path::PathBuf;

use url::Url;

use super::error::StdioError;

/// Scheme of loggers that tell their readiness by a byte.
pub(super) const LOGGER_V2: &str = "binary-v2";

/// The stdio of `Create`, as containerd gives it and expects it back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StdioPaths {
    /// Path of the FIFO, or empty.
    pub stdin: String,
    /// Path of the FIFO, an address (`file://`, `binary://`), or empty.
    pub stdout: String,
    /// Path of the FIFO, an address (`file://`, `binary://`), or empty.
    pub stderr: String,
    /// True if a pty is requested.
    pub terminal: bool,
}

/// Source or destination of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamTarget {
    Nothing,
    Fifo(PathBuf),
    File(PathBuf),
    Logger(Url),
}

pub(super) fn place(stream: &'static str, address: &str) -> Result<StreamTarget, StdioError> {
    if address.is_empty() || address == "/dev/null" {
        return Ok(StreamTarget::Nothing);
    }
    // A plain path is taken as it is. Only addresses are decoded.
    let Some((scheme, rest)) = address.split_once("://") else {
        return Ok(StreamTarget::Fifo(address.into()));
    };
    let wrong = |reason: &str| StdioError::Address {
        stream,
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    let target: fn(PathBuf, Url) -> StreamTarget = match scheme {
        "fifo" => |path, _| StreamTarget::Fifo(path),
        "file" => |path, _| StreamTarget::File(path),
        "binary" | LOGGER_V2 => |_, url| StreamTarget::Logger(url),
        scheme => return Err(unsupported(stream, scheme)),
    };
    if !rest.starts_with('/') {
        return Err(wrong("names a host; an absolute path begins with a third slash"));
    }
    let path = path(&url).ok_or_else(|| wrong("is no path"))?;
    Ok(target(path, url))
}

fn unsupported(stream: &'static str, scheme: &str) -> StdioError {
    // `ttrpc+unix`, `grpc+vsock`: a service of the sandbox from which containerd 2.1 and later
    // takes the streams, if so configured.
    let why = match scheme.contains('+') {
        true => "the CRI's io_type must be \"named_pipe\", not \"streaming\"",
        false => "streams are FIFOs, file:// or binary://",
    };
    StdioError::Unsupported { what: format!("{stream} {scheme}://"), why }
}

/// The decoded path of an address.
pub(super) fn path(url: &Url) -> Option<PathBuf> {
    // `to_file_path` accepts the scheme `file` only.
    let file = format!("file://{}", url.path());
    Url::parse(&file).ok()?.to_file_path().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_selects_the_target_of_a_stream() {
        let at = |address| place("stdout", address).unwrap();
        assert_eq!(at(""), StreamTarget::Nothing);
        assert_eq!(at("/dev/null"), StreamTarget::Nothing);
        assert_eq!(at("/run/fifo/a%20b"), StreamTarget::Fifo("/run/fifo/a%20b".into()));
        assert_eq!(at("file:///var/log/a%20b"), StreamTarget::File("/var/log/a b".into()));
        assert_eq!(at("fifo:///run/x"), StreamTarget::Fifo("/run/x".into()));
        for scheme in ["binary", "binary-v2"] {
            let target = place("stdout", &format!("{scheme}:///bin/logger?a=b")).unwrap();
            assert!(matches!(target, StreamTarget::Logger(_)), "{scheme}");
        }
    }

    #[test]
    fn stream_of_a_service_is_refused_with_the_setting_that_asks_for_it() {
        for address in [
            "ttrpc+unix:///run/containerd/s/1?streaming_id=c1-stdout",
            "grpc+vsock://3:1024?streaming_id=c1-stdout",
        ] {
            let error = place("stdout", address).unwrap_err().to_string();
            assert!(error.contains("io_type"), "{address}: {error}");
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_its_stream() {
        for address in
            ["file://host/var/log/x", "binary://logger", "https:///x", "npipe:///x", "file://"]
        {
            let error = place("stdout", address).unwrap_err().to_string();
            assert!(error.contains("stdout"), "{address}: {error}");
        }
    }
}
