//! WebAssembly host of a whole node: the library of `containerd-wasmtimed` and of its thin shim.
//!
//! An integrator with another engine calls [`main`] with it, and [`thin::main`], both with one
//! [`Identity`]. The modules, in
//! the order in which a sandbox is created:
//!
//! | module | content |
//! |---|---|
//! | [`thin`] | the shim that containerd starts: asks the daemon, prints the address, exits |
//! | [`manager`] | both ends of the API between thin shim and daemon |
//! | [`identity`] | program name, runtime name, state directory, config file, variables |
//! | [`command_line`] | words, flags and help of the daemon and of its commands |
//! | [`config`] | the daemon's settings, validated before anything is opened |
//! | [`serve`] | life of the daemon: sockets, signals, takeover, drain |
//! | `replacement` | a socket in the place of a predecessor's |
//! | `retirement` | its kinds; the wait of a drained daemon for the others |
//! | `supervisor` | the small parent process that systemd sees |
//! | `readiness` | signs to systemd or the guard; socket activation |
//! | `notify_socket` | the socket of `sd_notify(3)` |
//! | `successor` | the host's end of a reload |
//! | `watchdog` | proof that both runtimes work |
//! | `limits` | number of guests within the limits of the system |
//! | [`daemon`] | one engine, many sandboxes: create, connect, delete, list |
//! | `sandboxes` | the sandboxes that are served |
//! | [`slots`] | the number of guests of an engine without settings |
//! | `journal` | the latest events, for the command `events` |
//! | `report` | status of the daemon and its containers, for the commands |
//! | `event_queues` | one event connection per containerd |
//! | [`metrics`] | metrics over HTTP, for Prometheus |
//! | `reclaim` | return of memory after sandboxes have ended |
//! | `precompile` | the command that fills the code cache |
//! | `commands` | all other commands: `status`, `list`, `top`, `events`, `inspect`, … |
//! | [`state_dir`] | records for successors and thin shims |
//! | `traces` | traces by OTLP |
//! | `wasmtime` (feature) | wasmtime as the engine of a node |

pub mod command_line;
mod commands;
pub mod config;
pub mod daemon;
mod event_queues;
pub mod identity;
mod journal;
mod limits;
pub mod manager;
pub mod metrics;
mod notify_socket;
mod precompile;
mod readiness;
mod reclaim;
mod replacement;
mod report;
mod retirement;
mod sandboxes;
pub mod serve;
pub mod slots;
pub mod state_dir;
mod successor;
mod supervisor;
pub mod thin;
mod traces;
#[cfg(feature = "wasmtime")]
pub mod wasmtime;
mod watchdog;

use std::{env, ffi::OsString, path::Path, process::ExitCode};

pub use identity::Identity;
use runwasi_core::{logging, sanitize, sys};

use crate::{
    command_line::{Command, StartFlags},
    commands::CommandError,
    config::Settings,
    readiness::Supervisor,
    serve::{EngineSettings, NodeEngine, Start},
    supervisor::Plan,
};

/// The `main` of a node daemon's program.
pub fn main<N: NodeEngine>(identity: &Identity) -> ExitCode {
    let program = identity.program;
    let engine =
        |settings: &Settings| N::table(&EngineSettings::of(settings, settings.slots_in_force()));
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let file = Path::new(identity.config_file);
    let environment = |name: &str| env::var_os(name);
    let done = match command_line::read(identity, &arguments, &environment, file, &engine) {
        Ok(Command::Serve(settings, flags)) => serve::<N>(settings, flags, identity),
        Ok(Command::Precompile(settings, targets)) => {
            precompile::run::<N>(program, &settings, &targets)
        }
        Ok(Command::Ask(ask)) => commands::ask(identity, &ask).map_err(Into::into),
        Ok(Command::Cache(settings, command)) => {
            commands::cache(&settings, &command).map_err(Into::into)
        }
        Ok(Command::Generate(wanted)) => commands::generate(identity, &wanted).map_err(Into::into),
        Ok(Command::PrintConfig(text) | Command::Checked(text) | Command::Help(text)) => {
            print(&text)
        }
        Ok(Command::Version) => {
            print(&format!("{program} {} ({})\n", identity.version, identity.engine))
        }
        Err(error) => Err(error.into()),
    };
    done.unwrap_or_else(|error| {
        // The only place that reports an error of the daemon. With stderr closed, there is no other
        // place to report it to. Sanitized, since errors quote paths and text from outside.
        // Not by `eprintln!`: a reader that does not read must not hold up the end of a daemon.
        logging::print_error(&format!("{program}: {}", sanitize::text(&error.to_string())));
        // A script tells the absence of a daemon from a missing permission by it.
        let of_command = error.downcast_ref::<CommandError>();
        of_command.map_or(ExitCode::FAILURE, CommandError::exit_code)
    })
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn serve<N: NodeEngine>(settings: Settings, flags: StartFlags, identity: &Identity) -> Outcome {
    // Before anything else is opened: a wrong number must not become that of a later descriptor.
    let ready = flags.ready_fd.map(sys::adopt_fd).transpose()?;
    let manager = match flags.listen_fd {
        Some(fd) => Some(sys::adopt_fd(fd)?),
        None => readiness::activated()?,
    };
    // The guard needs no engine and no runtime of guests: these belong to its hosts.
    if flags.guard {
        let arguments = flags.of_hosts;
        let socket = settings.socket;
        logging::to_stderr_at(settings.log_level, settings.log_format);
        return Ok(supervisor::run(Plan { socket, arguments, manager, ready })?);
    }
    if flags.guard_fd.is_some() {
        let of_guard = env::var_os(successor::GUARD_SOCKET);
        successor::check_socket(of_guard.as_deref(), &settings.socket)?;
    }
    let supervisor = Supervisor::of(flags.guard_fd)?;
    let build = identity.build();
    serve::serve::<N>(settings, Start { build, manager, ready, supervisor })?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Outcome {
    // A reader that has gone is no fault of the command.
    commands::output::print(text)?;
    Ok(ExitCode::SUCCESS)
}
