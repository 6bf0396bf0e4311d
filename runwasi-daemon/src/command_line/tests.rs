//! Words, commands and help. The tests of settings read by the same functions.

use std::{fs, os::fd::AsRawFd, os::unix::ffi::OsStringExt};

use tempfile::TempDir;

use super::{subcommands::Prune, *};
use crate::{
    config::{
        KEYS, Key,
        tests::{FILE, VARIABLES, WRONG},
    },
    identity::TEST,
};

pub(crate) const DEFAULT_SOCKET: &str = "/run/io.containerd.wasmtime.v1/manager.sock";

/// Reads a command line with these variables and this default file, which errors call FILE.
pub(crate) fn read(line: &str, variables: &str, file: &[u8]) -> Result<Command, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("default.toml");
    fs::write(&path, file).unwrap();
    let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
    read_with(&arguments, variables, &path)
}

pub(crate) fn read_with(
    arguments: &[OsString],
    variables: &str,
    file: &Path,
) -> Result<Command, String> {
    let variable = |name: &str| {
        let mut lines = variables.lines();
        let line = lines.find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        line.map(OsString::from)
    };
    let command = super::read(&TEST, arguments, &variable, file, &engine);
    command.map_err(|error| error.to_string().replace(&file.display().to_string(), "FILE"))
}

/// An engine whose only key is `engine.fast`.
fn engine(settings: &Settings) -> Result<String, SettingsError> {
    let unknown = settings.engine.entries.iter().find(|entry| entry.key != "engine.fast");
    let table = || Ok(format!("[engine]\n# room = {}\nfast = true\n", settings.slots_in_force()));
    unknown.map_or_else(table, |entry| Err(entry.unknown("engine.fast")))
}

pub(crate) fn settings(line: &str, variables: &str, file: &str) -> Settings {
    match read(line, variables, file.as_bytes()) {
        Ok(Command::Serve(settings, _)) => settings,
        other => panic!("{line} {variables} {file}: {other:?}"),
    }
}

/// Checks rows `SOURCE => ERROR`: ⏎ is the end of a line of a source, … any text of an error.
pub(crate) fn check_refusals(rows: &str, read: impl Fn(&str) -> Result<Command, String>) {
    for row in rows.lines() {
        let (source, error) = row.split_once(" => ").unwrap();
        let refusal = read(&source.replace('⏎', "\n")).expect_err(source);
        let (start, end) = error.split_once('…').unwrap_or((error, error));
        let fits = refusal.starts_with(start) && refusal.ends_with(end);
        assert!(fits && refusal.lines().count() == 1, "{row}: {refusal}");
    }
}

#[test]
fn wrong_command_lines_are_refused() {
    let rows = r#"--grace => --grace: needs a value
--grace=1 --grace=1 => --grace: is given twice
--guard --guard => --guard: is given twice
--guard=yes => unexpected argument for option '--guard': "yes"
--frobnicate=1 => --frobnicate: unknown; --help shows what there is
-x => -x: unknown; --help shows what there is
serve => "serve": unknown; did you mean events? --help shows what there is
list list => "list": unknown; --help shows what there is
list reload => "reload": unknown; --help shows what there is
list precompile => "precompile": unknown; --help shows what there is
list --grace 3 => --grace: is not for `list`
reload --guard => --guard: is not for `reload`
--print-config list => --print-config: is not for `list`
precompile => <FILE|IMAGE>...: is missing; --help shows what there is
inspect => <ID>: is missing; --help shows what there is
--namespace k8s.io => --namespace: unknown; --help shows what there is
list --address=/a => --address: unknown; --help shows what there is
stats => "stats": unknown; did you mean status? --help shows what there is
--sokcet=/a => --sokcet: unknown; did you mean --socket? --help shows what there is
events --jsn => --jsn: unknown; did you mean --json? --help shows what there is
cache => cache: needs one of ls, prune, verify
cache verfy => "verfy": unknown; did you mean verify? --help shows what there is
debug => debug: needs one of bundle
events --for 0 => --for: 0 is not between 1 and 86400 (seconds)
list --patience x => --patience: "x" is not a whole number between 1 and 600 (seconds)
cache prune --size -1 => --size: -1 is not between 0 and 1048576 (MiB)
completions nosuch => <SHELL>: "nosuch" is none of bash, fish, zsh
cache ls --grace 3 => --grace: is not for `cache`
--grace 3 cache ls => --grace: is not for `cache ls`
list --socket /a/s --socket /b/s => --socket: is given twice
--socket /a/s list --socket /b/s => --socket: is given twice
config check /absent/x => /absent/x: No such file or directory (os error 2) (named by the argument FILE)
config check /dev/zero --config x => /dev/zero: not a regular file (named by the argument FILE)
config check --config /absent/x => /absent/x: No such file or directory (os error 2) (named by --config)
precompile a.wasm --guard => --guard: is not for `precompile`
--guard-fd 2 => --guard-fd: 2 is a standard stream; 3 or more is needed
--ready-fd 1000000 => --ready-fd: 1000000 is not open
--ready-fd -1 => --ready-fd: -1 is not between 0 and…
--ready-fd 2147483648 => --ready-fd: 2147483648 is not between 0 and…
--config /absent/x => /absent/x: No such file or directory (os error 2) (named by --config)
--config /dev/zero => /dev/zero: not a regular file (named by --config)"#;
    check_refusals(rows, |line| read(line, "", b""));
    let arguments = ["--cache-dir".into(), OsString::from_vec(b"/\xff".to_vec())];
    let error = read_with(&arguments, "", Path::new("/absent")).unwrap_err();
    assert_eq!(error, r#"--cache-dir: "/\xFF" is not UTF-8"#);
    let fd = fs::File::open("/dev/null").unwrap();
    let line = format!("--guard --guard-fd {}", fd.as_raw_fd());
    assert_eq!(read(&line, "", b""), Err("--guard-fd: is not for a guard".to_owned()));
}

#[test]
fn only_flags_with_a_value_take_one_that_begins_with_a_hyphen() {
    let mut command = definitions(&TEST);
    // Adds the flags of clap itself.
    command.build();
    for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
        let takes_value = arg.get_action().takes_values();
        assert_eq!(arg.is_allow_hyphen_values_set(), takes_value, "{}", arg.get_id());
    }
}

#[test]
fn a_named_file_replaces_the_default_one() {
    let directory = TempDir::new().unwrap();
    let [first, second] = ["first", "--guard"].map(|name| directory.path().join(name));
    fs::write(&first, "grace = 10").unwrap();
    fs::write(&second, "grace = 20").unwrap();
    let variable = format!("CONTAINERD_WASMTIMED_CONFIG={}", first.display());
    let named = settings("", &variable, "slots = 5");
    assert_eq!((named.grace, named.slots), (10, None));
    let fd = fs::File::open("/dev/null").unwrap();
    let fd = fd.as_raw_fd();
    let file = second.to_str().unwrap();
    let line = format!("--guard --grace=5 --ready-fd {fd} --config {file} --bundle-root=/a");
    let Ok(Command::Serve(read, start)) = read(&line, &variable, b"slots = 5") else { panic!() };
    assert_eq!((start.guard, start.ready_fd, read.grace), (true, Some(fd), 5));
    assert_eq!(start.of_hosts, ["--grace", "5", "--config", file, "--bundle-root", "/a"]);
    assert!(read_with(&[], "", Path::new("/absent/x")).is_ok());
}

#[test]
fn commands_have_their_settings() {
    let inspect = "inspect x --namespace n --json --patience 2 --socket /s/s";
    let inspected = r#"/s/s 2s Inspect { id: "x", namespace: Some("n"), json: true }"#;
    let events = "DEFAULT 5s Events { json: false, past: true, time: Some(3s) }";
    for (line, variables, file, wanted) in [
        ("list", "", "", "DEFAULT 5s List { json: false }"),
        ("list", VARIABLES, FILE, "/variable/s 5s List { json: false }"),
        ("list --socket /flag/s", VARIABLES, "damaged", "/flag/s 5s List { json: false }"),
        ("--socket /flag/s list", VARIABLES, "damaged", "/flag/s 5s List { json: false }"),
        // A wrong setting, or a file that is not needed, hides no daemon.
        ("list", "", WRONG, "/file/s 5s List { json: false }"),
        ("health", "CONTAINERD_WASMTIMED_GRACE=x", "", "DEFAULT 5s Health"),
        ("health", "CONTAINERD_WASMTIMED_SOCKET=/variable/s", "damaged", "/variable/s 5s Health"),
        ("reload", "", FILE, "/file/s 5s Reload"),
        (inspect, "", "", inspected),
        ("events --past --for 3", "", "", events),
        ("drain", "", "", "DEFAULT 5s Drain { limit: 600s }"),
    ] {
        let command = read(line, variables, file.as_bytes());
        let Ok(Command::Ask(ask)) = command else { panic!("{line}: {command:?}") };
        let shown = format!("{} {:?} {:?}", ask.socket.display(), ask.patience, ask.request);
        assert_eq!(shown.replace(DEFAULT_SOCKET, "DEFAULT"), wanted, "{line}");
    }
    for (line, file) in [("list", "damaged"), ("list", "socket = 3"), ("reload", WRONG)] {
        assert!(read(line, "", file.as_bytes()).is_err(), "{line} with {file}");
    }
    let line = "--cache-dir=/c precompile list --cache-size=2 --namespace n precompile";
    let Ok(Command::Precompile(settings, targets)) = read(line, "", b"") else { panic!("{line}") };
    assert_eq!(targets.names, ["list", "precompile"]);
    assert_eq!((targets.namespace.as_deref(), targets.address), (Some("n"), None));
    assert_eq!((settings.cache(), settings.cache_size), (Some(Path::new("/c")), 2));
    let line = "cache prune --cache-dir=/c --size 5 --dry-run";
    let Ok(Command::Cache(settings, command)) = read(line, VARIABLES, b"") else {
        panic!("{line}")
    };
    let prune = Prune { size: Some(5), unused_days: None, all: false, dry_run: true };
    assert_eq!(command, CacheCommand::Prune(prune));
    assert_eq!((settings.cache(), settings.cache_size), (Some(Path::new("/c")), 2));
    let completions = Command::Generate(Generated::Completions { shell: "zsh".into() });
    assert_eq!(read("completions zsh", "CONTAINERD_WASMTIMED_GRACE=x", b""), Ok(completions));
    let Ok(Command::Checked(text)) = read("config check", "", b"grace = 3") else { panic!() };
    assert!(text.ends_with("/default.toml: valid\n"), "{text}");
    assert!(read("config check", "", b"grace = -3").is_err());
}

#[test]
fn debug_bundle_is_made_with_wrong_settings_too() {
    let variable = "CONTAINERD_WASMTIMED_SOCKET=/variable/s";
    for (variables, file, socket, part) in [
        ("", FILE, "/file/s", "grace = 1"),
        ("", WRONG, "/file/s", ":3: "),
        (variable, "damaged", "/variable/s", ":1"),
    ] {
        let command = read("debug bundle -o /x", variables, file.as_bytes());
        let Ok(Command::Ask(ask)) = command else { panic!("{command:?}") };
        assert_eq!(ask.socket, Path::new(socket));
        let AskFor::DebugBundle { output, log_lines: 2000, settings } = ask.request else {
            panic!("{:?}", ask.request)
        };
        assert_eq!(output.as_deref(), Some(Path::new("/x")));
        assert_eq!(settings.is_ok(), file == FILE);
        assert!(settings.unwrap_or_else(|error| error).contains(part));
    }
}

#[test]
fn help_shows_keys_variables_and_commands() {
    let wrong = "CONTAINERD_WASMTIMED_GRACE=x";
    assert_eq!(read("-v", wrong, b"damaged"), Ok(Command::Version));
    let Ok(Command::Help(help)) = read("cache prune --help", "", b"") else { panic!("help") };
    assert!(
        help.contains("containerd-wasmtimed cache prune") && help.contains("--dry-run"),
        "{help}"
    );
    let Ok(Command::Help(help)) = read("--guard --help", wrong, b"damaged") else { panic!("help") };
    for Key { name, flag, .. } in &*KEYS {
        let names = format!(" [{name}, {}]", TEST.variable(name));
        assert!(help.contains(&format!("{flag} <")) && help.contains(&names), "{help}");
    }
    let default = "--cache-size <MIB>\n          Size of compiled code, 1 to 1048576; the longest \
        unused goes first [cache-size, CONTAINERD_WASMTIMED_CACHE_SIZE] [default: 1024]\n";
    assert!(help.contains(default), "{help}");
}

#[test]
fn another_daemon_has_its_own_names() {
    let other = Identity {
        program: "noded",
        runtime: "io.containerd.noded.v1",
        state_directory: "/run/noded",
        config_file: "/absent/noded.toml",
        environment_prefix: "NODED",
        ..TEST
    };
    let variables = |name: &str| match name {
        "NODED_GRACE" => Some("7".into()),
        "CONTAINERD_WASMTIMED_SOCKET" => Some("/wasmtimed/s".into()),
        _ => None,
    };
    let file = Path::new(other.config_file);
    let command = super::read(&other, &[], &variables, file, &engine).unwrap();
    let Command::Serve(settings, _) = command else { panic!("{command:?}") };
    assert_eq!((settings.grace, settings.socket.to_str()), (7, Some("/run/noded/manager.sock")));
    assert_eq!(client_socket(&other, &variables).unwrap(), Path::new("/run/noded/manager.sock"));
    let empty = |name: &str| (name != "NODED_CONFIG").then(OsString::new);
    let error = super::read(&other, &[], &empty, file, &engine).unwrap_err();
    assert!(error.to_string().starts_with("NODED_SOCKET: "), "{error}");
    let help = super::read(&other, &["--help".into()], &variables, file, &engine).unwrap();
    let Command::Help(help) = help else { panic!("{help:?}") };
    for name in ["noded [", "NODED_CONFIG", "/absent/noded.toml", "/run/noded/manager.sock"] {
        assert!(help.contains(name), "{name}: {help}");
    }
    assert!(!help.to_lowercase().contains("wasmtimed"), "{help}");
}
