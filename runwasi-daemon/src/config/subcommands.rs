//! The commands besides serving: their words, flags and help, and what they mean.
//!
//! Help, man pages and completions of shells are made from the same definitions. A command takes
//! the flags of those settings that it needs, and its own.

use std::{ffi::OsString, ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use runwasi_core::settings::number;

/// The files and images to precompile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Files and images, in their order.
    pub names: Vec<OsString>,
    /// The gRPC socket of the containerd that has the images.
    pub address: Option<String>,
    /// The namespace they are in.
    pub namespace: Option<String>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskFor {
    /// The daemons of the node.
    Status {
        /// As JSON.
        json: bool,
    },
    /// The sandboxes of all daemons.
    List {
        /// As JSON.
        json: bool,
    },
    /// A screen with the containers.
    Top {
        /// Time between two looks.
        interval: Duration,
        /// Print it once instead, as text.
        batch: bool,
    },
    /// The events from now on.
    Events {
        /// As JSON, an object per line.
        json: bool,
        /// Begin with the kept events.
        past: bool,
        /// End after this time.
        time: Option<Duration>,
    },
    /// Everything about one container or sandbox.
    Inspect {
        /// Its id, or the beginning of it.
        id: String,
        /// Its namespace, if the id alone is ambiguous.
        namespace: Option<String>,
        /// As JSON.
        json: bool,
    },
    /// No new sandboxes; wait for the end of the present ones.
    Drain {
        /// Time limit of the wait.
        limit: Duration,
    },
    /// A new daemon with the settings of now.
    Reload,
    /// Success if the node can start containers.
    Health,
    /// A file for a report of a fault.
    DebugBundle {
        /// The file, or `-` for stdout. By default a name with the time.
        output: Option<PathBuf>,
        /// Lines of the log.
        log_lines: u32,
        /// The settings as a start would read them, or the reason why it would fail.
        settings: Result<String, String>,
    },
}

/// A command about the cache of compiled code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheCommand {
    /// List the files.
    Ls {
        /// As JSON.
        json: bool,
    },
    /// Remove files, the longest unused first.
    Prune(Prune),
    /// Check owner, mode and checksum of the files.
    Verify {
        /// Remove the files that fail.
        remove: bool,
    },
}

/// The files to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// Size in MiB that the rest may have.
    pub size: Option<u32>,
    /// Remove what has not been used for so many days.
    pub unused_days: Option<u32>,
    /// Remove everything.
    pub all: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// A text that is made from these definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generated {
    /// Completions for a shell: `bash`, `fish` or `zsh`.
    Completions(String),
    /// Man pages, into this directory.
    Man(PathBuf),
}

/// Shells with completions.
pub const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

const SECONDS: &str = " (seconds)";
const MIB: &str = " (MiB)";
const DAYS: &str = " (days)";

/// The commands, with the flags of settings that they need. `root` has all flags of settings.
pub(super) fn all(root: &Command) -> Vec<Command> {
    let of = |flags: &[&str]| -> Vec<Arg> {
        let needed = |arg: &&Arg| arg.get_long().is_some_and(|long| flags.contains(&long));
        root.get_arguments().filter(needed).map(last).collect()
    };
    let node = of(&["config", "socket"]);
    let cache = of(&["config", "cache-dir", "cache-size"]);
    let serving_only =
        ["ready-fd", "listen-fd", "guard", "guard-fd", "print-config", "version", "help"];
    let host = root
        .get_arguments()
        .filter(|arg| arg.get_long().is_some_and(|long| !serving_only.contains(&long)));
    let host: Vec<Arg> = host.map(last).collect();
    vec![
        asking("status", "Show the daemons of the node", &node).arg(json()),
        asking("list", "List the sandboxes of all daemons of the node", &node).arg(json()),
        asking("top", "Show the containers by their CPU time, memory and requests", &node)
            .arg(seconds("interval", "Time between two looks", 1..=3600).default_value("2"))
            .arg(switch("batch", "Print the second look as text instead, without a terminal")),
        events(&node),
        inspect(&node),
        drain(&node),
        Command::new("reload")
            .about("Replace the daemon: new settings, a new version; sandboxes go on")
            .after_help("It needs a daemon with --guard, as the systemd unit starts it.")
            .args(&node),
        asking("health", "Succeed if the node can start containers; for probes", &node),
        Command::new("config")
            .about("Check the settings")
            .subcommand_required(true)
            .subcommand(config_check(&host)),
        Command::new("cache")
            .about("See and clean the cache of compiled code")
            .subcommand_required(true)
            .subcommand(Command::new("ls").about("List compiled code").arg(json()).args(&cache))
            .subcommand(prune(&cache))
            .subcommand(verify(&cache)),
        precompile(&host),
        Command::new("debug")
            .about("Collect facts for a report of a fault")
            .subcommand_required(true)
            .subcommand(bundle(&node)),
        Command::new("completions").about("Print the completions for a shell").arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(shell)
                .help("bash, fish or zsh"),
        ),
        Command::new("man").hide(true).about("Write the man pages").arg(
            Arg::new("directory")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("An existing directory"),
        ),
    ]
}

/// A flag of settings, in the help behind the flags of the command itself.
fn last(arg: &Arg) -> Arg {
    arg.clone().display_order(100)
}

fn asking(name: &'static str, about: &'static str, node: &[Arg]) -> Command {
    let patience = seconds("patience", "Time limit of each answer of a daemon", 1..=600);
    Command::new(name).about(about).arg(patience.default_value("5")).args(node)
}

fn events(node: &[Arg]) -> Command {
    let about = "Follow the events of all daemons of the node: creations, starts, exits, …";
    asking("events", about, node)
        .arg(json().help("Print JSON, an object per line"))
        .arg(switch("past", "Begin with the events that the daemons have kept"))
        .arg(seconds("for", "End after this time", 1..=86400))
}

fn inspect(node: &[Arg]) -> Command {
    asking("inspect", "Show everything about a container or a sandbox", node)
        .arg(Arg::new("id").value_name("ID").required(true).help("Its id, or the beginning of it"))
        .arg(text("namespace", "NAME", "containerd's namespace, if the id is ambiguous"))
        .arg(json())
}

fn drain(node: &[Arg]) -> Command {
    let limit = seconds("timeout", "Time limit of the wait; 0 does not wait", 0..=86400);
    asking("drain", "Take no new sandboxes, and wait until the present ones have ended", node)
        .after_help(
            "Guests get no signal. Without a time limit that suffices, it fails and says \
            what is left.",
        )
        .arg(limit.default_value("600"))
}

fn config_check(host: &[Arg]) -> Command {
    Command::new("check")
        .about("Check all settings as a start would, without a start")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(value_parser!(OsString))
                .help("The file to check instead of the usual one"),
        )
        .args(host)
}

fn prune(cache: &[Arg]) -> Command {
    Command::new("prune")
        .about("Remove compiled code, the longest unused first; guests that run are not disturbed")
        .arg(whole(
            "size",
            "MIB",
            "Size that the rest may have [default: that of the settings]",
            0..=1 << 20,
            MIB,
        ))
        .arg(whole(
            "unused-for",
            "DAYS",
            "Remove what has not been used for so long",
            0..=36500,
            DAYS,
        ))
        .arg(switch("all", "Remove everything"))
        .arg(switch("dry-run", "Only say what would be removed"))
        .args(cache)
}

fn verify(cache: &[Arg]) -> Command {
    Command::new("verify")
        .about("Check owner, mode and checksum of compiled code; fails if a file is not usable")
        .arg(switch("remove", "Remove the files that are not usable"))
        .args(cache)
}

fn precompile(host: &[Arg]) -> Command {
    Command::new("precompile")
        .about("Compile into the cache: wasm, or the wasm in an image")
        .arg(
            Arg::new("targets")
                .value_name("FILE|IMAGE")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .value_parser(value_parser!(OsString))
                .help("Wasm, the tar of an image, or an image of containerd"),
        )
        .arg(text("address", "PATH", "containerd's gRPC socket [CONTAINERD_ADDRESS]"))
        .arg(text(
            "namespace",
            "NAME",
            "containerd's namespace; Kubernetes' images are in k8s.io [CONTAINERD_NAMESPACE]",
        ))
        .args(host)
}

fn bundle(node: &[Arg]) -> Command {
    asking("bundle", "Write one tar for a report of a fault: versions, settings, lists, log", node)
        .after_help(
            "Values of environment variables, credentials, and arguments that look like \
            secrets are left out. Look into it before you send it.",
        )
        .arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .allow_hyphen_values(true)
                .help("The new file, or - for stdout [default: PROGRAM-debug-TIME.tar]"),
        )
        .arg(whole("log-lines", "N", "Lines of the log", 0..=1_000_000, "").default_value("2000"))
}

fn json() -> Arg {
    switch("json", "Print JSON")
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn text(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).allow_hyphen_values(true).help(help)
}

fn seconds(name: &'static str, help: &'static str, range: RangeInclusive<u32>) -> Arg {
    whole(name, "SECONDS", help, range, SECONDS)
}

fn whole(
    name: &'static str,
    value: &'static str,
    help: &'static str,
    range: RangeInclusive<u32>,
    unit: &'static str,
) -> Arg {
    let parse = move |word: &str| whole_number(word, range.clone(), unit);
    Arg::new(name)
        .long(name)
        .value_name(value)
        .allow_hyphen_values(true)
        .help(help)
        .value_parser(parse)
}

fn whole_number(word: &str, range: RangeInclusive<u32>, unit: &str) -> Result<u32, String> {
    let [least, most] = [range.start(), range.end()];
    let wrong = |_| format!("{word:?} is not a whole number between {least} and {most}{unit}");
    number(word.parse().map_err(wrong)?, range, unit)
}

fn shell(word: &str) -> Result<String, String> {
    let is_known = SHELLS.contains(&word);
    is_known
        .then(|| word.to_owned())
        .ok_or_else(|| format!("{word:?} is none of {}", SHELLS.join(", ")))
}

/// The request of a command to daemons, besides a `debug bundle`. No result for another command.
pub(super) fn ask_for(word: &str, matches: &ArgMatches) -> Option<AskFor> {
    let json = || matches.get_flag("json");
    Some(match word {
        "status" => AskFor::Status { json: json() },
        "list" => AskFor::List { json: json() },
        "top" => AskFor::Top {
            interval: time(matches, "interval").unwrap_or_default(),
            batch: matches.get_flag("batch"),
        },
        "events" => AskFor::Events {
            json: json(),
            past: matches.get_flag("past"),
            time: time(matches, "for"),
        },
        "inspect" => AskFor::Inspect {
            id: string(matches, "id").unwrap_or_default(),
            namespace: string(matches, "namespace"),
            json: json(),
        },
        "drain" => AskFor::Drain { limit: time(matches, "timeout").unwrap_or_default() },
        "reload" => AskFor::Reload,
        "health" => AskFor::Health,
        _ => return None,
    })
}

/// The request of `debug bundle`.
pub(super) fn debug_bundle(matches: &ArgMatches, settings: Result<String, String>) -> AskFor {
    AskFor::DebugBundle {
        output: matches.get_one("output").cloned(),
        log_lines: matches.get_one("log-lines").copied().unwrap_or_default(),
        settings,
    }
}

/// Time limit of each answer of a daemon.
pub(super) fn patience(matches: &ArgMatches) -> Duration {
    // Absent in `reload`, which has a limit of its own.
    let given = matches.try_get_one::<u32>("patience").ok().flatten();
    Duration::from_secs(given.copied().unwrap_or(5).into())
}

/// The command `cache`.
pub(super) fn cache_command(word: &str, matches: &ArgMatches) -> CacheCommand {
    match word {
        "ls" => CacheCommand::Ls { json: matches.get_flag("json") },
        "verify" => CacheCommand::Verify { remove: matches.get_flag("remove") },
        _ => CacheCommand::Prune(Prune {
            size: matches.get_one("size").copied(),
            unused_days: matches.get_one("unused-for").copied(),
            all: matches.get_flag("all"),
            dry_run: matches.get_flag("dry-run"),
        }),
    }
}

/// The files and images of `precompile`.
pub(super) fn targets(matches: &ArgMatches) -> Targets {
    Targets {
        names: matches.get_many("targets").into_iter().flatten().cloned().collect(),
        address: string(matches, "address"),
        namespace: string(matches, "namespace"),
    }
}

/// The text that a command makes of these definitions. No result for another command.
pub(super) fn generated(word: &str, matches: &ArgMatches) -> Option<Generated> {
    match word {
        "completions" => Some(Generated::Completions(string(matches, "shell").unwrap_or_default())),
        "man" => matches.get_one("directory").cloned().map(Generated::Man),
        _ => None,
    }
}

fn string(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one(name).cloned()
}

fn time(matches: &ArgMatches, name: &str) -> Option<Duration> {
    let seconds: Option<&u32> = matches.get_one(name);
    seconds.map(|seconds| Duration::from_secs((*seconds).into()))
}
