//! The restart of containerd with a changed configuration, and the way back. Called by `install` and `uninstall`.

use crate::Error;
use crate::containerd::plan;
use crate::files::digest;
use crate::record::{Previous, Record, Shelf};
use crate::root::{Access, Root};
use crate::service::Services;

/// Restarts containerd. If it is not back, the configuration that it ran with is restored.
pub(crate) fn restart(
    root: &Root,
    shelf: &Shelf<'_>,
    services: &Services<'_>,
    record: &mut Record,
    socket: &str,
) -> Result<(), Error> {
    let failed = services.restart_containerd(socket)?.err();
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
