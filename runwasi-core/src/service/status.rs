//! Mapping of errors to ttrpc status codes, in exhaustive matches.
//!
//! containerd's `errdefs` reads the code, users read the text.

use std::io::ErrorKind;

use containerd_shim_protos::ttrpc::{self, Code};

use crate::{
    bundle::resources::ResourcesConfigError,
    container::error::{CreateError, ExecError},
    engine::error::EngineError,
    id::IdError,
    native::error::NativeError,
    network::NetworkError,
    process::{ProcessError, state::Denial},
    rootfs::RootfsError,
    sandbox::{
        error::SandboxError,
        lifecycle::{CreateSandboxError, LifecycleError},
    },
    sanitize,
    stdio::error::StdioError,
};

/// A ttrpc error of `code` with `text`.
pub(super) fn error(code: Code, text: impl ToString) -> ttrpc::Error {
    // Sanitized: the texts of errors may quote untrusted input.
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, sanitize::text(&text.to_string())))
}

impl From<SandboxError> for ttrpc::Error {
    fn from(cause: SandboxError) -> Self {
        error(sandbox(&cause), cause)
    }
}

impl From<LifecycleError> for ttrpc::Error {
    fn from(cause: LifecycleError) -> Self {
        error(lifecycle(&cause), cause)
    }
}

impl From<IdError> for ttrpc::Error {
    fn from(cause: IdError) -> Self {
        error(Code::INVALID_ARGUMENT, cause)
    }
}

impl From<ResourcesConfigError> for ttrpc::Error {
    fn from(cause: ResourcesConfigError) -> Self {
        error(Code::INVALID_ARGUMENT, cause)
    }
}

fn sandbox(cause: &SandboxError) -> Code {
    match cause {
        SandboxError::NotFound { .. } | SandboxError::ProcessNotFound { .. } => Code::NOT_FOUND,
        SandboxError::AlreadyExists { .. } => Code::ALREADY_EXISTS,
        SandboxError::NotReady { .. }
        | SandboxError::Stopping { .. }
        | SandboxError::Killed { .. } => Code::FAILED_PRECONDITION,
        SandboxError::Create { source, .. } => create(source),
        SandboxError::Namespaces { source, .. } => network(source),
        SandboxError::Exec { source, .. } => exec(source),
        SandboxError::Hook { .. } | SandboxError::Native { .. } => Code::UNKNOWN,
        SandboxError::Process { source, .. } => process(source),
    }
}

fn lifecycle(cause: &LifecycleError) -> Code {
    match cause {
        LifecycleError::NotFound { .. } => Code::NOT_FOUND,
        LifecycleError::AlreadyExists { .. } => Code::ALREADY_EXISTS,
        LifecycleError::NotCreated { .. } => Code::FAILED_PRECONDITION,
        LifecycleError::NotEnding { .. } => Code::DEADLINE_EXCEEDED,
        LifecycleError::Create { source, .. } => create_sandbox(source),
    }
}

fn create_sandbox(cause: &CreateSandboxError) -> Code {
    match cause {
        CreateSandboxError::Network(cause) => network(cause),
        CreateSandboxError::Pod(_)
        | CreateSandboxError::Config(_)
        | CreateSandboxError::Place(_) => Code::INVALID_ARGUMENT,
        CreateSandboxError::Files(_) => Code::UNKNOWN,
    }
}

fn network(cause: &NetworkError) -> Code {
    match cause {
        NetworkError::Path { .. } | NetworkError::Sysctl { .. } => Code::INVALID_ARGUMENT,
        NetworkError::Enter { .. } => Code::UNKNOWN,
    }
}

fn exec(cause: &ExecError) -> Code {
    match cause {
        ExecError::AlreadyExists => Code::ALREADY_EXISTS,
        ExecError::Ended | ExecError::NoPrograms => Code::FAILED_PRECONDITION,
        ExecError::Config(_) => Code::INVALID_ARGUMENT,
        ExecError::Init(cause) => process(cause),
        ExecError::Stdio(cause) => stdio(cause),
        ExecError::Engine(cause) => engine(cause),
    }
}

fn stdio(cause: &StdioError) -> Code {
    match cause {
        StdioError::Open { .. } | StdioError::Address { .. } | StdioError::Logger { .. } => {
            Code::INVALID_ARGUMENT
        }
        StdioError::Terminal(_) => Code::UNKNOWN,
        StdioError::Unsupported { .. } => Code::UNIMPLEMENTED,
    }
}

fn create(cause: &CreateError) -> Code {
    match cause {
        CreateError::Config(_) | CreateError::Place(_) | CreateError::Options(_) => {
            Code::INVALID_ARGUMENT
        }
        CreateError::Rootfs(cause) => rootfs(cause),
        CreateError::Hook(_) | CreateError::Bundle { .. } | CreateError::Network(_) => {
            Code::UNKNOWN
        }
        CreateError::Checkpoint => Code::UNIMPLEMENTED,
        CreateError::Native { source, .. } => native(source),
        CreateError::Stdio(cause) => stdio(cause),
        CreateError::Engine(cause) => engine(cause),
    }
}

fn native(cause: &NativeError) -> Code {
    match cause {
        NativeError::Off | NativeError::Missing { .. } | NativeError::Restricted => {
            Code::FAILED_PRECONDITION
        }
        NativeError::Failed { .. } | NativeError::Directory { .. } => Code::UNKNOWN,
    }
}

fn rootfs(cause: &RootfsError) -> Code {
    match cause {
        // Of containerd's snapshotter.
        RootfsError::Mount { .. } => Code::UNKNOWN,
        // A value of `config.json`, or the state of the host: the system's error tells.
        RootfsError::Directory { source, .. }
        | RootfsError::Destination { source, .. }
        | RootfsError::Path { source, .. }
        | RootfsError::Cwd { source, .. } => match source.kind() {
            ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidFilename => Code::INVALID_ARGUMENT,
            _ => Code::UNKNOWN,
        },
    }
}

fn engine(cause: &EngineError) -> Code {
    match cause {
        EngineError::Artifact(_)
        | EngineError::Invalid { .. }
        | EngineError::Annotation(_)
        | EngineError::Settings(_) => Code::INVALID_ARGUMENT,
        EngineError::Unsupported { .. } => Code::UNIMPLEMENTED,
        EngineError::Exhausted { .. } => Code::RESOURCE_EXHAUSTED,
        EngineError::Failed(_) => Code::UNKNOWN,
    }
}

fn process(cause: &ProcessError) -> Code {
    match cause {
        ProcessError::Denied(Denial::WrongState { .. }) => Code::FAILED_PRECONDITION,
        // The code that containerd's clients take for "it has ended anyway".
        ProcessError::Denied(Denial::AlreadyFinished) | ProcessError::Deleted => Code::NOT_FOUND,
        ProcessError::Start(cause) => engine(cause),
        ProcessError::Stdio(cause) => stdio(cause),
        ProcessError::Terminal(_) => Code::UNKNOWN,
        ProcessError::KilledWhileStarting => Code::ABORTED,
    }
}
