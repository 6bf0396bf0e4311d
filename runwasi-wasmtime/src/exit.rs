//! How a guest's end becomes an exit status. Used by `instance`.

use runwasi_core::{ExitStatus, bundle::stdio::Output};
use wasmtime_wasi::I32Exit;

/// Returning is success, `proc_exit` gives its code, anything else is a trap, whose story goes to the guest's stderr.
pub(crate) async fn status(ended: wasmtime::Result<()>, stderr: &Output) -> ExitStatus {
    let Err(error) = ended else { return ExitStatus::SUCCESS };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return ExitStatus::code(*code);
    }
    let story = story(&error);
    if let Err(error) = stderr.write_all(story.as_bytes()).await {
        tracing::warn!(%error, trap = story, "the guest's stderr does not take its trap");
    }
    ExitStatus::TRAP
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
