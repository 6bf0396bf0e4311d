//! Output to a logger process, for `binary://` and `binary-v2://` addresses.
//!
//! The protocol is containerd's (`runtime/v2/README.md` there, "Logging", and `pkg/process/io.go`).
//! The program gets the container in `CONTAINER_ID` and `CONTAINER_NAMESPACE`, reads stdout from
//! file descriptor 3 and stderr from 4, and closes 5 when it is ready. That of a `binary-v2://`
//! address writes a byte to 5 before: one that closes it without, by its end for example, has
//! failed. It ends when both streams end, or is made to ([`logger_end`](super::logger_end)). It is
//! not a child of this process: its end needs no wait, and it outlives this process to log the rest
//! of its pipes.

use std::{
    convert::identity,
    io::{self, PipeReader},
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio as Standard},
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use tokio::{net::unix::pipe, runtime::Handle, time::timeout};
use url::Url;

use super::{error::StdioError, fifo::Output, logger_end, owner::Owner, paths::LOGGER_V2};
use crate::{blocking::blocking, cgroups, sys, task_limits};

/// How long a logger may take to become ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the logger. Returns the outputs that it reads as stdout and stderr, which `reactor`
/// watches.
pub(super) async fn start(
    uri: &Url,
    owner: Owner<'_>,
    reactor: &Handle,
) -> Result<(Output, Output), StdioError> {
    let wrong = || StdioError::Address {
        stream: "stdout",
        address: uri.to_string(),
        reason: "is no path".into(),
    };
    let program = super::paths::path(uri).ok_or_else(wrong)?;
    let tells_readiness = uri.scheme() == LOGGER_V2;
    run(command(&program, uri, owner), tells_readiness, owner, reactor)
        .await
        .map_err(|source| StdioError::Logger { program, source })
}

/// A query `?a=b&c=d` becomes the arguments `a b c d`.
fn command(program: &Path, uri: &Url, owner: Owner<'_>) -> Command {
    let mut command = Command::new(program);
    for (name, value) in uri.query_pairs() {
        command.args([&*name, &*value]);
    }
    command
        .env_clear()
        .env("CONTAINER_ID", owner.container.as_str())
        .env("CONTAINER_NAMESPACE", owner.namespace.as_str());
    command
        .current_dir("/")
        .stdin(Standard::null())
        .stdout(Standard::null())
        .stderr(Standard::null());
    command
}

/// Returns when the logger is ready: it has written to the third pipe, or closed it, or ended. If
/// it `tells_readiness`, only the first counts.
async fn run(
    mut command: Command,
    tells_readiness: bool,
    owner: Owner<'_>,
    reactor: &Handle,
) -> io::Result<(Output, Output)> {
    let (stdout, to_stdout) = io::pipe()?;
    let (stderr, to_stderr) = io::pipe()?;
    let (is_ready, ready) = io::pipe()?;
    let pid = sys::orphan(&mut command)?;
    cgroups::start_outside(&mut command);
    // File descriptors 3 to 5 of the protocol.
    let mappings = [(OwnedFd::from(stdout), 3), (stderr.into(), 4), (ready.into(), 5)];
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.into()).map_err(io::Error::other)?;
    // On a blocking thread: the fork of a process with as much memory mapped as that of a node
    // takes its time. The closure drops `command`, which closes the logger's pipe ends in this
    // process. The wait is for the intermediate process of `sys::orphan`, which exits at once.
    let start = move || {
        command.spawn().map_err(task_limits::named)?.wait()?;
        drop(command);
        io::Result::Ok(logger_end::Process::open(sys::pid_of_orphan(pid)))
    };
    let process = blocking(start, identity).await?;
    // From here on: one that never becomes ready has to end as well.
    let streams = process.end_without_streams(owner);
    let late = |_| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not ready within {} s", PATIENCE.as_secs()),
        )
    };
    let told = timeout(PATIENCE, readiness(is_ready)).await.map_err(late)??;
    if tells_readiness && !told {
        return Err(io::Error::other("closed its file descriptor 5 without a byte for ready"));
    }
    let output = |writer: io::PipeWriter| {
        let _entered = reactor.enter();
        let sender = pipe::Sender::from_owned_fd(writer.into())?;
        io::Result::Ok(Output::pipe(sender, owner.container.clone(), streams.clone()))
    };
    Ok((output(to_stdout)?, output(to_stderr)?))
}

/// Waits for the readiness. True if it was told by a byte.
async fn readiness(pipe: PipeReader) -> io::Result<bool> {
    let receiver = pipe::Receiver::from_owned_fd(pipe.into())?;
    loop {
        receiver.readable().await?;
        // The end of the pipe may be that of the logger.
        match receiver.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(|read| read > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use tokio::time::sleep;

    use super::*;
    use crate::{id::Id, shutdown::Tasks};

    async fn started(
        directory: &Path,
        script: &str,
        query: &str,
    ) -> Result<(Output, Output), StdioError> {
        started_by("binary", directory, script, query).await
    }

    async fn started_by(
        scheme: &str,
        directory: &Path,
        script: &str,
        query: &str,
    ) -> Result<(Output, Output), StdioError> {
        let program = directory.join("a logger");
        fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{script}\n", directory.display()))
            .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let uri = Url::parse(&format!("{scheme}://{}?{query}", program.display())).unwrap();
        let container = Id::parse("id", "c1").unwrap();
        let namespace = Id::parse("id", "n1").unwrap();
        let tasks = Tasks::new(Duration::ZERO);
        let guests = &Handle::current();
        let owner = Owner { container: &container, namespace: &namespace, tasks: &tasks, guests };
        start(&uri, owner, guests).await
    }

    async fn becomes(path: &Path, text: &str) {
        let mut last = None;
        for _ in 0..500 {
            last = fs::read_to_string(path).ok();
            if last.as_deref() == Some(text) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{}: {last:?} instead of {text:?}", path.display());
    }

    #[tokio::test]
    async fn logger_gets_both_streams_its_arguments_and_nothing_of_our_environment() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo \"$@\" >told; \
            env | grep -v ^PWD | grep -v ^_= | grep -v ^OLDPWD | sort >>told; \
            exec 5>&-; cat <&3 >out; cat <&4 >err; echo done >end";
        let (stdout, stderr) = started(directory.path(), script, "a=b%20c&d=e").await.unwrap();
        for (output, text) in [(stdout, "to stdout"), (stderr, "to stderr")] {
            crate::stdio::streams::Output::Fifo(output).write_all(text.as_bytes()).await.unwrap();
        }
        becomes(&directory.path().join("end"), "done\n").await;
        becomes(&directory.path().join("out"), "to stdout").await;
        becomes(&directory.path().join("err"), "to stderr").await;
        becomes(
            &directory.path().join("told"),
            "a b c d e\nCONTAINER_ID=c1\nCONTAINER_NAMESPACE=n1\n",
        )
        .await;
    }

    #[tokio::test]
    async fn output_to_an_ended_logger_is_discarded() {
        let directory = tempfile::tempdir().unwrap();
        let (stdout, _stderr) = started(directory.path(), "exit 3", "").await.unwrap();
        let stdout = crate::stdio::streams::Output::Fifo(stdout);
        for _ in 0..100 {
            timeout(PATIENCE, stdout.write_all(&[b'x'; 4096])).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn logger_of_version_2_is_ready_by_a_byte_alone() {
        let directory = tempfile::tempdir().unwrap();
        let script = "printf x >&5; exec 5>&-; cat <&3 >out";
        let (stdout, _stderr) = started_by(LOGGER_V2, directory.path(), script, "").await.unwrap();
        crate::stdio::streams::Output::Fifo(stdout).write_all(b"to stdout").await.unwrap();
        becomes(&directory.path().join("out"), "to stdout").await;
        for script in ["exit 0", "exec 5>&-; cat <&3"] {
            let failed = started_by(LOGGER_V2, directory.path(), script, "").await;
            let error = failed.unwrap_err().to_string();
            assert!(error.contains("a logger") && error.contains("without a byte"), "{error}");
        }
    }

    #[tokio::test]
    async fn logger_leaves_no_zombie() {
        let directory = tempfile::tempdir().unwrap();
        let children = || fs::read_to_string("/proc/thread-self/children").unwrap();
        let before = children();
        drop(started(directory.path(), "exit 0", "").await.unwrap());
        assert_eq!(children(), before);
    }

    #[tokio::test]
    async fn missing_program_is_named() {
        let nowhere = Url::parse("binary:///no/such/logger").unwrap();
        let id = Id::parse("id", "c1").unwrap();
        let tasks = Tasks::new(Duration::ZERO);
        let guests = &Handle::current();
        let owner = Owner { container: &id, namespace: &id, tasks: &tasks, guests };
        let error = start(&nowhere, owner, guests).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/logger") && error.contains("No such file"), "{error}");
    }
}
