//! Takes away what an installation put onto a node, and nothing else.
//!
//! ```text
//! decide ─▶ record ─▶ configuration ─▶ containerd ─▶ daemon ─▶ files ─▶ directories ─▶ record
//! ```
//!
//! Pods are looked for at the beginning, and once more when containerd makes no new ones.
//!
//! A run that restarts and stops nothing ends after the configuration, unless it is forced: the
//! record says what is due.

use crate::Error;
use crate::containerd::distribution::Distribution;
use crate::containerd::plan;
use crate::files::is_unit;
use crate::host::Host;
use crate::options::{Options, Runtime};
use crate::record::Shelf;
use crate::removal::{remove_files, stay, stop_daemon, unconfigure};
use crate::restart::restart;
use crate::root::Root;
use crate::service::Services;
use crate::usage::{refuse_in_use, shims};

/// Removes what was installed; gives a line for each change, and for each file that stays.
pub fn uninstall(options: &Options, host: &dyn Host) -> Result<Vec<String>, Error> {
    uninstall_in(&Root::open(&options.root)?, options, host)
}

/// The same in an open root.
pub(crate) fn uninstall_in(
    root: &Root,
    options: &Options,
    host: &dyn Host,
) -> Result<Vec<String>, Error> {
    let Some(shelf) = Shelf::open(root, &options.record_dir, false)? else {
        return Ok(Vec::new());
    };
    let mut done = Vec::new();
    let Some(mut record) = shelf.load()? else {
        // Of a run that ended before it did anything.
        shelf.remove(&[])?;
        return Ok(done);
    };
    let distribution = Distribution::of(root, options)?;
    let shims = shims(&record, &Runtime::ALL);
    refuse_in_use(root, options, distribution, &shims)?;
    let services = Services::new(host, options, distribution);
    done.extend(unconfigure(root, options, &services, &shelf, &mut record, None)?);
    if record.due.containerd && options.restart {
        let socket = plan::socket_of(root, options, distribution)?;
        restart(root, &shelf, &services, &mut record, &socket)?;
        done.push("containerd: restarted".to_owned());
        // A pod may have come before containerd had forgotten the runtimes.
        refuse_in_use(root, options, distribution, &shims)?;
    } else if record.due.containerd {
        done.push("containerd: to be restarted".to_owned());
    }
    let recorded: Vec<String> = record.files.keys().cloned().collect();
    let units = recorded.iter().any(|path| is_unit(path));
    if stay(options, &mut record.due, units, &mut done) {
        shelf.save(&record)?;
        return Ok(done);
    }
    if units && options.restart {
        stop_daemon(root, &services, &recorded)?;
    }
    done.extend(remove_files(root, &mut record.clone(), &recorded)?);
    if units && options.restart {
        services.reload_units()?;
    }
    shelf.remove(&record.directories)?;
    Ok(done)
}
