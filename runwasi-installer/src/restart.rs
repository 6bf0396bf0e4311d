//! The restart of containerd with a changed configuration, and the way back. Called by `install`
//! and `uninstall`.
//!
//! What containerd has not come back with, or has made anew without the change, is remembered: the
//! kubelet starts a failed run again every few minutes, and each try costs a restart or two. The
//! pause before the next one doubles.

use crate::Error;
use crate::containerd::plan;
use crate::files::digest;
use crate::options::Options;
use crate::record::{Previous, Record, Refused, Shelf};
use crate::root::{Access, Root};
use crate::service::Services;

/// Seconds from the first try to the second one.
// Longer than the kubelet's longest pause, so that most of its runs change nothing.
const PAUSE: u64 = 600;
/// The longest pause.
const LONGEST: u64 = 86_400;

/// Refuses a change that has failed before, until its pause is over.
pub(crate) fn refuse_too_early(
    record: &Record,
    options: &Options,
    services: &Services<'_>,
    file: &str,
    after: Option<&str>,
) -> Result<(), Error> {
    let Some(refused) = &record.refused else { return Ok(()) };
    let written = after.map(|text| digest(text.as_bytes()));
    // Without a restart nothing is tried.
    if options.retry || !options.restart || !is_of(refused, file, written.as_deref()) {
        return Ok(());
    }
    // Absent if the clock was set back: then nothing tells when the try was.
    let passed = services.seconds().checked_sub(refused.at);
    match passed.and_then(|passed| pause(refused.times).checked_sub(passed)) {
        None | Some(0) => Ok(()),
        Some(seconds) => Err(Error::NotAgain {
            file: file.to_owned(),
            fault: refused.fault(),
            times: refused.times,
            seconds,
        }),
    }
}

fn is_of(refused: &Refused, file: &str, written: Option<&str>) -> bool {
    refused.file == file && refused.written.as_deref() == written
}

/// Seconds after so many tries.
fn pause(times: u32) -> u64 {
    let doubled = 1_u64.checked_shl(times.saturating_sub(1)).unwrap_or(u64::MAX);
    PAUSE.saturating_mul(doubled).min(LONGEST)
}

/// Remembers that containerd has not come back with what was written.
fn note(record: &mut Record, at: u64) {
    let Some(Previous { file, written, .. }) = record.due.previous.clone() else { return };
    let before = record.refused.take();
    record.refused =
        Some(tried_again(before, Refused { file, written, times: 1, at, undone: false }));
}

/// Remembers that a restart has made the file anew without what was written. `before` is what was
/// remembered before that restart.
pub(crate) fn note_undone(
    record: &mut Record,
    before: Option<Refused>,
    file: &str,
    written: &str,
    at: u64,
) {
    let (file, written) = (file.to_owned(), Some(digest(written.as_bytes())));
    record.refused =
        Some(tried_again(before, Refused { file, written, times: 1, at, undone: true }));
}

/// Counts the earlier tries of the same change.
fn tried_again(before: Option<Refused>, now: Refused) -> Refused {
    let before = before.filter(|before| is_of(before, &now.file, now.written.as_deref()));
    let times = before.map_or(0, |before| before.times).saturating_add(now.times);
    Refused { times, ..now }
}

/// Restarts containerd. If it is not back, the configuration that it ran with is restored.
pub(crate) fn restart(
    root: &Root,
    shelf: &Shelf<'_>,
    services: &Services<'_>,
    record: &mut Record,
    socket: &str,
) -> Result<(), Error> {
    let failed = services.restart_containerd(socket)?.err();
    match failed {
        None => record.refused = None,
        Some(_) => {
            note(record, services.seconds());
            // Before the way back, which may be killed. An error: a full disk must not keep it from
            // its work, and the record is written once more behind it.
            let _ = shelf.save(record);
        }
    }
    let restored = match (&failed, &record.due.previous) {
        (None, _) => String::new(),
        (Some(_), None) => "there is no previous one".to_owned(),
        (Some(_), Some(previous)) => {
            let what = restore(root, shelf, previous)?;
            let again = services.restart_containerd(socket)?;
            let again =
                again.map_or_else(|reason| reason, |()| "containerd runs with it".to_owned());
            format!("{} {what}, and {again}", previous.file)
        }
    };
    record.due.containerd = false;
    record.due.previous = None;
    shelf.save(record)?;
    shelf.drop_kept()?;
    match failed {
        None => Ok(()),
        Some(reason) => Err(Error::NotBack { reason, restored }),
    }
}

/// Puts the previous configuration back. Of one that another has changed meanwhile, only our blocks
/// go.
fn restore(root: &Root, shelf: &Shelf<'_>, previous: &Previous) -> Result<&'static str, Error> {
    let file = &previous.file;
    let now = root.read_text(file)?;
    if now.as_ref().map(|text| digest(text.as_bytes())) == previous.written {
        match previous.existed {
            true => root.write(file, &shelf.kept()?, Access::Same(0o644))?,
            false => root.remove(file)?,
        }
        return Ok("was restored");
    }
    let Some(now) = now else { return Ok("was removed meanwhile") };
    match plan::restored(file, &now, true)? {
        Some(text) if text == now => return Ok("was changed meanwhile"),
        Some(text) => root.write(file, text.as_bytes(), Access::Same(0o644))?,
        None => root.remove(file)?,
    }
    Ok("was changed meanwhile and has no block of runwasi-node-installer any more")
}
