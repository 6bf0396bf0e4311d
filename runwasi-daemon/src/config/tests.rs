//! The sources, alone and together: errors, precedence, and printed settings that read back.

use std::{ffi::OsString, path::Path};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::client_socket;
use crate::{
    command_line::{
        Command,
        tests::{DEFAULT_SOCKET, check_refusals, read, read_with, settings},
    },
    identity::TEST,
};

pub(crate) const FILE: &str = "socket = '/file/s'\nbundle-roots = ['/file']\ngrace = 1\nslots = 1
cache = '/file'\ncache-size = 1\nnative-runtime = '/file/n'\nlog-level = 'error'\n\
log-format = 'json'\nmetrics-address = '127.0.0.1:1'\nmetrics-beyond-loopback = false\n";
/// Settings with which no daemon starts.
pub(crate) const WRONG: &str = "socket = '/file/s'\ngrace = -1\nno-such-key = 1\n";
pub(crate) const VARIABLES: &str = "CONTAINERD_WASMTIMED_SOCKET=/variable/s
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

fn toml(line: &str, variables: &str, file: &str) -> String {
    settings(line, variables, file).to_toml().unwrap()
}

#[test]
fn wrong_flags_are_refused() {
    let rows = r#"--grace 99999 => --grace: 99999 is not between 0 and 3600 (seconds)
--grace -1 => --grace: -1 is not between 0 and 3600 (seconds)
--slots 0x10 => --slots: "0x10" is not a whole number between 1 and 100000
--slots 18446744073709551617 => --slots: 18446744073709551617 is not between 1 and 100000
--bundle-root= => --bundle-root: is empty
--bundle-root=/a --bundle-root=b => --bundle-root: "b" is not an absolute path
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
--metrics-beyond-loopback => --metrics-beyond-loopback: needs a value"#;
    check_refusals(rows, |line| read(line, "", b""));
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
    assert!(super::settings::socket(&named("/a-name-as-long-as-the-private-one", 106)).is_ok());
    let error =
        super::settings::socket(&named("/a-name-as-long-as-the-private-one", 107)).unwrap_err();
    assert!(error.contains("with 107 bytes, at most 106 are possible"), "{error}");
    assert!(super::settings::socket(&named("/s", 87)).is_ok());
    let error = super::settings::socket(&named("/s", 88)).unwrap_err();
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
