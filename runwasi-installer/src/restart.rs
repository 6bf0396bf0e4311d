//! The restart of containerd with a changed configuration, and the way back. Called by `install` and `uninstall`.
//!
//! What containerd has not come back with is remembered: the kubelet starts a failed run again every
//! few minutes, and each try costs two restarts. The pause before the next one doubles.

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

/// Refuses a change with which containerd has not come back, until its pause is over.
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
        Some(seconds) => {
            Err(Error::NotAgain { file: file.to_owned(), times: refused.times, seconds })
        }
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
    let before = record.refused.take().filter(|refused| is_of(refused, &file, written.as_deref()));
    let times = before.map_or(0, |refused| refused.times).saturating_add(1);
    record.refused = Some(Refused { file, written, times, at });
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

/// Puts the previous configuration back. Of one that another has changed meanwhile, only our blocks go.
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
