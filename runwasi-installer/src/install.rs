//! Installs, or brings a node up to date.
//!
//! ```text
//! decide ─▶ record ─▶ files ─▶ sysctl, daemon ─▶ record ─▶ configuration ─▶ containerd ─▶ what is not wanted any more
//! ```
//!
//! A program has run on the host before it replaces another. The programs are there before
//! containerd knows of them, and the daemon serves before a pod asks for it.

use std::collections::BTreeSet;

use crate::Error;
use crate::bundle_roots;
use crate::containerd::distribution::Distribution;
use crate::containerd::plan::{self, Plan, plan};
use crate::files::{self, FileState, Follows, PROGRAM, Wanted};
use crate::host::Host;
use crate::options::{Options, Runtime};
use crate::record::{Record, Shelf};
use crate::removal::{remove_files, stay, stop_daemon, unconfigure};
use crate::restart::{note_undone, refuse_too_early, restart};
use crate::root::{Access, Root, parent, unfinished};
use crate::service::Services;
use crate::usage::{dropped, in_use, is_shim, refuse_in_use, shims};

/// Installs what the options name; gives a line for each change.
pub fn install(options: &Options, host: &dyn Host) -> Result<Vec<String>, Error> {
    install_in(&Root::open(&options.root)?, options, host)
}

/// The same in an open root.
pub(crate) fn install_in(
    root: &Root,
    options: &Options,
    host: &dyn Host,
) -> Result<Vec<String>, Error> {
    let distribution = Distribution::of(root, options)?;
    let bin_dir = options.bin_dir.as_deref().unwrap_or(distribution.bin_dir());
    // Nothing is written if this fails, not even the record's directory.
    plan(root, options, distribution, bin_dir)?;
    let wanted = files::wanted(options, bin_dir)?;
    let mut fresh = Record::new(bin_dir);
    fresh.will_make(root, parent(&options.record_dir));
    let shelf = Shelf::open(root, &options.record_dir, true)?;
    let shelf = shelf.ok_or_else(|| Error::file(&options.record_dir, "cannot be made"))?;
    let record = shelf.load()?.unwrap_or(fresh);
    let dropped = dropped(root, options, &shelf, &record)?;
    refuse_in_use(root, options, distribution, &shims(&record, &dropped))?;
    // Once more, behind the lock: another run may have ended in between.
    let plan = plan(root, options, distribution, bin_dir)?;
    let services = Services::new(host, options, distribution);
    let mut run = Run { root, options, distribution, services, shelf, record, done: Vec::new() };
    run.install(&plan, &wanted, bin_dir)?;
    Ok(run.done)
}

struct Run<'a> {
    root: &'a Root,
    options: &'a Options,
    distribution: Distribution,
    services: Services<'a>,
    shelf: Shelf<'a>,
    record: Record,
    done: Vec<String>,
}

impl Run<'_> {
    fn install(&mut self, plan: &Plan, wanted: &[Wanted], bin_dir: &str) -> Result<(), Error> {
        if self.record.due.previous.is_none() {
            // Of a run that was killed before it removed it.
            self.shelf.drop_kept()?;
        }
        self.rename_recorded(wanted);
        let changed = self.changed(wanted)?;
        self.intend(&changed, plan, bin_dir)?;
        self.write_files(&changed)?;
        self.follow_files(wanted)?;
        self.configure(plan)?;
        self.restart(plan)?;
        self.remove_unwanted(wanted)?;
        self.settle(wanted)
    }

    /// Gives a recorded file the name that is wanted now, if its directory is only reached by
    /// another link: it would be one of another program by the new name, and unwanted by the old
    /// one.
    fn rename_recorded(&mut self, wanted: &[Wanted]) {
        for file in wanted {
            let renamed =
                |path: &&String| **path != file.path && self.root.is_same(path, &file.path);
            let Some(old) = self.record.files.keys().find(renamed).cloned() else { continue };
            let digests = self.record.files.remove(&old).unwrap_or_default();
            self.record.files.entry(file.path.clone()).or_default().extend(digests);
        }
    }

    /// Files that are not there as wanted. One that is another's is an error, before anything is
    /// written.
    fn changed<'w>(&self, wanted: &'w [Wanted]) -> Result<Vec<&'w Wanted>, Error> {
        let mut changed = Vec::new();
        for file in wanted {
            let ours: Vec<&str> = self.digests(&file.path).map(String::as_str).collect();
            match files::found(self.root, &file.path, &[&file.digest])? {
                FileState::Same => {}
                FileState::Missing => changed.push(file),
                FileState::Other => match files::found(self.root, &file.path, &ours)? {
                    FileState::Other => {
                        let reason =
                            "is not of runwasi-node-installer, or was changed: remove it first";
                        return Err(Error::file(&file.path, reason));
                    }
                    FileState::Same | FileState::Missing => changed.push(file),
                },
            }
        }
        Ok(changed)
    }

    fn digests(&self, path: &str) -> impl Iterator<Item = &String> {
        self.record.files.get(path).into_iter().flatten()
    }

    /// Writes down what is going to change. A file that is there as wanted without a record is
    /// another's, and stays so.
    fn intend(&mut self, changed: &[&Wanted], plan: &Plan, bin_dir: &str) -> Result<(), Error> {
        let before = self.record.clone();
        self.record.bin_dir = bin_dir.to_owned();
        for file in changed {
            let digests = self.record.files.entry(file.path.clone()).or_default();
            digests.insert(file.digest.clone());
            self.record.due.programs |= file.mode == PROGRAM && !self.options.restart;
            self.record.due.units |= files::is_unit(&file.path);
            match file.follows {
                Follows::Nothing => {}
                Follows::Daemon => self.record.due.daemon = true,
                Follows::Sysctl => self.record.due.sysctl = true,
            }
            self.record.will_make(self.root, parent(&file.path));
        }
        if self.changes(plan) {
            self.record.configurations.insert(plan.file.clone());
            self.record.will_make(self.root, parent(&plan.file));
        }
        if self.record != before {
            self.shelf.save(&self.record)?;
        }
        Ok(())
    }

    fn changes(&self, plan: &Plan) -> bool {
        plan.before.as_ref() != Some(&plan.after)
    }

    /// Puts files in their places, after the programs among them were tried.
    fn write_files(&mut self, changed: &[&Wanted]) -> Result<(), Error> {
        if let Err(error) = self.prepare_files(changed) {
            for file in changed {
                // The first error is the one to tell; the next run replaces what stays.
                let _ = self.root.remove_unfinished(&file.path);
            }
            return Err(error);
        }
        for file in changed {
            self.root.complete(&file.path)?;
            self.done.push(format!("{}: written", file.path));
        }
        Ok(())
    }

    fn prepare_files(&self, changed: &[&Wanted]) -> Result<(), Error> {
        for file in changed {
            self.root.make_directories(parent(&file.path))?;
            self.root.prepare(&file.path, &file.content, Access::Root(file.mode))?;
        }
        if self.options.restart {
            self.try_programs(changed.iter().copied(), unfinished)?;
        }
        Ok(())
    }

    fn follow_files(&mut self, wanted: &[Wanted]) -> Result<(), Error> {
        if !self.options.restart {
            return Ok(());
        }
        let due = self.record.due.clone();
        if due.programs {
            self.try_programs(wanted.iter(), str::to_owned)?;
        }
        let sysctl = wanted.iter().find(|file| file.follows == Follows::Sysctl);
        if let (true, Some(file)) = (due.sysctl, sysctl) {
            let line = self.apply_sysctl(file)?;
            self.done.push(format!("{}: {line}", file.path));
            self.record.due.sysctl = false;
        }
        if due.daemon && wanted.iter().any(|file| file.follows == Follows::Daemon) {
            self.services.start_daemon(due.units)?;
            self.done.push("containerd-wasmtimed: started".to_owned());
            // Told and not refused: variables and flags of the unit may name more directories.
            let state = plan::state(self.root, self.options, self.distribution)?;
            self.done.extend(bundle_roots::complaint(self.root, &state)?);
            self.record.due.daemon = false;
            self.record.due.units = false;
        }
        self.record.due.programs = false;
        if self.record.due != due {
            self.shelf.save(&self.record)?;
        }
        Ok(())
    }

    /// Gives the kernel the values of a sysctl file; says how it went.
    fn apply_sysctl(&self, file: &Wanted) -> Result<String, Error> {
        if files::is_in_force(self.root, &file.content)? {
            return Ok("the kernel has as much".to_owned());
        }
        // A node that does not take the value has room for fewer guests; it is no reason to have
        // none.
        let refused = self.services.apply_sysctl(&file.path)?;
        Ok(refused.map_or("applied".to_owned(), |reason| format!("not applied: {reason}")))
    }

    /// Starts each program once, on the host, where it is `at`: one that is linked for another
    /// system fails here, and not with the first pod.
    fn try_programs<'w>(
        &self,
        files: impl Iterator<Item = &'w Wanted>,
        at: impl Fn(&str) -> String,
    ) -> Result<(), Error> {
        let mut programs = files.filter(|file| file.mode == PROGRAM);
        programs.try_for_each(|file| self.services.try_program(&file.path, &at(&file.path)))
    }

    /// Changes containerd's configuration, and takes back what an earlier run did in another file
    /// of it.
    fn configure(&mut self, plan: &Plan) -> Result<(), Error> {
        if self.changes(plan) {
            self.write_configuration(plan)?;
        }
        let Self { root, options, services, shelf, record, .. } = self;
        let lines = unconfigure(root, options, services, shelf, record, Some(&plan.file))?;
        self.record.configurations.retain(|file| *file == plan.file);
        self.done.extend(lines);
        Ok(())
    }

    /// Writes it. What it said is kept, unless what containerd runs with is kept already.
    fn write_configuration(&mut self, plan: &Plan) -> Result<(), Error> {
        let Self { record, options, services, .. } = &*self;
        refuse_too_early(record, options, services, &plan.file, Some(&plan.after))?;
        let before = plan.before.as_deref();
        self.shelf.keep_previous(&mut self.record, &plan.file, before, Some(&plan.after))?;
        self.record.due.containerd = true;
        self.shelf.save(&self.record)?;
        self.root.make_directories(parent(&plan.file))?;
        if self.root.read_text(&plan.file)? != plan.before {
            return Err(Error::file(&plan.file, "was changed by another meanwhile: run again"));
        }
        self.root.write(&plan.file, plan.after.as_bytes(), Access::Same(0o644))?;
        self.done.push(format!("{}: written", plan.file));
        Ok(())
    }

    /// Restarts containerd if it has not seen its configuration, and goes back if it does not take
    /// it.
    fn restart(&mut self, plan: &Plan) -> Result<(), Error> {
        if !self.record.due.containerd {
            return Ok(());
        }
        if !self.options.restart {
            self.done.push("containerd: to be restarted".to_owned());
            return Ok(());
        }
        let refused = self.record.refused.clone();
        restart(self.root, &self.shelf, &self.services, &mut self.record, &plan.socket)?;
        let now = self.root.read_text(&plan.file)?;
        let kept = now.map(|text| plan::has_runtimes(&plan.file, &text)).transpose()?;
        if kept != Some(true) {
            let at = self.services.seconds();
            note_undone(&mut self.record, refused, &plan.file, &plan.after, at);
            self.shelf.save(&self.record)?;
            let reason = "was made anew at the restart, without the runtimes: name its source by \
                          --containerd-config";
            return Err(Error::file(&plan.file, reason));
        }
        self.done.push("containerd: restarted".to_owned());
        Ok(())
    }

    /// Removes files of a runtime that is not wanted any more, or of another directory.
    fn remove_unwanted(&mut self, wanted: &[Wanted]) -> Result<(), Error> {
        let names: BTreeSet<&String> = wanted.iter().map(|file| &file.path).collect();
        let recorded: Vec<String> = self.record.files.keys().cloned().collect();
        let unwanted: Vec<String> =
            recorded.into_iter().filter(|path| !names.contains(path)).collect();
        let shims = unwanted.iter().filter(|path| is_shim(path, &Runtime::ALL)).cloned().collect();
        if let Some(pod) = in_use(self.root, self.options, self.distribution, &shims)?.first() {
            self.done.push(format!("files of earlier runs stay: {pod} uses them"));
            return Ok(());
        }
        let has_daemon = wanted.iter().any(|file| file.follows == Follows::Daemon);
        let units = unwanted.iter().any(|path| files::is_unit(path));
        let stops = units && !has_daemon;
        if !unwanted.is_empty() && stay(self.options, &mut self.record.due, stops, &mut self.done) {
            return Ok(());
        }
        if stops && self.options.restart {
            stop_daemon(self.root, &self.services, &unwanted)?;
        }
        let lines = remove_files(self.root, &mut self.record, &unwanted)?;
        self.done.extend(lines);
        if units && self.options.restart {
            self.services.reload_units()?;
        }
        Ok(())
    }

    /// Forgets the digests of replaced files, and steps of what is not wanted any more.
    fn settle(&mut self, wanted: &[Wanted]) -> Result<(), Error> {
        let before = self.shelf.load()?;
        for file in wanted {
            if let Some(digests) = self.record.files.get_mut(&file.path) {
                digests.retain(|digest| *digest == file.digest);
            }
        }
        let follows = |step| wanted.iter().any(|file| file.follows == step);
        let due = &mut self.record.due;
        due.daemon &= follows(Follows::Daemon);
        due.units &= follows(Follows::Daemon);
        due.sysctl &= follows(Follows::Sysctl);
        due.stop &= !follows(Follows::Daemon);
        if before.as_ref() != Some(&self.record) {
            self.shelf.save(&self.record)?;
        }
        Ok(())
    }
}
