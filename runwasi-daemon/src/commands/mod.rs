//! The commands that ask running daemons, and those about their files.
//!
//! ```text
//! command_line ─▶ run ─▶ node: sockets, answers ─▶ status, list, inspect, …: texts ─▶ output
//! ```
//!
//! A command never starts or disturbs a daemon, and creates and removes no socket. Each wait has a
//! limit. Decisions and texts are pure functions; [`node`], [`output`] and the entry of each
//! command have the effects.

mod cache;
mod config;
mod debug;
mod drain;
mod error;
mod events;
mod facts;
mod generate;
mod health;
mod inspect;
mod list;
mod node;
pub(crate) mod output;
mod process;
mod sandbox;
mod secrets;
mod status;
#[cfg(test)]
mod tests;
mod text;
mod top;

use std::process::ExitCode;

pub(crate) use self::error::CommandError;
use self::{
    inspect::Inspected,
    node::Node,
    output::{note, print},
};
use crate::{
    command_line::{
        definitions,
        subcommands::{Ask, AskFor, CacheCommand, Generated},
    },
    config::Settings,
    identity::Identity,
    journal::now,
    manager::RELOAD_PATIENCE,
};

/// Runs a request to the daemons of the node.
pub(crate) fn ask(identity: &Identity, ask: &Ask) -> Result<ExitCode, CommandError> {
    let Ask { socket, patience, request } = ask;
    let program = identity.program;
    let node = Node { socket: socket.clone(), program, patience: *patience };
    match request {
        AskFor::Status { json } => return status(&node, *json),
        AskFor::List { json } => return list(&node, *json),
        AskFor::Top { interval, batch: false } => top::run(&node, *interval)?,
        AskFor::Top { interval, batch: true } => {
            print(&top::batch(&node, *interval)?)?;
        }
        AskFor::Events { json, past, time } => events::follow(&node, *json, *past, *time)?,
        AskFor::Inspect { id, namespace, json } => {
            inspect(&node, id, namespace.as_deref(), *json)?;
        }
        AskFor::Drain { limit } => drain::drain(&node, *limit)?,
        AskFor::Reload => reload(node)?,
        AskFor::Health => {
            let verdict = health::verdict(&node.daemons(true)?);
            print(&verdict.map_err(CommandError::Other)?)?;
        }
        AskFor::DebugBundle { output, log_lines, settings } => {
            let version = format!("{program} {} ({})", identity.version, identity.engine);
            let output = output.as_deref();
            let request = debug::Request { output, log_lines: *log_lines, settings, version };
            return debug::run(&node, &request);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command about the cache of compiled code.
pub(crate) fn cache(settings: &Settings, command: &CacheCommand) -> Result<ExitCode, CommandError> {
    cache::run(settings, command)
}

/// Makes a text of the definitions of the command line.
pub(crate) fn generate(identity: &Identity, wanted: &Generated) -> Result<ExitCode, CommandError> {
    generate::run(definitions(identity), identity.version, wanted)
}

fn status(node: &Node, as_json: bool) -> Result<ExitCode, CommandError> {
    let daemons = node.daemons(false)?;
    let faults = status::faults(&daemons);
    let json = || text::json(&status::json(&daemons, true));
    print(&if as_json { json() } else { status::table(&daemons) })?;
    Ok(code(&faults))
}

fn list(node: &Node, as_json: bool) -> Result<ExitCode, CommandError> {
    let daemons = node.daemons(false)?;
    let sandboxes = node.sandboxes(&daemons);
    let rows = list::rows(&daemons, &sandboxes);
    let json = || text::json(&list::json(&daemons, &rows));
    print(&if as_json { json() } else { list::table(&rows, now()) })?;
    // After the table, and without an effect on the exit status: the answer is as good as it can
    // be.
    for unknown in list::unknown(&daemons, &sandboxes, node.program) {
        note(&unknown);
    }
    Ok(code(&list::faults(&daemons, &sandboxes)))
}

fn inspect(
    node: &Node,
    id: &str,
    namespace: Option<&str>,
    as_json: bool,
) -> Result<(), CommandError> {
    let daemons = node.daemons(false)?;
    let sandboxes = node.sandboxes(&daemons);
    let rows = list::rows(&daemons, &sandboxes);
    // Not found where a daemon does not answer, or does not tell its containers: it may have it.
    let faults = list::faults(&daemons, &sandboxes);
    for fault in faults.iter().chain(&list::unknown(&daemons, &sandboxes, node.program)) {
        note(fault);
    }
    let text = match inspect::find(&rows, id, namespace).map_err(CommandError::Other)? {
        Inspected::Sandbox(row) if as_json => text::json(&list::one(&row)),
        Inspected::Sandbox(row) => inspect::sandbox_text(&row, now()),
        Inspected::Container(row, container) => {
            let config = config::read(&container.bundle);
            if as_json {
                text::json(&inspect::container_and_place(&row, container, &config))
            } else {
                inspect::container_text(&row, container, &config, now())
            }
        }
    };
    print(&text)?;
    Ok(())
}

/// Requests a reload of the daemon.
fn reload(node: Node) -> Result<(), CommandError> {
    // The settings are valid, since they were read for the path of the socket: an invalid file is
    // refused without a request.
    let current = node.current()?;
    let node = Node { patience: RELOAD_PATIENCE, ..node };
    node.client(&current.socket)?.reload()?;
    Ok(())
}

/// The exit status of a command with these faults, which are told.
fn code(faults: &[String]) -> ExitCode {
    for fault in faults {
        note(fault);
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
