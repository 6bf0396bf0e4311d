//! Conversion of a guest's end into an exit status.

use runwasi_core::{ExitStatus, Fault, InstanceSpec};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{backtrace, limits::OutOfMemory};

/// Exit status of a guest: success after a return, the code of `proc_exit`, `KILLED` after a growth
/// beyond the memory limit, otherwise `TRAP`. A report of the last two goes to the guest's stderr.
pub(crate) async fn status(ended: wasmtime::Result<()>, spec: &InstanceSpec) -> ExitStatus {
    let Err(error) = ended else { return ExitStatus::SUCCESS };
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return ExitStatus::code(*code);
    }
    let fault = match error.is::<OutOfMemory>() {
        true => Fault::OutOfMemory,
        false => Fault::Trap(trap_kind(&error)),
    };
    spec.fault(fault, &report(&error)).await
}

/// True for an end by `exit` with success.
pub(crate) fn is_success(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(I32Exit(0)))
}

/// Kind of a trap: the name that wasmtime gives it, or the error of the host that has ended the
/// guest.
fn trap_kind(error: &wasmtime::Error) -> String {
    let text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    text.strip_prefix("wasm trap: ").map(str::to_owned).unwrap_or(text)
}

/// Writes the reason of a guest's end to its container's stderr.
pub(crate) async fn tell(error: &wasmtime::Error, spec: &InstanceSpec) {
    spec.report(&report(error)).await;
}

/// The error's message with the wasm backtrace, and its causes.
fn report(error: &wasmtime::Error) -> String {
    // Not `{:?}`, which may add the host's own stack.
    let causes = error.chain().map(ToString::to_string);
    let trace = error.downcast_ref::<WasmBacktrace>().map(|trace| (trace.to_string(), trace));
    let mut causes = causes.map(|cause| match &trace {
        Some((text, trace)) if *text == cause => backtrace::text(trace),
        _ => cause,
    });
    let mut report = format!("Error: {}\n", causes.next().unwrap_or_default());
    for cause in causes {
        report.push_str(&format!("Caused by: {cause}\n"));
    }
    report
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runwasi_core::resources::memory::Memory;

    use super::*;

    #[test]
    fn report_of_an_end_by_memory_has_its_text_once() {
        let beyond = Arc::new(Memory::new(Some(1), false)).charge().reserve(2).unwrap_err();
        let text = beyond.to_string();
        let report = report(&wasmtime::Error::from(OutOfMemory(beyond)).context("in the guest"));
        assert_eq!(report, format!("Error: in the guest\nCaused by: out of memory: {text}\n"));
    }
}
