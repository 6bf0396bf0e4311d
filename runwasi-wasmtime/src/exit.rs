//! How a guest's end becomes an exit status. Used by `instance`.

use std::time::Duration;

use runwasi_core::{ExitStatus, InstanceSpec};
use tokio::time::timeout;
use wasmtime_wasi::I32Exit;

use crate::limits::OutOfMemory;

/// How long a reader of stderr may take for the story of a trap.
const STORY_PATIENCE: Duration = Duration::from_secs(1);

/// Returning is success, `proc_exit` gives its code, a growth beyond the memory limit kills; anything else is a trap. The story of
/// the last two goes to the guest's stderr.
pub(crate) async fn status(ended: wasmtime::Result<()>, spec: &InstanceSpec) -> ExitStatus {
    let Err(error) = ended else { return ExitStatus::SUCCESS };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return ExitStatus::code(*code);
    }
    let status = match error.downcast_ref() {
        Some(OutOfMemory(_)) => {
            spec.memory.kill();
            ExitStatus::KILLED
        }
        None => ExitStatus::TRAP,
    };
    tell(&error, spec).await;
    status
}

/// Writes how a guest has ended to its container's stderr.
pub(crate) async fn tell(error: &wasmtime::Error, spec: &InstanceSpec) {
    let (story, stderr) = (story(error), &spec.stdio.stderr);
    // Bounded: the guest is dead, and a pipe that is full and that nobody reads must not keep it.
    if !matches!(timeout(STORY_PATIENCE, stderr.write_all(story.as_bytes())).await, Ok(Ok(()))) {
        tracing::warn!(trap = story, "the guest's stderr does not take its trap");
    }
}

/// The message with the wasm backtrace, and its causes. Not `{:?}`: that may add the host's own stack.
fn story(error: &wasmtime::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let mut story = format!("Error: {}\n", causes.next().unwrap_or_default());
    for cause in causes {
        story.push_str(&format!("Caused by: {cause}\n"));
    }
    story
}
