//! The shim's `main`: containerd's command line becomes one of the actions of `bootstrap`.

use std::{env, ffi::OsString, fmt::Display, io::Write, process::ExitCode};

pub use crate::bootstrap::{
    BootstrapError,
    invocation::{About, Invocation},
};
use crate::{
    bootstrap::{self, start::Started},
    engine::{Engine, error::EngineError},
    logging, sanitize,
    settings::SettingsError,
    suggestion::nearest,
};

/// The arguments, as `--help` prints them.
const USAGE: &str = "\
A shim: containerd starts it, in the directory of a bundle.
  -namespace N -id I -address A [-bundle B] start   start a server or find it, print its address
  -namespace N -id I -address A [-bundle B] delete  remove the rest of a container, print its end
  -v | -info                                        print the version, or the features
";

/// Flags of containerd's command line.
const FLAGS: [&str; 11] = [
    "address",
    "bundle",
    "debug",
    "help",
    "id",
    "info",
    "namespace",
    "publish-binary",
    "socket",
    "v",
    "version",
];

/// A complete shim. `engine` is called in the serving process only, before any thread exists.
///
/// Call it first in `main`: it forks, and only the calling thread goes on in the server.
///
/// Errors go to stderr, which containerd puts into the message that `ctr` prints. Those of the
/// serving process, which has no stderr, go to the log.
pub fn main<E: Engine>(about: About, engine: impl FnOnce() -> Result<E, EngineError>) -> ExitCode {
    main_with_settings(about, || Ok(()), |()| engine())
}

/// The same for an engine with settings from the environment. `settings` is called first by
/// `start`, whose errors `ctr` prints.
pub fn main_with_settings<S, E: Engine>(
    about: About,
    settings: impl FnOnce() -> Result<S, SettingsError>,
    engine: impl FnOnce(S) -> Result<E, EngineError>,
) -> ExitCode {
    run(about, |action, invocation| match action {
        Action::Start => {
            let settings = settings().map_err(BootstrapError::from)?;
            match bootstrap::start::start(invocation)? {
                Started::Reply(reply) => Ok(reply),
                // The server has nothing to print on stdout when it ends.
                Started::Server(handover) => {
                    let engine = || engine(settings);
                    bootstrap::serve::serve(&about, invocation, handover, engine)
                        .map(|()| Vec::new())
                }
            }
        }
        Action::Delete => bootstrap::delete::delete(invocation),
    })
}

/// Actions of a shim's program, as containerd calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find or start the server of the container's group.
    Start,
    /// Remove the remains of a container.
    Delete,
}

/// The `main` of a shim's program: parses containerd's command line and answers `-v` and `-info`.
/// Otherwise it prints the reply of `act`, or its error.
pub fn run<F: Display>(
    about: About,
    act: impl FnOnce(Action, &Invocation) -> Result<Vec<u8>, F>,
) -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match answer(&about, &arguments, act).and_then(|answer| print(&answer).map_err(text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The only place that reports an error of a shim. With stderr closed, there is no other
            // place to report it to. Sanitized, since errors quote ids and paths from outside.
            let _ = writeln!(std::io::stderr(), "{}: {}", about.runtime, sanitize::text(&error));
            ExitCode::FAILURE
        }
    }
}

/// The reply, or the text of the error.
fn answer<F: Display>(
    about: &About,
    arguments: &[OsString],
    act: impl FnOnce(Action, &Invocation) -> Result<Vec<u8>, F>,
) -> Result<Vec<u8>, String> {
    // Only the first argument: a later one can be the value of a flag.
    if arguments.first().is_some_and(|first| ["-h", "-help", "--help"].iter().any(|h| first == h)) {
        return Ok(USAGE.into());
    }
    let flags =
        containerd_shim::parse(arguments).map_err(|error| with_nearest_flag(error.to_string()))?;
    if flags.version {
        return Ok(version(about).into_bytes());
    }
    if flags.info {
        return bootstrap::info::runtime_info(about).map_err(text);
    }
    // An unknown word is reported before a missing flag, and a missing word after it: containerd
    // sets all of them.
    let action = match Action::parse(&flags.action) {
        Err(unknown) if !flags.action.is_empty() => return Err(text(unknown)),
        action => action,
    };
    let invocation = Invocation::check(flags).map_err(text)?;
    let action = action.map_err(text)?;
    if action == Action::Delete {
        // Of what stays: the server, whose log it would be in, may have ended.
        logging::warnings_to_stderr(about.runtime);
    }
    act(action, &invocation).map_err(|error| named(invocation.id.as_str(), error.to_string()))
}

fn text(error: BootstrapError) -> String {
    error.to_string()
}

/// An error with the id of its container, which a reason of the system does not have.
fn named(id: &str, error: String) -> String {
    let is_of_an_id = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match error.split(|c: char| !is_of_an_id(c)).any(|word| word == id) {
        true => error,
        false => format!("container {id}: {error}"),
    }
}

/// An error of the command line, with the known flag that is nearest to the unknown one.
fn with_nearest_flag(error: String) -> String {
    // By its text: the parser's error has no field for the flag.
    let unknown = error.rsplit_once(" not defined: -").map(|(_, flag)| flag);
    match unknown.and_then(|flag| nearest(flag, &FLAGS)) {
        Some(flag) => format!("{error}; did you mean -{flag}? -help shows what there is"),
        None => error,
    }
}

impl Action {
    fn parse(word: &str) -> Result<Self, BootstrapError> {
        match word {
            "start" => Ok(Self::Start),
            "delete" => Ok(Self::Delete),
            "" => Err(BootstrapError::Arguments(
                "no action: containerd calls this program with start or delete".into(),
            )),
            other => {
                let nearest = nearest(other, &["start", "delete"]);
                let meant =
                    nearest.map(|word| format!(" did you mean {word}?")).unwrap_or_default();
                let text = format!("unknown action {other:?};{meant} -help shows what there is");
                Err(BootstrapError::Arguments(text))
            }
        }
    }
}

fn version(about: &About) -> String {
    let program = env::args_os().next().unwrap_or_default();
    let program = program.to_string_lossy();
    format!(
        "{program}:\n  Runtime:  {}\n  Version:  {}\n  Engine:   {}\n",
        about.runtime, about.version, about.engine
    )
}

fn print(bytes: &[u8]) -> Result<(), BootstrapError> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|source| BootstrapError::Io { what: "stdout".into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_its_container_once() {
        for (error, text) in [
            ("no thread can be made", "container web: no thread can be made"),
            ("/s/web/config.json: no process", "/s/web/config.json: no process"),
            ("/s/web2/config.json: no process", "container web: /s/web2/config.json: no process"),
        ] {
            assert_eq!(named("web", error.to_owned()), text);
        }
    }
}
