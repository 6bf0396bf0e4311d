//! The commands besides serving: their words, flags and help, and what they mean.
//!
//! Help, man pages and completions of shells are made from the same definitions: a doc comment here
//! is help. A command takes the flags of those settings that it needs, and its own.

use std::{ffi::OsString, iter, path::PathBuf, time::Duration};

use clap::{Arg, Args, Command, Subcommand};
use runwasi_core::settings::Within;

/// The commands besides serving.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Commands {
    #[command(flatten)]
    Ask(AskFor),
    /// Check the settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// See and clean the cache of compiled code.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Compile into the cache: wasm, or the wasm in an image.
    Precompile(Targets),
    /// Collect facts for a report of a fault.
    #[command(subcommand)]
    Debug(DebugCommand),
    #[command(flatten)]
    Generate(Generated),
}

/// A request to daemons that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The manager socket, or the own socket of one daemon.
    pub socket: PathBuf,
    /// Time limit of each answer.
    pub patience: Duration,
    /// The request.
    pub request: AskFor,
}

/// Subject of a request.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum AskFor {
    /// Show the daemons of the node.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the sandboxes of all daemons of the node.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the containers by their CPU time, memory and requests.
    Top {
        /// Time between two looks.
        #[arg(long, value_name = "SECONDS", value_parser = seconds::<1, 3600>, default_value = "2")]
        interval: Duration,
        /// Print the second look as text instead, without a terminal.
        #[arg(long)]
        batch: bool,
    },
    /// Follow the events of all daemons of the node: creations, starts, exits, ….
    Events {
        /// Print JSON, an object per line.
        #[arg(long)]
        json: bool,
        /// Begin with the events that the daemons have kept.
        #[arg(long)]
        past: bool,
        /// End after this time.
        #[arg(long = "for", value_name = "SECONDS", value_parser = seconds::<1, 86400>)]
        time: Option<Duration>,
    },
    /// Show everything about a container or a sandbox.
    Inspect {
        /// Its id, or the beginning of it.
        #[arg(value_name = "ID")]
        id: String,
        /// containerd's namespace, if the id is ambiguous.
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take no new sandboxes, and wait until the present ones have ended.
    #[command(after_help = "Guests get no signal. Without a time limit that suffices, it fails \
        and says what is left.")]
    Drain {
        /// Time limit of the wait; 0 does not wait.
        #[arg(long = "timeout", value_name = "SECONDS")]
        #[arg(value_parser = seconds::<0, 86400>, default_value = "600")]
        limit: Duration,
    },
    /// Replace the daemon: new settings, a new version; sandboxes go on.
    #[command(after_help = "It needs a daemon with --guard, as the systemd unit starts it.")]
    Reload,
    /// Succeed if the node can start containers; for probes.
    Health,
    /// A file for a report of a fault: `debug bundle`.
    #[command(skip)]
    DebugBundle {
        /// The file, or `-` for stdout. By default a name with the time.
        output: Option<PathBuf>,
        /// Lines of the log.
        log_lines: u32,
        /// The settings as a start would read them, or the reason why it would fail.
        settings: Result<String, String>,
    },
}

/// A command about the settings.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check all settings as a start would, without a start.
    Check {
        /// The file to check instead of the usual one.
        #[arg(value_name = "FILE")]
        file: Option<OsString>,
    },
}

/// A command about the cache of compiled code.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CacheCommand {
    /// List compiled code.
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove compiled code, the longest unused first; guests that run are not disturbed.
    Prune(Prune),
    /// Check owner, mode and checksum of compiled code; fails if a file is not usable.
    Verify {
        /// Remove the files that are not usable.
        #[arg(long)]
        remove: bool,
    },
}

/// The files to remove.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Prune {
    /// Size in MiB that the rest may have.
    #[arg(long, value_name = "MIB")]
    #[arg(value_parser = |word: &str| Within::<0, 1_048_576>::parse(word, " (MiB)"))]
    #[arg(help = "Size that the rest may have [default: that of the settings]")]
    pub size: Option<u32>,
    /// Remove what has not been used for so long.
    #[arg(long = "unused-for", value_name = "DAYS")]
    #[arg(value_parser = |word: &str| Within::<0, 36500>::parse(word, " (days)"))]
    pub unused_days: Option<u32>,
    /// Remove everything.
    #[arg(long)]
    pub all: bool,
    /// Only say what would be removed.
    #[arg(long)]
    pub dry_run: bool,
}

/// The files and images to precompile.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Targets {
    /// Wasm, the tar of an image, or an image of containerd.
    #[arg(id = "targets", value_name = "FILE|IMAGE", required = true)]
    pub names: Vec<OsString>,
    /// The gRPC socket of the containerd that has the images.
    #[arg(long, value_name = "PATH")]
    #[arg(help = "containerd's gRPC socket [CONTAINERD_ADDRESS]")]
    pub address: Option<String>,
    /// The namespace they are in.
    #[arg(long, value_name = "NAME")]
    #[arg(
        help = "containerd's namespace; Kubernetes' images are in k8s.io [CONTAINERD_NAMESPACE]"
    )]
    pub namespace: Option<String>,
}

/// A command for a report of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum DebugCommand {
    /// Write one tar for a report of a fault: versions, settings, lists, log.
    #[command(
        after_help = "Values of environment variables, credentials, and arguments that look \
        like secrets are left out. Look into it before you send it."
    )]
    Bundle {
        #[arg(long, short = 'o', value_name = "FILE")]
        #[arg(help = "The new file, or - for stdout [default: PROGRAM-debug-TIME.tar]")]
        output: Option<PathBuf>,
        /// Lines of the log.
        #[arg(long, value_name = "N", default_value = "2000")]
        #[arg(value_parser = |word: &str| Within::<0, 1_000_000>::parse(word, ""))]
        log_lines: u32,
    },
}

/// A text that is made from these definitions.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Generated {
    /// Print the completions for a shell.
    Completions {
        /// bash, fish or zsh.
        #[arg(value_name = "SHELL", value_parser = shell)]
        shell: String,
    },
    /// Write the man pages.
    #[command(hide = true)]
    Man {
        /// An existing directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// Shells with completions.
pub const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// Time limit of each answer of a daemon, by default.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Flags that no command of this host has.
const NOT_OF_HOSTS: [&str; 7] =
    ["patience", "ready-fd", "listen-fd", "guard", "guard-fd", "print-config", "version"];

/// The program with the flags of settings at those commands that need them.
pub(crate) fn with_settings(root: Command) -> Command {
    // In the help after the flags of the command itself.
    let settings = root.get_arguments().map(|arg| arg.clone().display_order(100));
    let flags: Vec<Arg> = iter::once(patience()).chain(settings).collect();
    root.mut_subcommands(|command| with_flags(command, &flags))
}

/// A command, and those within it, with those of the `flags` that they need.
fn with_flags(command: Command, flags: &[Arg]) -> Command {
    let name = command.get_name().to_owned();
    let needs = |flag: &str| match &*name {
        "config" | "cache" | "debug" | "completions" | "man" => false,
        "check" | "precompile" => !NOT_OF_HOSTS.contains(&flag),
        "ls" | "prune" | "verify" => ["config", "cache-dir", "cache-size"].contains(&flag),
        // It has a time limit of its own.
        "reload" => ["config", "socket"].contains(&flag),
        _ => ["patience", "config", "socket"].contains(&flag),
    };
    let needed = flags.iter().filter(|arg| arg.get_long().is_some_and(needs));
    let mut order = 0;
    let own = |arg: Arg| {
        order += 1;
        let is_flag_with_value = arg.get_long().is_some() && arg.get_action().takes_values();
        arg.display_order(order).allow_hyphen_values(is_flag_with_value)
    };
    command
        .mut_args(own)
        .args(needed)
        .disable_help_subcommand(true)
        // The derived command that only has further ones would print its help as an error.
        .arg_required_else_help(false)
        .mut_subcommands(|inner| with_flags(inner, flags))
}

/// The flag of the commands that ask daemons, the first one in their help.
fn patience() -> Arg {
    Arg::new("patience")
        .long("patience")
        .value_name("SECONDS")
        .help("Time limit of each answer of a daemon")
        .value_parser(seconds::<1, 600>)
        .default_value(PATIENCE.as_secs().to_string())
        .allow_hyphen_values(true)
        .display_order(0)
}

fn seconds<const MIN: u32, const MAX: u32>(word: &str) -> Result<Duration, String> {
    let seconds = Within::<MIN, MAX>::parse(word, " (seconds)")?;
    Ok(Duration::from_secs(seconds.into()))
}

fn shell(word: &str) -> Result<String, String> {
    let is_known = SHELLS.contains(&word);
    is_known
        .then(|| word.to_owned())
        .ok_or_else(|| format!("{word:?} is none of {}", SHELLS.join(", ")))
}
