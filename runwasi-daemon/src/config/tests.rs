//! The sources together: which one wins, what each command reads, and that printed settings read back.

use std::{fs, time::Duration};

use tempfile::TempDir;
use tracing::level_filters::LevelFilter;

use super::*;
use crate::identity::TEST;

const CONFIG_VARIABLE: &str = "CONTAINERD_WASMTIMED_CONFIG";
const SOCKET_VARIABLE: &str = "CONTAINERD_WASMTIMED_SOCKET";
const BUNDLE_ROOTS_VARIABLE: &str = "CONTAINERD_WASMTIMED_BUNDLE_ROOTS";
const GRACE_VARIABLE: &str = "CONTAINERD_WASMTIMED_GRACE";
const SLOTS_VARIABLE: &str = "CONTAINERD_WASMTIMED_SLOTS";
const CACHE_VARIABLE: &str = "CONTAINERD_WASMTIMED_CACHE";
const CACHE_SIZE_VARIABLE: &str = "CONTAINERD_WASMTIMED_CACHE_SIZE";
const LOG_LEVEL_VARIABLE: &str = "CONTAINERD_WASMTIMED_LOG_LEVEL";
const DEFAULT_SOCKET: &str = "/run/io.containerd.wasmtime.v1/manager.sock";

/// What the three sources say, for one call of [`read_from`].
struct Sources<'a> {
    arguments: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
}

impl Sources<'_> {
    fn read(&self) -> Result<Command, String> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("default.toml");
        if let Some(text) = self.file {
            fs::write(&path, text).unwrap();
        }
        let variable = |name: &str| {
            let found = self.variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let arguments = self.arguments.iter().map(OsString::from).collect();
        let command = read_from(&TEST, arguments, &variable, &path, &engine);
        command.map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    fn settings(&self) -> Settings {
        match self.read().unwrap() {
            Command::Serve(settings) => settings,
            other => panic!("{other:?}"),
        }
    }
}

/// An engine whose only key is `engine.fast`.
fn engine(written: &RawSettings) -> Result<String, SettingsError> {
    let unknown = written.entries().iter().find(|entry| entry.key != "engine.fast");
    unknown.map_or(Ok("[engine]\nfast = true\n".to_owned()), |entry| {
        Err(written.unknown(entry, "engine.fast"))
    })
}

const FILE: &str = "socket = '/file/s'\nbundle-roots = ['/file']\ngrace = 1\nslots = 1\ncache = '/file'\n\
    cache-size = 1\nlog-level = 'error'\n";
const VARIABLES: [(&str, &str); 7] = [
    (SOCKET_VARIABLE, "/variable/s"),
    (BUNDLE_ROOTS_VARIABLE, "/variable:/two"),
    (GRACE_VARIABLE, "2"),
    (SLOTS_VARIABLE, "2"),
    (CACHE_VARIABLE, "off"),
    (CACHE_SIZE_VARIABLE, "2"),
    (LOG_LEVEL_VARIABLE, "warn"),
];
const ARGUMENTS: [&str; 7] = [
    "--socket=/flag/s",
    "--bundle-root=/flag",
    "--grace=3",
    "--slots=3",
    "--cache-dir=/flag",
    "--cache-size=3",
    "--log-level=debug",
];

fn settings(
    socket: &str,
    roots: &[&str],
    number: u32,
    cache: Option<&str>,
    log_level: LevelFilter,
) -> Settings {
    Settings {
        socket: socket.into(),
        bundle_roots: roots.iter().map(PathBuf::from).collect(),
        grace: Duration::from_secs(number.into()),
        slots: Some(number),
        cache: cache.map(PathBuf::from),
        cache_size: number,
        log_level,
        ..Settings::defaults(&TEST)
    }
}

#[test]
fn without_sources_the_defaults_hold() {
    let sources = Sources { arguments: &[], variables: &[], file: None };
    assert_eq!(sources.settings(), Settings::defaults(&TEST));
    assert_eq!(sources.settings().grace, Duration::from_secs(30));
    assert_eq!(sources.settings().slots, None);
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let mut sources = Sources { arguments: &[], variables: &[], file: Some(FILE) };
    let file = settings("/file/s", &["/file"], 1, Some("/file"), LevelFilter::ERROR);
    assert_eq!(sources.settings(), file);
    sources.variables = &VARIABLES;
    let variables = settings("/variable/s", &["/variable", "/two"], 2, None, LevelFilter::WARN);
    assert_eq!(sources.settings(), variables);
    sources.arguments = &ARGUMENTS;
    let flags = settings("/flag/s", &["/flag"], 3, Some("/flag"), LevelFilter::DEBUG);
    assert_eq!(sources.settings(), flags);
}

#[test]
fn sources_complete_each_other() {
    let sources = Sources {
        arguments: &["--grace=3", "--guard"],
        variables: &[(SLOTS_VARIABLE, "2")],
        file: Some("cache = '/file'"),
    };
    let expected = Settings {
        grace: Duration::from_secs(3),
        slots: Some(2),
        cache: Some("/file".into()),
        guard: Some(["--grace", "3"].map(OsString::from).into()),
        ..Settings::defaults(&TEST)
    };
    assert_eq!(sources.settings(), expected);
}

#[test]
fn what_is_overridden_must_be_right_too() {
    let file =
        Sources { arguments: &ARGUMENTS, variables: &VARIABLES, file: Some("\ngrace = 'x'") };
    assert_eq!(file.read(), Err("FILE:2: grace: is a string, not an integer".to_owned()));
    let variable =
        Sources { arguments: &ARGUMENTS, variables: &[(GRACE_VARIABLE, "x")], file: None };
    let error = variable.read().unwrap_err();
    assert!(
        error.starts_with("CONTAINERD_WASMTIMED_GRACE: \"x\" is not a whole number"),
        "{error}"
    );
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, reason) in [
        (SOCKET_VARIABLE, "", "is empty"),
        (BUNDLE_ROOTS_VARIABLE, "", "is empty"),
        (BUNDLE_ROOTS_VARIABLE, "/run:", "is empty"),
        (BUNDLE_ROOTS_VARIABLE, "/run:x", "\"x\" is not an absolute path"),
        (GRACE_VARIABLE, "99999", "99999 is not between 0 and 3600 (seconds)"),
        (SLOTS_VARIABLE, "0", "0 is not between 1 and 100000"),
        (CACHE_VARIABLE, "no", "\"no\" is not an absolute path, nor \"off\""),
        (CACHE_SIZE_VARIABLE, "0", "0 is not between 1 and 1048576 (MiB)"),
        (LOG_LEVEL_VARIABLE, "x", "\"x\" is none of error, warn, info, debug, trace"),
    ] {
        let sources = Sources { arguments: &[], variables: &[(name, value)], file: None };
        assert_eq!(sources.read(), Err(format!("{name}: {reason}")));
    }
}

#[test]
fn a_named_file_replaces_the_default_one() {
    let directory = TempDir::new().unwrap();
    let [first, second] =
        ["first", "second"].map(|name| directory.path().join(name).display().to_string());
    fs::write(&first, "grace = 10").unwrap();
    fs::write(&second, "grace = 20").unwrap();
    let mut sources = Sources {
        arguments: &[],
        variables: &[(CONFIG_VARIABLE, &first)],
        file: Some("slots = 5"),
    };
    assert_eq!(
        sources.settings(),
        Settings { grace: Duration::from_secs(10), ..Settings::defaults(&TEST) }
    );
    let arguments = ["--config", &second];
    sources.arguments = &arguments;
    assert_eq!(
        sources.settings(),
        Settings { grace: Duration::from_secs(20), ..Settings::defaults(&TEST) }
    );
}

#[test]
fn a_named_file_must_be_there() {
    let flag = Sources { arguments: &["--config", "/absent/x"], variables: &[], file: None };
    let error = "/absent/x: No such file or directory (os error 2) (named by --config)";
    assert_eq!(flag.read(), Err(error.to_owned()));
    let variable = Sources { arguments: &[], variables: &[(CONFIG_VARIABLE, "")], file: None };
    assert_eq!(variable.read(), Err("CONTAINERD_WASMTIMED_CONFIG: is empty".to_owned()));
}

#[test]
fn list_asks_at_the_daemons_socket() {
    let asked = |socket: &str| Ok(Command::List { socket: socket.into() });
    let mut sources = Sources { arguments: &["list"], variables: &[], file: None };
    assert_eq!(sources.read(), asked(DEFAULT_SOCKET));
    sources.file = Some(FILE);
    assert_eq!(sources.read(), asked("/file/s"));
    sources.variables = &VARIABLES;
    assert_eq!(sources.read(), asked("/variable/s"));
    sources.arguments = &["list", "--socket", "/flag/s"];
    sources.file = Some("damaged");
    assert_eq!(sources.read(), asked("/flag/s"));
    sources.arguments = &["list"];
    assert!(sources.read().is_err());
}

#[test]
fn clients_find_the_socket_by_the_variable_only() {
    let socket = |value: Option<&str>| client_socket(&TEST, |_| value.map(OsString::from));
    assert_eq!(socket(None).unwrap(), Path::new(DEFAULT_SOCKET));
    assert_eq!(socket(Some("/x/s")).unwrap(), Path::new("/x/s"));
    let error = socket(Some("x")).unwrap_err().to_string();
    assert_eq!(error, "CONTAINERD_WASMTIMED_SOCKET: \"x\" is not an absolute path");
}

#[test]
fn version_and_help_read_no_other_source() {
    for (argument, command) in [("-v", Command::Version), ("--help", Command::Help)] {
        let sources = Sources {
            arguments: &[argument],
            variables: &[(GRACE_VARIABLE, "x")],
            file: Some("damaged"),
        };
        assert_eq!(sources.read(), Ok(command));
    }
}

#[test]
fn what_print_config_prints_reads_back() {
    let odd = "cache = \"/a \\\"b\\\" \\\\c #\\n\\u001b\\u007f\\u0085\\u2028 \\U0001F980 'é'\"\n\
        bundle-roots = ['/\"', '/a:b', '/']";
    let cases = [
        Sources { arguments: &[], variables: &[], file: None },
        Sources { arguments: &[], variables: &[], file: Some(FILE) },
        Sources { arguments: &[], variables: &VARIABLES, file: Some(FILE) },
        Sources { arguments: &ARGUMENTS, variables: &VARIABLES, file: Some(FILE) },
        Sources { arguments: &["--log-level=trace", "--grace=0"], variables: &[], file: Some(odd) },
        Sources {
            arguments: &["--log-level=info", "--slots=100000"],
            variables: &[],
            file: Some("grace = 3600"),
        },
    ];
    for case in cases {
        let wanted = case.settings();
        let arguments: Vec<&str> =
            case.arguments.iter().copied().chain(["--print-config"]).collect();
        let Command::PrintConfig(printed) =
            (Sources { arguments: &arguments, ..case }).read().unwrap()
        else {
            panic!("--print-config asks for something else");
        };
        let again = Sources { arguments: &[], variables: &[], file: Some(&printed) };
        // The engine's table has all keys now, which it is for the engine to compare.
        let read = Settings { engine: wanted.engine.clone(), ..again.settings() };
        assert_eq!(read, wanted, "{printed}");
        let arguments = Sources { arguments: &["--print-config"], ..again };
        assert_eq!(arguments.read(), Ok(Command::PrintConfig(printed.clone())));
    }
}

#[test]
fn another_daemon_has_its_own_names() {
    let other = Identity {
        program: "noded",
        state_directory: "/run/noded",
        config_file: "/absent/noded.toml",
        environment_prefix: "NODED",
        ..TEST
    };
    let variables = |name: &str| match name {
        "NODED_GRACE" => Some("7".into()),
        SOCKET_VARIABLE => Some("/wasmtimed/s".into()),
        _ => None,
    };
    let command = read(&other, [], variables, &engine).unwrap();
    let expected = Settings { grace: Duration::from_secs(7), ..Settings::defaults(&other) };
    assert_eq!(expected.socket, Path::new("/run/noded/manager.sock"));
    assert_eq!(command, Command::Serve(expected));
    assert_eq!(client_socket(&other, variables).unwrap(), Path::new("/run/noded/manager.sock"));
    let error = read(&other, [], |_| Some("".into()), &engine).unwrap_err().to_string();
    assert_eq!(error, "NODED_SOCKET: is empty");
    let help = help(&other);
    assert!(
        help.contains("usage: noded ") && help.contains("NODED_SOCKET; /run/noded/manager.sock")
    );
    assert!(!help.to_lowercase().contains("containerd-wasmtimed"), "{help}");
}
