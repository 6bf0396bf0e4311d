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
//! | [`config`] | the daemon's settings, validated before anything is opened |
//! | [`serve`] | life of the daemon: sockets, signals, takeover, drain |
//! | `supervisor` | the small parent process that systemd sees |
//! | `readiness` | signs to systemd or the guard; socket activation |
//! | `successor` | the host's end of a reload |
//! | `watchdog` | proof that both runtimes work |
//! | `limits` | number of guests within the limits of the system |
//! | [`daemon`] | one engine, many sandboxes: create, connect, delete, list |
//! | `sandboxes` | the sandboxes that are served |
//! | `event_queues` | one event connection per containerd |
//! | [`metrics`] | metrics over HTTP, for Prometheus |
//! | `reclaim` | return of memory after sandboxes have ended |
//! | `precompile` | the command that fills the code cache |
//! | [`state_dir`] | records for successors and thin shims |
//! | `traces` | traces by OTLP |
//! | `wasmtime` (feature) | wasmtime as the engine of a node |

pub mod config;
pub mod daemon;
mod event_queues;
pub mod identity;
mod limits;
pub mod manager;
pub mod metrics;
mod precompile;
mod readiness;
mod reclaim;
mod sandboxes;
pub mod serve;
pub mod state_dir;
mod successor;
mod supervisor;
pub mod thin;
mod traces;
#[cfg(feature = "wasmtime")]
pub mod wasmtime;
mod watchdog;

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

pub use identity::Identity;
use runwasi_core::{logging, metrics::exposition::Build, sanitize, sys};

use crate::{
    config::{Command, Settings},
    manager::{RELOAD_PATIENCE, client::Client},
    readiness::Supervisor,
    serve::{EngineSettings, NodeEngine, Start},
    supervisor::Plan,
};

/// Time limit for the reply to `list`.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// The `main` of a node daemon's program.
pub fn main<N: NodeEngine>(identity: &Identity) -> ExitCode {
    let program = identity.program;
    let engine =
        |settings: &Settings| N::table(&EngineSettings::of(settings, settings.slots_in_force()));
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let file = Path::new(identity.config_file);
    let done = match config::read(identity, &arguments, &|name| env::var_os(name), file, &engine) {
        Ok(Command::Serve(settings)) => serve::<N>(settings, identity.build()),
        Ok(Command::Precompile(settings, targets)) => {
            precompile::run::<N>(program, &settings, &targets)
        }
        Ok(Command::List(socket)) => list(&socket, program).and_then(|list| print(&list)),
        Ok(Command::Reload(socket)) => reload(&socket, program),
        Ok(Command::PrintConfig(toml)) => print(&toml),
        Ok(Command::Version) => {
            print(&format!("{program} {} ({})\n", identity.version, identity.engine))
        }
        Ok(Command::Help(text)) => print(&text),
        Err(error) => Err(error.into()),
    };
    done.unwrap_or_else(|error| {
        // The only place that reports an error of the daemon. With stderr closed, there is no other
        // place to report it to. Sanitized, since errors quote paths and text from outside.
        // Not by `eprintln!`: a reader that does not read must not hold up the end of a daemon.
        logging::print_error(&format!("{program}: {}", sanitize::text(&error.to_string())));
        ExitCode::FAILURE
    })
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn serve<N: NodeEngine>(settings: Settings, build: Build) -> Outcome {
    // Before anything else is opened: a wrong number must not become that of a later descriptor.
    let ready = settings.ready_fd.map(sys::adopt_fd).transpose()?;
    let manager = match settings.listen_fd {
        Some(fd) => Some(sys::adopt_fd(fd)?),
        None => readiness::activated()?,
    };
    // The guard needs no engine and no runtime of guests: these belong to its hosts.
    if settings.guard {
        let arguments = settings.of_hosts;
        logging::to_stderr_at(settings.log_level, settings.log_format);
        return Ok(supervisor::run(Plan { arguments, manager, ready })?);
    }
    let supervisor = Supervisor::of(settings.guard_fd)?;
    serve::serve::<N>(settings, Start { build, manager, ready, supervisor })?;
    Ok(ExitCode::SUCCESS)
}

/// Requests a reload of the daemon.
fn reload(socket: &Path, program: &'static str) -> Outcome {
    // The settings are valid, since they were read for the path of the socket: an invalid file is
    // refused without a request.
    Client::connect(socket, program, RELOAD_PATIENCE)?.reload()?;
    Ok(ExitCode::SUCCESS)
}

/// The lines of `list`, one per sandbox.
fn list(socket: &Path, program: &'static str) -> Result<String, Box<dyn std::error::Error>> {
    let list = Client::connect(socket, program, LIST_PATIENCE)?.list()?;
    let lines = list.sandboxes.iter().map(|sandbox| {
        format!(
            "{} {} {} {} {}\n",
            sandbox.namespace, sandbox.group, sandbox.pid, sandbox.socket, sandbox.containers
        )
    });
    Ok(lines.collect())
}

fn print(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    // Flushed here: an error at the exit of the process would be lost.
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())?;
    Ok(ExitCode::SUCCESS)
}
