//! Which file gets the runtimes, and its new text.
//!
//! | found | changed |
//! |---|---|
//! | no configuration, or one without a key | it is made, with version 2, which every containerd from 1.3 on reads |
//! | version 3 or 4 that imports a directory | a file of our own there: containerd 2 merges tables |
//! | version 3 or 4 | a block at its end |
//! | version 2 | a block at the end of the last loaded file with the CRI's table: containerd 1.x takes the whole table from there |
//! | k3s, RKE2, whose rendered version 3 imports a directory | a file of our own there |
//! | k3s, RKE2 | a block at the end of the template, which is made if there is none |
//!
//! containerd's side is `LoadConfig` and `mergeConfig`: in `services/server/config/config.go` of
//! 1.x the table of a plugin in a later file replaces that of an earlier one; in
//! `cmd/containerd/server/config/config.go` of 2.x it is merged into it. There a file with a higher
//! version than the first one is an error from 2.3 on, so a file of our own has its version.

use super::blocks::{Keep, Kind, Text, without};
use super::distribution::Distribution;
use super::imports::{self, DROP_IN, Loaded};
use super::parse::parse;
use super::running::{Running, running};
use super::tables;
use crate::Error;
use crate::options::{Options, Runtime};
use crate::root::{Root, parent};

/// The name that k3s and RKE2 give to what they render.
const RENDERED: &str = "config.toml";
/// The template of k3s and RKE2 for what they would render without it.
const BASE: &str = "{{ template \"base\" . }}\n";

/// What containerd's configuration says and which file gets the runtimes.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The file.
    pub(crate) file: String,
    /// What it says now; none if it is not there.
    pub(crate) before: Option<String>,
    /// What it is to say.
    pub(crate) after: String,
    /// containerd's socket.
    pub(crate) socket: String,
}

/// What is common to all ways.
struct Request<'a> {
    root: &'a Root,
    options: &'a Options,
    bin_dir: &'a str,
    flags: Option<Running>,
}

/// Decides; changes nothing.
pub(crate) fn plan(
    root: &Root,
    options: &Options,
    distribution: Distribution,
    bin_dir: &str,
) -> Result<Plan, Error> {
    let main = main(options, distribution);
    if main.ends_with(".tmpl") {
        let reason =
            "is a template; name the directory's config.toml, or leave --containerd-config out";
        return Err(Error::file(&main, reason));
    }
    let running = running(root)?;
    let flags = flags(root, options, &main, &running);
    if let (None, None, Some(other)) = (&options.containerd_config, &flags, running.first()) {
        let reason = format!(
            "is not what containerd reads, which runs with {}: name that by --containerd-config",
            other.config
        );
        return Err(Error::file(&main, reason));
    }
    let request = Request { root, options, bin_dir, flags };
    match distribution {
        Distribution::Plain => request.plain(distribution, &main),
        Distribution::K3s | Distribution::Rke2 => request.rendered(distribution, &main),
    }
}

/// The configuration that containerd reads first.
fn main(options: &Options, distribution: Distribution) -> String {
    let named = options.containerd_config.clone();
    named.unwrap_or_else(|| format!("{}/{RENDERED}", distribution.rendered_in()))
}

/// The running containerd that reads this configuration. If none does and the options name it, it
/// is a source of what another reads: then the only one that runs is meant.
fn flags(root: &Root, options: &Options, main: &str, running: &[Running]) -> Option<Running> {
    let reads = |one: &&Running| one.config == main || root.is_same(&one.config, main);
    let only = || match running {
        [only] if options.containerd_config.is_some() => Some(only),
        _ => None,
    };
    // Of several, one without flags of its own: the configuration is that of the host's containerd.
    let has_flags = |one: &&Running| (one.state.is_some(), one.socket.is_some());
    running.iter().filter(reads).min_by_key(has_flags).or_else(only).cloned()
}

/// What a file says after our blocks are gone; none if the file goes.
pub(crate) fn restored(file: &str, text: &str, force: bool) -> Result<Option<String>, Error> {
    let parts = Text::parse(file, text, force)?;
    let foreign = parts.foreign();
    // A template is no TOML: what it renders to may have runtimes.
    let others = match parse(file, &foreign) {
        Ok(config) => !config.runtimes.is_empty(),
        Err(_) => foreign.contains(".runtimes."),
    };
    let said =
        foreign.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(without(&parts, Keep { base: said, runc: others }))
}

impl Request<'_> {
    /// containerd as a service of its own.
    fn plain(&self, distribution: Distribution, main: &str) -> Result<Plan, Error> {
        let files = imports::load(self.root, main, visible)?;
        let socket = socket(&files, self.flags.clone(), distribution);
        let Some(first) = files.first().filter(|first| !first.config.empty) else {
            return self.in_block(main, 2, Some("version = 2\n".to_owned()), true, socket);
        };
        let version = version(first)?;
        self.refuse_conflicts(&files)?;
        let plugin = tables::plugin(version);
        if version > 2 {
            return match imports::directory(main, &first.config) {
                Some(directory) => self.in_drop_in(&directory, version, socket),
                None => self.in_block(main, version, None, false, socket),
            };
        }
        let has_table = |one: &&Loaded| one.config.plugins.iter().any(|name| name == plugin);
        let last = files.iter().rfind(has_table).unwrap_or(first);
        if last.file != main && last.file.starts_with("/run/") {
            let reason = "is made anew when containerd starts: name one of the files that its \
                          tables come from by --containerd-config";
            return Err(Error::file(&last.file, reason));
        }
        let runtimes = last.config.runtimes.iter().any(|(of, ..)| of == plugin);
        self.in_block(&last.file, version, None, !runtimes, socket)
    }

    /// containerd's configuration is rendered from a template.
    fn rendered(&self, distribution: Distribution, main: &str) -> Result<Plan, Error> {
        let files = imports::load(self.root, main, visible)?;
        let socket = socket(&files, self.flags.clone(), distribution);
        let Some(first) = files.first() else {
            return Err(Error::file(main, "is not there yet: start the node's service once"));
        };
        let version = version(first)?;
        self.refuse_conflicts(&files)?;
        if version > 2
            && let Some(directory) = imports::directory(main, &first.config)
        {
            return self.in_drop_in(&directory, version, socket);
        }
        let name = if version == 2 { "config.toml.tmpl" } else { "config-v3.toml.tmpl" };
        let template = format!("{}/{name}", parent(main));
        self.in_template(&template, version, socket)
    }

    fn in_drop_in(&self, directory: &str, version: i64, socket: String) -> Result<Plan, Error> {
        let file = format!("{directory}/{DROP_IN}");
        self.in_block(&file, version, Some(format!("version = {version}\n")), false, socket)
    }

    /// A block at the end of a file. `base` is for a file that has nothing else; `runc` asks for
    /// containerd's own runtime.
    fn in_block(
        &self,
        file: &str,
        version: i64,
        base: Option<String>,
        runc: bool,
        socket: String,
    ) -> Result<Plan, Error> {
        let before = self.root.read_text(file)?;
        let mut text = self.parts(file, before.as_deref())?;
        if let Some(base) = base
            && (text.has(Kind::Base) || nothing_said(file, &text.foreign())?)
        {
            text.set(Kind::Base, base);
        }
        if runc || text.has(Kind::Runc) {
            text.set(Kind::Runc, tables::runc(version));
        }
        text.set(Kind::Runtimes, self.tables(file, version)?);
        if before.is_none() {
            text.made();
        }
        let after = text.to_string();
        // Fails where a table cannot be added to: an inline one, or one by dotted keys.
        parse(file, &after).map_err(|error| unfit(error, before.as_deref()))?;
        Ok(Plan { file: file.to_owned(), before, after, socket })
    }

    /// A block at the end of a template.
    fn in_template(&self, file: &str, version: i64, socket: String) -> Result<Plan, Error> {
        let before = self.root.read_text(file)?;
        let mut text = self.parts(file, before.as_deref())?;
        self.refuse_in_template(file, &text)?;
        if before.is_none() || text.has(Kind::Base) {
            text.set(Kind::Base, BASE.to_owned());
        }
        text.set(Kind::Runtimes, self.tables(file, version)?);
        if before.is_none() {
            text.made();
        }
        let after = text.to_string();
        Ok(Plan { file: file.to_owned(), before, after, socket })
    }

    fn tables(&self, file: &str, version: i64) -> Result<String, Error> {
        let Options { runtimes, sandboxer, .. } = self.options;
        tables::runtimes(file, version, runtimes, self.bin_dir, *sandboxer)
    }

    fn parts(&self, file: &str, text: Option<&str>) -> Result<Text, Error> {
        match text {
            None => Ok(Text::new()),
            Some(text) => Text::parse(file, text, self.options.force),
        }
    }

    /// Another runtime of our name, or a CRI that is switched off.
    fn refuse_conflicts(&self, files: &[Loaded]) -> Result<(), Error> {
        for Loaded { file, config } in files {
            let whole = self.root.read_text(file)?.unwrap_or_default();
            let whole = Text::parse(file, &whole, true)?;
            if let Some(line) = config.cri_disabled {
                let reason =
                    "containerd's CRI is disabled here, so the runtimes would have no effect";
                return Err(Error::config(file, whole.line(line), reason));
            }
            let ours = |(_, name, _): &&(String, String, usize)| self.is_ours(name);
            if let Some((_, name, line)) = config.runtimes.iter().find(ours) {
                return Err(Error::config(file, whole.line(*line), conflict(name)));
            }
        }
        Ok(())
    }

    /// The same for a template, which is no TOML: a header, or the last of dotted keys.
    fn refuse_in_template(&self, file: &str, text: &Text) -> Result<(), Error> {
        for (number, line) in text.visible().lines().enumerate() {
            let Some((before, rest)) = line.split_once("runtimes.") else { continue };
            let name = rest.split([']', '=', '.', ' ']).next().unwrap_or_default();
            let name = name.trim_matches(['"', '\'']);
            if !before.contains('#') && self.is_ours(name) {
                return Err(Error::config(file, text.line(number + 1), conflict(name)));
            }
        }
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        self.options.runtimes.iter().any(|runtime: &Runtime| runtime.handler() == name)
    }
}

fn conflict(name: &str) -> String {
    format!(
        "a runtime {name:?} that runwasi-node-installer did not write: remove it, or leave it out by --runtime"
    )
}

fn nothing_said(file: &str, foreign: &str) -> Result<bool, Error> {
    Ok(parse(file, foreign)?.empty)
}

/// A file without our runtimes; an edited block counts as ours here, and is refused where it is
/// written.
fn visible(file: &str, text: &str) -> Result<String, Error> {
    Ok(Text::parse(file, text, true)?.visible())
}

fn version(file: &Loaded) -> Result<i64, Error> {
    match file.config.version {
        Some((version, _)) if tables::VERSIONS.contains(&version) => Ok(version),
        // containerd 1.x takes it for version 1, whose plugins have other names, and 2.x does not
        // carry runtimes over.
        None => Err(Error::config(
            &file.file,
            1,
            "has no version: write `containerd config migrate` over it, or add `version = 2` if its names are those of version 2",
        )),
        Some((version, line)) => {
            let (first, last) = tables::VERSIONS.into_inner();
            let reason = format!("unknown version {version}; known are {first} to {last}");
            Err(Error::config(&file.file, line, reason))
        }
    }
}

/// A flag wins over what files name.
fn socket(files: &[Loaded], flags: Option<Running>, distribution: Distribution) -> String {
    let by_flag = flags.and_then(|flags| flags.socket);
    let named = by_flag.or_else(|| files.iter().rev().find_map(|file| file.config.socket.clone()));
    named.unwrap_or_else(|| distribution.socket().to_owned())
}

/// The error of a text to which the tables do not fit, at a line of the file as it is.
fn unfit(error: Error, before: Option<&str>) -> Error {
    match error {
        Error::Config { file, line, reason } => {
            let last = before.map_or(1, |text| text.lines().count().max(1));
            let reason = format!("tables of runtimes do not fit in: {reason}");
            Error::Config { file, line: line.min(last), reason }
        }
        other => other,
    }
}

/// The directory in which containerd has its bundles.
pub(crate) fn state(
    root: &Root,
    options: &Options,
    distribution: Distribution,
) -> Result<String, Error> {
    let main = main(options, distribution);
    let flags = flags(root, options, &main, &running(root)?);
    if let Some(state) = flags.and_then(|flags| flags.state) {
        return Ok(state);
    }
    let files = imports::load(root, &main, visible)?;
    let named = files.iter().rev().find_map(|file| file.config.state.clone());
    Ok(named.unwrap_or_else(|| distribution.state().to_owned()))
}

/// containerd's socket.
pub(crate) fn socket_of(
    root: &Root,
    options: &Options,
    distribution: Distribution,
) -> Result<String, Error> {
    let main = main(options, distribution);
    let flags = flags(root, options, &main, &running(root)?);
    Ok(socket(&imports::load(root, &main, visible)?, flags, distribution))
}

/// Whether a configuration has a block of ours with runtimes.
pub(crate) fn has_runtimes(file: &str, text: &str) -> Result<bool, Error> {
    Ok(Text::parse(file, text, true)?.has(Kind::Runtimes))
}

/// Whether a configuration has this runtime in a block of ours.
pub(crate) fn has_runtime(file: &str, text: &str, runtime: Runtime) -> Result<bool, Error> {
    let text = Text::parse(file, text, true)?;
    Ok(text.body(Kind::Runtimes).is_some_and(|body| tables::has(body, runtime)))
}
