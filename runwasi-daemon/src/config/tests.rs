//! The sources, alone and together: errors, precedence, and printed settings that read back.

use std::{fs, os::fd::AsRawFd, os::unix::ffi::OsStringExt};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;
use crate::{identity::TEST, subcommands::Prune};

const DEFAULT_SOCKET: &str = "/run/io.containerd.wasmtime.v1/manager.sock";

/// Reads a command line with these variables and this default file, which errors call FILE.
fn read(line: &str, variables: &str, file: &[u8]) -> Result<Command, String> {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("default.toml");
    fs::write(&path, file).unwrap();
    let arguments: Vec<_> = line.split_whitespace().map(OsString::from).collect();
    read_with(&arguments, variables, &path)
}

fn read_with(arguments: &[OsString], variables: &str, file: &Path) -> Result<Command, String> {
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

fn settings(line: &str, variables: &str, file: &str) -> Settings {
    match read(line, variables, file.as_bytes()) {
        Ok(Command::Serve(settings, _)) => settings,
        other => panic!("{line} {variables} {file}: {other:?}"),
    }
}

fn toml(line: &str, variables: &str, file: &str) -> String {
    settings(line, variables, file).to_toml().unwrap()
}

/// Checks rows `SOURCE => ERROR`: ⏎ is the end of a line of a source, … any text of an error.
fn check_refusals(rows: &str, read: impl Fn(&str) -> Result<Command, String>) {
    for row in rows.lines() {
        let (source, error) = row.split_once(" => ").unwrap();
        let refusal = read(&source.replace('⏎', "\n")).expect_err(source);
        let (start, end) = error.split_once('…').unwrap_or((error, error));
        let fits = refusal.starts_with(start) && refusal.ends_with(end);
        assert!(fits && refusal.lines().count() == 1, "{row}: {refusal}");
    }
}

const FILE: &str = "socket = '/file/s'\nbundle-roots = ['/file']\ngrace = 1\nslots = 1
cache = '/file'\ncache-size = 1\nnative-runtime = '/file/n'\nlog-level = 'error'\n\
log-format = 'json'\nmetrics-address = '127.0.0.1:1'\nmetrics-beyond-loopback = false\n";
/// Settings with which no daemon starts.
const WRONG: &str = "socket = '/file/s'\ngrace = -1\nno-such-key = 1\n";
const VARIABLES: &str = "CONTAINERD_WASMTIMED_SOCKET=/variable/s
CONTAINERD_WASMTIMED_BUNDLE_ROOTS=/variable:/two
CONTAINERD_WASMTIMED_GRACE=2
CONTAINERD_WASMTIMED_SLOTS=2
CONTAINERD_WASMTIMED_CACHE=off
CONTAINERD_WASMTIMED_CACHE_SIZE=2
CONTAINERD_WASMTIMED_NATIVE_RUNTIME=off
CONTAINERD_WASMTIMED_LOG_LEVEL=warn
CONTAINERD_WASMTIMED_LOG_FORMAT=text
CONTAINERD_WASMTIMED_METRICS_ADDRESS=[::1]:2
CONTAINERD_WASMTIMED_METRICS_BEYOND_LOOPBACK=true";
const FLAGS: &str = "--socket=/flag/s --bundle-root=//flag/./ --grace 3 --slots=3
--cache-dir /flag --cache-size=3 --native-runtime=flag --log-level=debug
--log-format=json --metrics-address=/flag/m --metrics-beyond-loopback true";

#[test]
fn wrong_command_lines_are_refused() {
    let rows = r#"--grace 99999 => --grace: 99999 is not between 0 and 3600 (seconds)
--grace -1 => --grace: -1 is not between 0 and 3600 (seconds)
--slots 0x10 => --slots: "0x10" is not a whole number between 1 and 100000
--slots 18446744073709551617 => --slots: 18446744073709551617 is not between 1 and 100000
--grace => --grace: needs a value
--grace=1 --grace=1 => --grace: is given twice
--guard --guard => --guard: is given twice
--guard=yes => unexpected argument for option '--guard': "yes"
--bundle-root= => --bundle-root: is empty
--bundle-root=/a --bundle-root=b => --bundle-root: "b" is not an absolute path
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
--socket /run/x/ => --socket: "/run/x/" names a directory, not a socket
--socket / => --socket: "/" names a directory, not a socket
--socket /manager.sock => --socket: "/manager.sock" is in the root directory; its directory…
--socket /run/daemons => --socket: "/run/daemons" has the name of one of the daemon's directories
--metrics-address 127.0.0.1 => --metrics-address: "127.0.0.1" is no IP address with a port, …
--metrics-address localhost:9 => --metrics-address: "localhost:9" is no IP address with a port, …
--metrics-address 127.0.0.1:0 => --metrics-address: "127.0.0.1:0" has no port
--metrics-address /run/m/ => --metrics-address: "/run/m/" names a directory, not a socket
--metrics-address 0.0.0.0:9 => --metrics-address: 0.0.0.0:9 may be reached by other machines, …
--metrics-address [::]:9 => --metrics-address: [::]:9 may be reached by other machines, …
--metrics-address /a/s --socket /a/s => --metrics-address: "/a/s" is the manager socket
--metrics-beyond-loopback yes => --metrics-beyond-loopback: "yes" is neither true nor false
--metrics-beyond-loopback => --metrics-beyond-loopback: needs a value
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
    let mut command = arguments::command(&TEST);
    // Adds the flags of clap itself.
    command.build();
    for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
        let takes_value = arg.get_action().takes_values();
        assert_eq!(arg.is_allow_hyphen_values_set(), takes_value, "{}", arg.get_id());
    }
}

#[test]
fn wrong_variables_are_refused_even_if_a_flag_wins() {
    let rows = r#"SOCKET= => SOCKET: is empty
BUNDLE_ROOTS=/run: => BUNDLE_ROOTS: is empty
BUNDLE_ROOTS=/run:x => BUNDLE_ROOTS: "x" is not an absolute path
GRACE=x => GRACE: "x" is not a whole number between 0 and 3600 (seconds)
SLOTS= => SLOTS: "" is not a whole number between 1 and 100000
CACHE=Off => CACHE: "Off" is not an absolute path; "off" is for no directory
CACHE_SIZE=0 => CACHE_SIZE: 0 is not between 1 and 1048576 (MiB)
METRICS_ADDRESS=x => METRICS_ADDRESS: "x" is no IP address with a port, …
LOG_LEVEL=INFO => LOG_LEVEL: "INFO" is none of error, warn, info, debug, trace
LOG_FORMAT=xml => LOG_FORMAT: "xml" is neither text nor json
CONFIG= => CONFIG: is empty"#;
    let prefix = "CONTAINERD_WASMTIMED_";
    check_refusals(rows, |variable| {
        let refused = read(FLAGS, &format!("{prefix}{variable}"), b"");
        refused.map_err(|error| error.strip_prefix(prefix).expect("the variable").to_owned())
    });
}

#[test]
fn wrong_files_are_refused_with_their_line_even_if_a_flag_wins() {
    let rows = r#"⏎⏎grace = 99999 => FILE:3: grace: 99999 is not between 0 and 3600 (seconds)
slots = 0 => FILE:1: slots: 0 is not between 1 and 100000
slots = 1000000000000000000000 => FILE:1: slots: 1000000000000000000000 is beyond 64 bits
cache-size = -10000000000000000000 => FILE:1: cache-size: -10000000000000000000 is beyond 64 bits
# é⏎socket = 'x' => FILE:2: socket: "x" is not an absolute path
cache = "/a\u0000" => FILE:1: cache: "/a\0" contains a NUL byte; "off" is for no directory
bundle-roots = ['/run/../x'] => FILE:1: bundle-roots: "/run/../x" contains "..", and what is…
log-level = 'loud' => FILE:1: log-level: "loud" is none of error, warn, info, debug, trace
bundle-roots = [] => FILE:1: bundle-roots: is empty; at least one directory is needed
bundle-roots = [⏎'/a',⏎'b'] => FILE:3: bundle-roots: "b" is not an absolute path
grace = '30' => FILE:1: grace: is a string, not an integer
grace = 1.5 => FILE:1: grace: is a float, not an integer
slots = true => FILE:1: slots: is a boolean, not an integer
cache = false => FILE:1: cache: is a boolean, not a string
metrics-beyond-loopback = 'true' => FILE:1: metrics-beyond-loopback: is a string, not a boolean
log-level = 1979-05-27 => FILE:1: log-level: is a date or time, not a string
bundle-roots = '/run' => FILE:1: bundle-roots: is a string, not an array of strings
bundle-roots = [⏎'/run',⏎3] => FILE:3: bundle-roots: an element is an integer, not a string
grace = 1⏎⏎[socket]⏎path = '/x' => FILE:3: socket: is a table, not a string
grace = 1⏎socket.path = '/x' => FILE:2: socket: is a table, not a string
⏎[[socket]] => FILE:2: socket: is an array, not a string
⏎[daemon]⏎grace = 1 => FILE:2: unknown key "daemon", expected one of socket, bundle-roots, grace,…
gracee = 5 => FILE:1: unknown key "gracee", …cache, cache-size, native-runtime, log-level, log-format, metrics-address, metrics-beyond-loopback, and the table engine
"\u001b[2J" = 1 => FILE:1: unknown key "\u{1b}[2J", …
ready-fd = 3 => FILE:1: unknown key "ready-fd", …
engine = true => FILE:1: unknown key "engine", …
[engine]⏎quick = true => FILE:2: unknown key "engine.quick", expected one of engine.fast
slots = 0⏎grace = -1 => FILE:1: slots: …
grace = -1⏎slots = 0 => FILE:1: grace: …
zebra = 0⏎grace = -1 => FILE:1: unknown key …
grace = 1⏎grace = 2 => FILE:2: …
slots =⏎ => FILE:1: …
⏎⏎grace: 30 => FILE:3: …
cache = '/x => FILE:1: …
⏎[x => FILE:2: …"#;
    check_refusals(rows, |file| read(FLAGS, VARIABLES, file.as_bytes()));
    let deep = format!("cache = {} => FILE:1: …", "[".repeat(100_000));
    let dotted = format!("cache{} = 1 => FILE:1: …", ".x".repeat(500_000));
    check_refusals(&format!("{deep}\n{dotted}"), |file| read("", "", file.as_bytes()));
    let error = read("", "", b"grace = 1\ncache = '/\xff'").unwrap_err();
    assert_eq!(error, "FILE:2: is not UTF-8");
    assert!(read("", "", &[b'#'; 1 << 20]).is_ok());
    let error = read("", "", &[b'#'; (1 << 20) + 1]).unwrap_err();
    assert_eq!(error, "FILE: larger than 1048576 bytes");
    let directory = TempDir::new().unwrap();
    let fifo = directory.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let error = read_with(&[], "", &fifo).unwrap_err();
    assert_eq!(error, "FILE: not a regular file (named by default)");
}

#[test]
fn metrics_address_that_does_not_fit_the_other_settings_is_refused_with_its_place() {
    let socket = "CONTAINERD_WASMTIMED_SOCKET=/variable/s";
    let address = "CONTAINERD_WASMTIMED_METRICS_ADDRESS=/variable/s";
    let rows = r#" ¦ - => FILE:2: metrics-address: 0.0.0.0:9 may be reached by other machines, …
config check ¦ - => FILE:2: metrics-address: 0.0.0.0:9 may be reached by other machines, …
 ¦ ADDRESS => CONTAINERD_WASMTIMED_METRICS_ADDRESS: "/variable/s" is the manager socket
--metrics-address=[::]:9 ¦ ADDRESS => --metrics-address: [::]:9 may be reached by other machines, …
config check --metrics-address=[::]:9 ¦ - => --metrics-address: [::]:9 may be reached by…"#;
    let file = b"\nmetrics-address = '0.0.0.0:9'";
    check_refusals(rows, |source| {
        let (line, variable) = source.split_once(" ¦ ").unwrap();
        read(line, &format!("{socket}\n{}", variable.replace("ADDRESS", address)), file)
    });
    assert!(read("--metrics-address=off", socket, file).is_ok());
}

#[test]
fn sockets_have_short_paths_and_clients_read_the_variable_only() {
    let named = |name: &str, bytes: usize| format!("/{}{name}", "d".repeat(bytes - 1 - name.len()));
    assert!(super::socket::socket(&named("/a-name-as-long-as-the-private-one", 106)).is_ok());
    let error =
        super::socket::socket(&named("/a-name-as-long-as-the-private-one", 107)).unwrap_err();
    assert!(error.contains("with 107 bytes, at most 106 are possible"), "{error}");
    assert!(super::socket::socket(&named("/s", 87)).is_ok());
    let error = super::socket::socket(&named("/s", 88)).unwrap_err();
    assert!(error.contains("/daemons/4194304.sock\" with 107 bytes"), "{error}");
    let socket = |value: Option<&str>| client_socket(&TEST, &|_| value.map(OsString::from));
    assert_eq!(socket(None).unwrap(), Path::new(DEFAULT_SOCKET));
    assert_eq!(socket(Some("/x/s")).unwrap(), Path::new("/x/s"));
    let error = socket(Some("x")).unwrap_err().to_string();
    assert_eq!(error, "CONTAINERD_WASMTIMED_SOCKET: \"x\" is not an absolute path");
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let of_variables = "socket = '/variable/s'\nbundle-roots = ['/variable', '/two']\n\
        grace = 2\nslots = 2\ncache = 'off'\ncache-size = 2\nnative-runtime = 'off'\n\
        log-level = 'warn'\nlog-format = 'text'\nmetrics-address = '[::1]:2'\n\
        metrics-beyond-loopback = true\n";
    let of_flags = "socket = '/flag/s'\nbundle-roots = ['/flag']\ngrace = 3\nslots = 3\n\
        cache = '/flag'\ncache-size = 3\nnative-runtime = 'flag'\nlog-level = 'debug'\n\
        log-format = 'json'\nmetrics-address = '/flag/m'\nmetrics-beyond-loopback = true\n";
    for (line, variables, wanted) in
        [("", "", FILE), ("", VARIABLES, of_variables), (FLAGS, VARIABLES, of_flags)]
    {
        let printed = toml(line, variables, FILE);
        assert!(["# seconds\n", "# MiB\n"].iter().all(|unit| printed.matches(unit).count() == 1));
        let parse = |text: &str| text.parse::<toml::Table>().unwrap();
        // As a text, which has the order, too.
        assert_eq!(parse(&printed).to_string(), parse(wanted).to_string());
    }
    let mixed = settings("--grace=0", "CONTAINERD_WASMTIMED_SLOTS=100000", "cache-size = 0x10");
    assert_eq!((mixed.grace, mixed.slots, mixed.cache_size), (0, Some(100_000), 16));
    let default = settings("", "", "\u{feff}# nothing\r\n");
    assert_eq!((default.socket.as_path(), default.slots), (Path::new(DEFAULT_SOCKET), None));
    assert_eq!(settings("--bundle-root=/ --bundle-root=/b", "", "").bundle_roots.len(), 2);
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
fn printed_config_shows_the_values_in_force_and_reads_back() {
    let odd = "cache = \"/a \\\"b\\\" \\\\c #\\n\\u001b\\u007f\\u0085\\u2028 \\U0001F980 'é'\"\n\
        bundle-roots = ['/\"', '/a:b', '/']\n[engine]\nfast = true";
    for (line, variables, file) in [
        ("", "", ""),
        ("", VARIABLES, FILE),
        (FLAGS, VARIABLES, FILE),
        ("--log-level=trace --grace=0", "", odd),
        ("--log-level=info --slots=100000", "", "grace = 3600"),
    ] {
        let wanted = settings(line, variables, file);
        let line = format!("{line} --print-config");
        let Ok(Command::PrintConfig(printed)) = read(&line, variables, file.as_bytes()) else {
            panic!("{line} does not print");
        };
        let in_force = wanted.slots_in_force();
        let slots = match wanted.slots {
            Some(slots) => format!("\nslots = {slots}\n"),
            None => format!("\n# slots = {in_force} # by RLIMIT_NOFILE and vm.max_map_count\n"),
        };
        assert!(printed.contains(&slots), "{printed}");
        assert!(printed.contains(&format!("# room = {in_force}\n")), "{printed}");
        assert_eq!(toml("", "", &printed), wanted.to_toml().unwrap());
        let twice = read("--print-config", "", printed.as_bytes());
        assert_eq!(twice, Ok(Command::PrintConfig(printed)));
    }
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
