//! Client of the manager API: blocking, without Tokio.

use std::{
    io,
    os::fd::IntoRawFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containerd_shim_protos::ttrpc::{self, Code};
use prost::Message;
use runwasi_core::{
    bootstrap::socket::{connect_within, is_alive},
    sys,
};

use super::{
    Method, PROTOCOL, SERVICE,
    messages::{
        CreateRequest, DeleteReply, DeleteRequest, ListReply, MetricsReply, MetricsRequest, Plain,
        RetireRequest, SandboxReply, VersionReply,
    },
    reports::{
        ContainersReply, ContainersRequest, EventsReply, EventsRequest, SandboxReport, StatusReply,
        StatusRequest,
    },
};

/// Longest time for a daemon that has broken a connection to be gone.
const ENDING: Duration = Duration::from_secs(1);
/// Time between two looks at it.
const LOOK_AT_ENDING: Duration = Duration::from_millis(20);

/// A connection to a daemon.
pub struct Client {
    socket: PathBuf,
    program: &'static str,
    client: ttrpc::Client,
    patience: Duration,
}

/// Failure or refusal of a call.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens.
    #[error(
        "daemon not running at {} ({source}): start it with \
         'systemctl start {program}' or '{program}'",
        socket.display()
    )]
    NotRunning {
        /// The manager socket.
        socket: PathBuf,
        /// Name of the daemon's program and unit.
        program: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The daemon refuses the request. The text is the daemon's.
    #[error("{message}")]
    Refused {
        /// True if another daemon, or the same one later, may fulfil the request.
        passing: bool,
        /// The daemon's reason.
        message: String,
    },
    /// A daemon of an earlier version, which does not have the method.
    #[error(
        "the daemon at {} (version {version}) does not know {method}: \
         'systemctl reload {program}' starts the installed version",
        socket.display()
    )]
    Unknown {
        /// The manager socket.
        socket: PathBuf,
        /// Version of the daemon.
        version: String,
        /// Name of the method.
        method: &'static str,
        /// Name of the daemon's program and unit.
        program: &'static str,
    },
    /// The connection failed, or the reply is late or invalid.
    #[error("daemon at {}: {reason}", socket.display())]
    Broken {
        /// The manager socket.
        socket: PathBuf,
        /// Text of the error.
        reason: String,
    },
}

/// True if a process listens. An error if nothing is known of it, as without permission or without
/// free descriptors.
pub(crate) fn alive(socket: &Path) -> io::Result<bool> {
    if is_alive(socket) {
        return Ok(true);
    }
    let Err(error) = connect_within(socket, Duration::ZERO) else { return Ok(true) };
    match error.kind() {
        // A full backlog: its process lives.
        io::ErrorKind::WouldBlock => Ok(true),
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory => Ok(false),
        _ => Err(error),
    }
}

/// True if the daemon that was asked at `begun` has failed to answer because it was ending. Waits
/// for its end as long as an answer may take, at most a second. Blocks.
// It closes its connections a moment before its socket.
pub(crate) fn has_gone(
    socket: &Path,
    error: &ClientError,
    begun: Instant,
    patience: Duration,
) -> bool {
    if matches!(error, ClientError::Refused { .. } | ClientError::Unknown { .. }) {
        return false;
    }
    let deadline = (begun + patience).min(Instant::now() + ENDING);
    loop {
        if matches!(alive(socket), Ok(false)) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sys::pause(LOOK_AT_ENDING);
    }
}

fn unconnected(socket: &Path, program: &'static str, source: io::Error) -> ClientError {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::WouldBlock => ClientError::Broken {
            socket,
            reason: format!(
                "it takes no connection; is it stopped, or stuck? See 'systemctl status {program}'"
            ),
        },
        _ => ClientError::NotRunning { socket, program, source },
    }
}

impl Client {
    /// Connects to a daemon. `program` is its name, for messages, `patience` the time limit of the
    /// connection together with a call, and of each further one.
    pub fn connect(
        socket: &Path,
        program: &'static str,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let begun = Instant::now();
        let stream = connect_within(socket, patience)
            .map_err(|source| unconnected(socket, program, source))?;
        // ttrpc takes ownership of the descriptor and closes it.
        let client = ttrpc::Client::new(stream.into_raw_fd());
        let broken = |error: ttrpc::Error| ClientError::Broken {
            socket: socket.to_owned(),
            reason: error.to_string(),
        };
        let client = client.map_err(broken)?;
        // A full queue of connections may have taken most of it.
        let patience = patience.saturating_sub(begun.elapsed());
        Ok(Self { socket: socket.to_owned(), program, client, patience })
    }

    /// With more time for each further call.
    pub(crate) fn patient(mut self, more: Duration) -> Self {
        self.patience += more;
        self
    }

    /// Creates a sandbox or joins an existing one.
    pub fn create(&self, request: &CreateRequest) -> Result<SandboxReply, ClientError> {
        self.call(Method::Create, request)
    }

    /// Ends and forgets a container.
    pub fn delete(&self, request: &DeleteRequest) -> Result<DeleteReply, ClientError> {
        self.call(Method::Delete, request)
    }

    /// Lists the sandboxes.
    pub fn list(&self) -> Result<ListReply, ClientError> {
        self.call(Method::List, &Plain { protocol: PROTOCOL })
    }

    /// Tells the daemon to take no new sandboxes. `drained`: it has no successor.
    pub fn retire(&self, drained: bool) -> Result<VersionReply, ClientError> {
        self.call(Method::Retire, &RetireRequest { protocol: PROTOCOL, drained })
    }

    /// Asks for a successor of the daemon. Returns when it serves, or with the reason of its
    /// failure.
    pub fn reload(&self) -> Result<VersionReply, ClientError> {
        self.call(Method::Reload, &Plain { protocol: PROTOCOL })
    }

    /// Series of the daemon, in the format of OpenMetrics or in that of Prometheus.
    pub fn metrics(&self, open_metrics: bool) -> Result<MetricsReply, ClientError> {
        self.call(Method::Metrics, &MetricsRequest { protocol: PROTOCOL, open_metrics })
    }

    /// Identifies the daemon.
    pub fn version(&self) -> Result<VersionReply, ClientError> {
        self.call(Method::Version, &Plain { protocol: PROTOCOL })
    }

    /// The daemon's status. `probe`: after a turn of the workers of guests.
    pub fn status(&self, probe: bool) -> Result<StatusReply, ClientError> {
        self.call_newer(Method::Status, &StatusRequest { protocol: PROTOCOL, probe })
    }

    /// All sandboxes with their containers.
    pub fn containers(&self) -> Result<Vec<SandboxReport>, ClientError> {
        let mut all: Vec<SandboxReport> = Vec::new();
        loop {
            let last = all.last().map(|last| (last.namespace.clone(), last.group.clone()));
            let (after_namespace, after_group) = last.unwrap_or_default();
            let request = ContainersRequest { protocol: PROTOCOL, after_namespace, after_group };
            let page: ContainersReply = self.call_newer(Method::Containers, &request)?;
            let is_last = !page.more || page.sandboxes.is_empty();
            all.extend(page.sandboxes);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Events from number `from` on. Waits for the first one for `wait`, which is less than the
    /// patience of this client.
    pub fn events(&self, from: u64, wait: Duration) -> Result<EventsReply, ClientError> {
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.call_newer(Method::Events, &EventsRequest { protocol: PROTOCOL, from, wait })
    }

    /// Calls a method that daemons of an earlier version do not have.
    fn call_newer<A: Message + Default>(
        &self,
        method: Method,
        message: &impl Message,
    ) -> Result<A, ClientError> {
        match self.call(method, message) {
            Err(ClientError::Unknown { socket, method, program, .. }) => {
                // All versions answer this.
                let version = self.version()?.version;
                Err(ClientError::Unknown { socket, version, method, program })
            }
            answer => answer,
        }
    }

    fn call<A: Message + Default>(
        &self,
        method: Method,
        message: &impl Message,
    ) -> Result<A, ClientError> {
        let request = ttrpc::Request {
            service: SERVICE.to_owned(),
            method: method.name().to_owned(),
            payload: message.encode_to_vec(),
            // The server gets this limit, too, and drops the call when it is over. 0 is no limit.
            timeout_nano: i64::try_from(self.patience.as_nanos()).unwrap_or(i64::MAX).max(1),
            ..ttrpc::Request::default()
        };
        let broken = |reason: String| ClientError::Broken { socket: self.socket.clone(), reason };
        match self.client.request(request) {
            Ok(response) => {
                A::decode(&*response.payload).map_err(|error| broken(error.to_string()))
            }
            Err(ttrpc::Error::RpcStatus(status)) if status.code() == Code::UNIMPLEMENTED => {
                Err(ClientError::Unknown {
                    socket: self.socket.clone(),
                    version: String::new(),
                    method: method.name(),
                    program: self.program,
                })
            }
            Err(ttrpc::Error::RpcStatus(status)) => Err(ClientError::Refused {
                // A retired daemon answers so. All other refusals are final.
                passing: status.code() == Code::UNAVAILABLE,
                message: status.message().to_owned(),
            }),
            Err(error) => Err(broken(format!(
                "no answer to {} ({error}); is it stopped, or stuck? \
                 See 'systemctl status {}'",
                method.name(),
                self.program
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_of_a_daemon_is_no_other_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for absent in [directory.path().join("none"), file.join("none"), file] {
            assert!(matches!(alive(&absent), Ok(false)), "{}", absent.display());
        }
        // As without a free descriptor: it may listen or not.
        assert!(alive(&directory.path().join("x".repeat(200))).is_err());
    }
}
