//! The metrics of a shim per pod: a socket of its own, if the environment names a directory for it.
//!
//! ```text
//! <directory>/<namespace>+<sandbox>.sock    mode 0600
//! ```
//!
//! Off by default: a node has a shim for each pod, and each would be a target of its own.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::net::UnixListener;

use super::{
    answer::Answers,
    connections::{Listen, Stream, serve},
};
use crate::{
    blocking::blocking,
    bootstrap::{
        BootstrapError,
        socket::{self, SocketFile},
    },
    id::Id,
    metrics::exposition::Exposition,
    settings::absolute_path,
    shutdown::Tasks,
};

/// The variable of containerd's environment that names the directory.
const VARIABLE: &str = "RUNWASI_METRICS";

/// The socket of one sandbox.
struct ShimSocket {
    listener: UnixListener,
    file: Option<SocketFile>,
}

/// The path of a sandbox's socket. Nothing if metrics are off.
fn path(variable: Option<String>, namespace: &Id, sandbox: &Id) -> Result<Option<PathBuf>, String> {
    let Some(directory) = variable.filter(|text| !text.is_empty()) else { return Ok(None) };
    let directory = absolute_path(&directory)?;
    // No id has a plus sign.
    let path = directory.join(format!("{namespace}+{sandbox}.sock"));
    let length = path.as_os_str().len();
    if length > socket::MAX_PATH {
        let most = socket::MAX_PATH;
        return Err(format!("{} has {length} bytes, at most {most} are possible", path.display()));
    }
    Ok(Some(path))
}

fn variable() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Serves the metrics of a shim, if they are on. On a Tokio runtime.
// A failure is logged: no pod is refused because nothing watches it.
pub(crate) fn start(exposition: Exposition, namespace: &Id, sandbox: &Id, tasks: &Tasks) {
    let opened = match path(variable(), namespace, sandbox) {
        Ok(None) => return,
        Ok(Some(path)) => open(&path).map_err(|error| format!("{}: {error}", path.display())),
        Err(reason) => Err(reason),
    };
    let socket = match opened {
        Ok(socket) => socket,
        Err(reason) => {
            return tracing::warn!("{VARIABLE}: {reason}; this shim serves no metrics");
        }
    };
    // No takeover: a sandbox has one server, and the next one has a name to itself.
    let answers = Answers::new(move |format| exposition.text(format));
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = serve(&socket, Arc::new(answers)) => {}
            () = stopping.stopped() => {}
        }
        // On the blocking pool, since it waits for the lock of the directory.
        let removed = blocking(
            move || socket.file.as_ref().map_or(Ok(()), SocketFile::remove),
            |source| BootstrapError::Io { what: "remove the socket of the metrics".into(), source },
        );
        if let Err(error) = removed.await {
            tracing::warn!(%error, "the socket of the metrics stays behind");
        }
    });
}

/// True if metrics are on.
pub(crate) fn is_on() -> bool {
    variable().is_some_and(|text| !text.is_empty())
}

/// Removes the socket that a killed shim has left. Blocks.
pub(crate) fn remove_left(namespace: &Id, sandbox: &Id) {
    if let Ok(Some(path)) = path(variable(), namespace, sandbox)
        && let Err(error) = socket::remove_if_dead(&path)
    {
        tracing::debug!(%error, "the socket of a shim's metrics stays behind");
    }
}

/// Binds a socket beside `path` and renames it to `path`: a server of this sandbox that is ending
/// may still have that name.
fn open(path: &Path) -> io::Result<ShimSocket> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Shims of other pods make it at the same time, which is no error.
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // `rename` would replace any kind of file.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(io::Error::other("it is not a socket"));
    }
    // Not longer than the path: a sandbox has a name of at least one character.
    let temporary = directory.join(format!(".{}", std::process::id()));
    socket::remove_if_dead(&temporary).map_err(io::Error::other)?;
    let listener = socket::listener(&temporary)?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    // Read before the rename: afterwards the name may belong to a successor's socket.
    let file = SocketFile::at(&temporary).map(|file| file.renamed(path));
    fs::rename(&temporary, path)?;
    Ok(ShimSocket { listener, file })
}

#[async_trait]
impl Listen for ShimSocket {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        let (stream, _) = self.listener.accept().await?;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn id(text: &str) -> Id {
        Id::parse("id", text).unwrap()
    }

    #[test]
    fn path_has_the_names_of_the_sandbox_and_is_bounded() {
        let path = |variable: &str, sandbox: &str| {
            path(Some(variable.to_owned()), &id("k8s.io"), &id(sandbox))
        };
        assert_eq!(super::path(None, &id("n"), &id("s")), Ok(None));
        assert_eq!(path("", "s"), Ok(None));
        assert_eq!(path("/run/m/", "web"), Ok(Some("/run/m/k8s.io+web.sock".into())));
        assert!(path("run", "web").unwrap_err().contains("absolute"));
        let long = format!("/{}", "d".repeat(60));
        assert!(path(&long, &"s".repeat(60)).unwrap_err().contains("at most"));
    }

    #[tokio::test]
    async fn socket_is_private_and_that_of_a_killed_shim_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/n+s.sock");
        drop(open(&path).unwrap().listener);
        assert!(path.exists(), "left by a killed shim");
        let socket = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let directory = path.parent().unwrap();
        assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
        socket.file.unwrap().remove().unwrap();
        assert!(!path.exists());
        fs::write(&path, "kept").unwrap();
        let error = open(&path).err().unwrap().to_string();
        assert_eq!(error, "it is not a socket");
    }
}
