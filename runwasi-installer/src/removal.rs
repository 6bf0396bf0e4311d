//! The removal of files, of the daemon that runs by them, and of blocks in configurations. Called
//! by `install`, for what is not wanted any more, and by `uninstall`.

use crate::Error;
use crate::containerd::plan;
use crate::files::{self, FileState, UNITS};
use crate::options::Options;
use crate::record::{Due, Record, Shelf};
use crate::restart::refuse_too_early;
use crate::root::{Access, Root};
use crate::service::Services;

/// Stops the daemon of these files; not if its unit is gone already, in a run that was killed.
pub(crate) fn stop_daemon(
    root: &Root,
    services: &Services<'_>,
    paths: &[String],
) -> Result<(), Error> {
    for unit in paths.iter().filter(|path| path.ends_with(UNITS[0])) {
        if root.read(unit)?.is_some() {
            return services.stop_daemon();
        }
    }
    Ok(())
}

/// Whether files that are not wanted any more stay: a run that restarts and stops nothing leaves
/// what containerd and the daemon may use, unless it is forced. With
/// `stops`, the stop of the daemon is due then.
pub(crate) fn stay(options: &Options, due: &mut Due, stops: bool, done: &mut Vec<String>) -> bool {
    let stay = !options.restart && !options.force && (due.containerd || due.daemon || stops);
    due.stop = stay && stops;
    if due.stop {
        done.push("containerd-wasmtimed: to be stopped".to_owned());
    }
    if stay {
        done.push("files stay: a run without --no-restart removes them, or --force".to_owned());
    }
    stay
}

/// Removes files that are as this program wrote them, and forgets all of them. Others stay.
pub(crate) fn remove_files(
    root: &Root,
    record: &mut Record,
    paths: &[String],
) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    for path in paths {
        let digests = record.files.remove(path).unwrap_or_default();
        let digests: Vec<&str> = digests.iter().map(String::as_str).collect();
        match files::found(root, path, &digests)? {
            FileState::Missing => root.remove(path)?,
            FileState::Same => {
                root.remove(path)?;
                done.push(format!("{path}: removed"));
            }
            FileState::Other => done.push(format!("{path}: stays, another has changed it")),
        }
    }
    Ok(done)
}

/// Cuts our blocks out of all recorded configurations `except` one. All are understood before the
/// first is written.
pub(crate) fn unconfigure(
    root: &Root,
    options: &Options,
    services: &Services<'_>,
    shelf: &Shelf<'_>,
    record: &mut Record,
    except: Option<&str>,
) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    let mut cuts = Vec::new();
    for file in record.configurations.iter().filter(|file| Some(file.as_str()) != except) {
        root.remove_unfinished(file)?;
        let Some(before) = root.read_text(file)? else { continue };
        let after = plan::restored(file, &before, options.force)?;
        if after.as_ref() != Some(&before) {
            refuse_too_early(record, options, services, file, after.as_deref())?;
            cuts.push((file.clone(), before, after));
        }
    }
    for (file, before, after) in cuts {
        shelf.keep_previous(record, &file, Some(&before), after.as_deref())?;
        record.due.containerd = true;
        shelf.save(record)?;
        match after {
            Some(after) => root.write(&file, after.as_bytes(), Access::Same(0o644))?,
            None => root.remove(&file)?,
        }
        done.push(format!("{file}: restored"));
    }
    Ok(done)
}
