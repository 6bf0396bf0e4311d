//! Errors to ttrpc status codes, in exhaustive matches. containerd's `errdefs` reads the code, users read the text.

use containerd_shim_protos::ttrpc::{self, Code};

use crate::{
    bundle::stdio::StdioError,
    container::CreateError,
    engine::EngineError,
    id::IdError,
    process::{ProcessError, state::Denial},
    sandbox::SandboxError,
};

/// A ttrpc error of `code` with `text`.
pub(super) fn error(code: Code, text: impl ToString) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, presentable(&text.to_string())))
}

/// Longest text of an error, in bytes. Names in it come from images and may be of any length.
const MAX_TEXT: usize = 4096;

/// Bounded, and without the control characters that a terminal would obey.
fn presentable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        if shown.len() >= MAX_TEXT {
            shown.push('…');
            break;
        }
        if c.is_control() && c != '\n' && c != '\t' { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

impl From<SandboxError> for ttrpc::Error {
    fn from(cause: SandboxError) -> Self {
        error(sandbox(&cause), cause)
    }
}

impl From<IdError> for ttrpc::Error {
    fn from(cause: IdError) -> Self {
        error(Code::INVALID_ARGUMENT, cause)
    }
}

fn sandbox(cause: &SandboxError) -> Code {
    match cause {
        SandboxError::NotFound { .. } | SandboxError::ProcessNotFound { .. } => Code::NOT_FOUND,
        SandboxError::AlreadyExists { .. } => Code::ALREADY_EXISTS,
        SandboxError::Create { source, .. } => create(source),
        SandboxError::Process { source, .. } => process(source),
    }
}

fn create(cause: &CreateError) -> Code {
    match cause {
        CreateError::Config(_) => Code::INVALID_ARGUMENT,
        CreateError::Rootfs(_) | CreateError::Bundle { .. } => Code::UNKNOWN,
        CreateError::Stdio(StdioError::Open { .. }) => Code::INVALID_ARGUMENT,
        CreateError::Stdio(StdioError::Unsupported { .. }) => Code::UNIMPLEMENTED,
        CreateError::Engine(cause) => engine(cause),
    }
}

fn engine(cause: &EngineError) -> Code {
    match cause {
        EngineError::Artifact(_) | EngineError::Invalid { .. } => Code::INVALID_ARGUMENT,
        EngineError::Unsupported { .. } => Code::UNIMPLEMENTED,
        EngineError::Exhausted { .. } => Code::RESOURCE_EXHAUSTED,
        EngineError::Failed(_) => Code::UNKNOWN,
    }
}

fn process(cause: &ProcessError) -> Code {
    match cause {
        ProcessError::Denied(Denial::WrongState { .. }) => Code::FAILED_PRECONDITION,
        // What containerd's clients take for "it has ended anyway".
        ProcessError::Denied(Denial::AlreadyFinished) | ProcessError::Deleted => Code::NOT_FOUND,
        ProcessError::Start(cause) => engine(cause),
        ProcessError::KilledWhileStarting => Code::ABORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_cannot_flood_or_command_a_terminal() {
        assert_eq!(presentable("a\u{1b}[31mred\nline"), "a\\u{1b}[31mred\nline");
        assert!(presentable(&"x".repeat(1 << 20)).len() < 2 * MAX_TEXT);
    }
}
