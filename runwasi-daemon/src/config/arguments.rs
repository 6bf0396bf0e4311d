//! The command line: flags and the word `list`. Called by [`read`](super::read).

use std::{ffi::OsString, path::Path};

use lexopt::{Arg, Parser};

use super::{
    error::ConfigError,
    keys::Key,
    layer::{Layer, number, text},
};
use crate::identity::Identity;

/// Text of `--help`, with the names of the daemon in braces.
const HELP: &str = "\
usage: {program} [FLAGS]                               serve
       {program} list [--config FILE] [--socket PATH]  print the sandboxes of the daemon at this socket,
                                                                  a line each: NAMESPACE GROUP PID SOCKET CONTAINERS
       {program} reload [--config FILE] [--socket PATH]
                                                                  have it replaced by a new daemon: new settings, a
                                                                  new version; sandboxes go on. It needs its --guard
       {program} precompile [FLAGS] FILE|IMAGE...      compile into the cache: wasm, or what of it is in an
                                                                  image's tar, or in an image that containerd has

One wasm host for the whole node; containerd reaches it as the runtime {runtime}.

flag, key of the file, environment variable, default:
  --config FILE        the file with settings, TOML; at most 1 MiB
                       {prefix}_CONFIG; {config_file}, if it is there
  --socket PATH        the manager socket; its directory is the daemon's own. The thin shim reads no file: another
                       socket than the default must be in the variable, in containerd's environment
                       socket; {prefix}_SOCKET; {state_directory}/manager.sock
  --bundle-root DIR    bundles must lie below it; may be repeated
                       bundle-roots = [\"DIR\", ...]; {prefix}_BUNDLE_ROOTS=DIR:...; /run
  --grace SECONDS      how long guests have to end when the daemon leaves, 0 to 3600
                       grace; {prefix}_GRACE; 30
  --slots N            how many guests there is room for, 1 to 100000
                       slots; {prefix}_SLOTS; as many as RLIMIT_NOFILE and vm.max_map_count allow
  --cache-dir DIR|off  where compiled code is kept
                       cache; {prefix}_CACHE; /var/cache/runwasi
  --cache-size MIB     how much of it; the longest unused goes, 1 to 1048576
                       cache-size; {prefix}_CACHE_SIZE; 1024
  --log-level LEVEL    error, warn, info, debug or trace
                       log-level; {prefix}_LOG_LEVEL; info

for precompile only:
  --address PATH       containerd's gRPC socket
                       CONTAINERD_ADDRESS; /run/containerd/containerd.sock
  --namespace NAME     containerd's namespace; Kubernetes' images are in k8s.io
                       CONTAINERD_NAMESPACE; default

flags only:
  --ready-fd N         write \"ready\" to this open fd (3 or more) and close it, when serving
  --listen-fd N        take this open fd (3 or more) as the manager socket, listening
  --guard              leave a small parent process, for systemd
  --guard-fd N         report to it by this open fd (3 or more); the guard adds this to the command line of its daemons
  --print-config       print the settings as a file, and leave
  -v, --version        -h, --help

A flag wins over the environment, the environment over the file. All of them are checked before anything is served.
Paths are absolute, except that of the file.
";

/// What `--help` prints.
pub fn help(identity: &Identity) -> String {
    HELP.replace("{prefix}", identity.environment_prefix)
        .replace("{config_file}", identity.config_file)
        .replace("{state_directory}", identity.state_directory)
        .replace("{runtime}", identity.runtime)
        .replace("{program}", identity.program)
}

/// What to precompile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Files and images, in their order.
    pub names: Vec<OsString>,
    /// The gRPC socket of the containerd that has the images.
    pub address: Option<String>,
    /// The namespace they are in.
    pub namespace: Option<String>,
}

/// What the command line says.
pub(super) enum Asked {
    Version,
    Help,
    /// Something for which settings are needed.
    Settings(Box<Line>),
}

/// The flags, checked one by one; the settings among them are one layer.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) layer: Layer,
    pub(super) config: Option<OsString>,
    pub(super) ready_fd: Option<i32>,
    pub(super) listen_fd: Option<i32>,
    pub(super) guard: bool,
    pub(super) guard_fd: Option<i32>,
    /// The flags that a guard passes on.
    pub(super) of_hosts: Vec<OsString>,
    pub(super) print: bool,
    pub(super) list: bool,
    pub(super) reload: bool,
    pub(super) precompile: Option<Targets>,
    address: Option<String>,
    namespace: Option<String>,
    /// The flags that were there.
    seen: Vec<&'static str>,
}

/// Reads the arguments, which come without the program's name.
pub(super) fn parse(arguments: Vec<OsString>) -> Result<Asked, ConfigError> {
    let mut parser = Parser::from_args(arguments);
    let mut line = Box::<Line>::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('v') | Arg::Long("version") => return Ok(Asked::Version),
            Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Help),
            Arg::Long(name) => match flag(name) {
                Some(flag) => line.take(flag, &mut parser)?,
                None => return Err(unknown(format!("--{name}"))),
            },
            Arg::Value(word) => line.word(word)?,
            Arg::Short(letter) => return Err(unknown(format!("-{letter}"))),
        }
    }
    line.check()?;
    Ok(Asked::Settings(line))
}

/// A flag other than those that print and leave.
#[derive(Clone, Copy)]
enum Flag {
    Set(Key),
    Config,
    ReadyFd,
    ListenFd,
    Guard,
    GuardFd,
    PrintConfig,
    Address,
    Namespace,
}

/// The flag of this name, which is without its dashes.
fn flag(name: &str) -> Option<Flag> {
    match name {
        "config" => Some(Flag::Config),
        "ready-fd" => Some(Flag::ReadyFd),
        "listen-fd" => Some(Flag::ListenFd),
        "guard" => Some(Flag::Guard),
        "guard-fd" => Some(Flag::GuardFd),
        "print-config" => Some(Flag::PrintConfig),
        "address" => Some(Flag::Address),
        "namespace" => Some(Flag::Namespace),
        _ => Key::ALL
            .into_iter()
            .find(|key| key.flag().strip_prefix("--") == Some(name))
            .map(Flag::Set),
    }
}

impl Flag {
    fn name(self) -> &'static str {
        match self {
            Self::Set(key) => key.flag(),
            Self::Config => "--config",
            Self::ReadyFd => "--ready-fd",
            Self::ListenFd => "--listen-fd",
            Self::Guard => "--guard",
            Self::GuardFd => "--guard-fd",
            Self::PrintConfig => "--print-config",
            Self::Address => "--address",
            Self::Namespace => "--namespace",
        }
    }
}

impl Line {
    fn take(&mut self, flag: Flag, parser: &mut Parser) -> Result<(), ConfigError> {
        let origin = flag.name();
        let wrong = |reason| ConfigError::Value { origin, reason };
        if self.seen.contains(&origin) && !matches!(flag, Flag::Set(Key::BundleRoots)) {
            return Err(wrong("is given twice".to_owned()));
        }
        self.seen.push(origin);
        let mut value = || parser.value().map_err(|_| wrong("needs a value".to_owned()));
        let mut fd = || text(value()?).and_then(|value| open_fd(&value)).map_err(wrong);
        match flag {
            Flag::ReadyFd => self.ready_fd = Some(fd()?),
            Flag::ListenFd => self.listen_fd = Some(fd()?),
            Flag::GuardFd => self.guard_fd = Some(fd()?),
            Flag::Set(key) => {
                let value = value()?;
                self.of_hosts.extend([origin.into(), value.clone()]);
                text(value).and_then(|value| self.layer.set(key, &value)).map_err(wrong)?;
            }
            Flag::Config => {
                let value = value()?;
                self.of_hosts.extend([origin.into(), value.clone()]);
                self.config = Some(value);
            }
            Flag::Guard => self.guard = true,
            Flag::PrintConfig => self.print = true,
            Flag::Address => self.address = Some(text(value()?).map_err(wrong)?),
            Flag::Namespace => self.namespace = Some(text(value()?).map_err(wrong)?),
        }
        Ok(())
    }

    /// A command, or one of its targets.
    fn word(&mut self, word: OsString) -> Result<(), ConfigError> {
        match &mut self.precompile {
            Some(targets) => targets.names.push(word),
            None if word == "list" && !self.list && !self.reload => self.list = true,
            None if word == "reload" && !self.list && !self.reload => self.reload = true,
            None if word == "precompile" && !self.list && !self.reload => {
                self.precompile = Some(Targets::default())
            }
            None => return Err(unknown(format!("{word:?}"))),
        }
        Ok(())
    }

    /// `list` and `reload` need the socket, and where to find it; `precompile` needs something to compile, and serves nobody.
    fn check(&mut self) -> Result<(), ConfigError> {
        let of_images = [Flag::Address.name(), Flag::Namespace.name()];
        if let Some(origin) =
            self.seen.iter().find(|flag| self.precompile.is_none() && of_images.contains(flag))
        {
            return Err(ConfigError::Value { origin, reason: "is for `precompile`".to_owned() });
        }
        if let Some(targets) = &mut self.precompile {
            (targets.address, targets.namespace) = (self.address.take(), self.namespace.take());
            let serving =
                [Flag::ReadyFd, Flag::ListenFd, Flag::Guard, Flag::GuardFd, Flag::PrintConfig]
                    .map(Flag::name);
            if let Some(origin) = self.seen.iter().find(|flag| serving.contains(flag)) {
                return Err(ConfigError::Value {
                    origin,
                    reason: "is not for `precompile`".to_owned(),
                });
            }
            if targets.names.is_empty() {
                return Err(ConfigError::Value {
                    origin: "precompile",
                    reason: "needs a file or an image".to_owned(),
                });
            }
        }
        let needed = [Flag::Config.name(), Key::Socket.flag()];
        let asking = if self.list { Some("list") } else { self.reload.then_some("reload") };
        let strange = self.seen.iter().find(|flag| !needed.contains(flag));
        match (asking, strange) {
            (Some(command), Some(origin)) => {
                Err(ConfigError::Value { origin, reason: format!("is not for `{command}`") })
            }
            _ => self.check_guard(),
        }
    }

    /// A guard is not the host of another one.
    fn check_guard(&self) -> Result<(), ConfigError> {
        let both = self.guard && self.guard_fd.is_some();
        let reason = || "is not for a guard".to_owned();
        if both {
            Err(ConfigError::Value { origin: Flag::GuardFd.name(), reason: reason() })
        } else {
            Ok(())
        }
    }
}

/// An fd that is open now, before we open any: a wrong number could later be that of a connection, and `ready` would go
/// to a stranger. Standard streams are no choice, as the fd is closed.
fn open_fd(value: &str) -> Result<i32, String> {
    let fd = number(value, 0..=i32::MAX.unsigned_abs(), "")?.cast_signed();
    if fd < 3 {
        return Err(format!("{fd} is a standard stream; 3 or more is needed"));
    }
    match Path::new("/proc/self/fd").join(fd.to_string()).symlink_metadata() {
        Ok(_) => Ok(fd),
        Err(_) => Err(format!("{fd} is not open")),
    }
}

fn unknown(word: String) -> ConfigError {
    ConfigError::Unknown { word }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd, os::unix::ffi::OsStringExt, time::Duration};

    use super::*;
    use crate::identity::TEST;

    fn line(arguments: &[&str]) -> Result<Box<Line>, String> {
        match parse(arguments.iter().map(OsString::from).collect()) {
            Ok(Asked::Settings(line)) => Ok(line),
            Ok(_) => panic!("{arguments:?} asks for no settings"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn refusal(arguments: &[&str]) -> String {
        line(arguments).expect_err("these arguments are wrong")
    }

    #[test]
    fn values_follow_their_flags_or_an_equals_sign() {
        let spaced = line(&["--grace", "5", "--cache-dir", "off", "--guard"]).unwrap();
        let joined = line(&["--grace=5", "--cache-dir=off", "--guard"]).unwrap();
        assert_eq!(spaced.layer, joined.layer);
        assert_eq!(spaced.layer.grace, Some(Duration::from_secs(5)));
        assert!(spaced.guard && joined.guard && !spaced.print);
    }

    #[test]
    fn what_follows_precompile_is_to_be_compiled() {
        let arguments = [
            "--cache-dir=/c",
            "precompile",
            "list",
            "--cache-size=2",
            "--namespace",
            "n",
            "precompile",
        ];
        let line = line(&arguments).unwrap();
        let targets = line.precompile.unwrap();
        assert_eq!(targets.names, ["list", "precompile"]);
        assert_eq!((targets.namespace.as_deref(), targets.address), (Some("n"), None));
        assert_eq!((line.layer.cache, line.layer.cache_size), (Some(Some("/c".into())), Some(2)));
    }

    #[test]
    fn guard_passes_settings_on_and_keeps_its_own() {
        let file = File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd().to_string();
        let arguments =
            ["--guard", "--grace=5", "--ready-fd", &fd, "--config", "--guard", "--bundle-root=/a"];
        let line = line(&arguments).unwrap();
        assert_eq!(line.of_hosts, ["--grace", "5", "--config", "--guard", "--bundle-root", "/a"]);
        assert_eq!(refusal(&["--guard", "--guard-fd", &fd]), "--guard-fd: is not for a guard");
    }

    #[test]
    fn bundle_roots_add_up() {
        let line = line(&["--bundle-root", "/a", "--bundle-root=/b"]).unwrap();
        assert_eq!(line.layer.bundle_roots, Some(vec!["/a".into(), "/b".into()]));
    }

    #[test]
    fn a_refusal_names_the_flag() {
        for (arguments, error) in [
            (&["--grace", "99999"][..], "--grace: 99999 is not between 0 and 3600 (seconds)"),
            (&["--grace"], "--grace: needs a value"),
            (&["--grace=1", "--grace=1"], "--grace: is given twice"),
            (&["--guard=yes"], r#"unexpected argument for option '--guard': "yes""#),
            (&["--bundle-root", ""], "--bundle-root: is empty"),
            (&["--frobnicate"], "--frobnicate: unknown; --help shows what there is"),
            (&["-x"], "-x: unknown; --help shows what there is"),
            (&["serve"], r#""serve": unknown; --help shows what there is"#),
            (&["list", "list"], r#""list": unknown; --help shows what there is"#),
            (&["list", "--grace", "3"], "--grace: is not for `list`"),
            (&["reload", "--guard"], "--guard: is not for `reload`"),
            (&["list", "reload"], r#""reload": unknown; --help shows what there is"#),
            (&["--guard-fd", "2"], "--guard-fd: 2 is a standard stream; 3 or more is needed"),
            (&["--print-config", "list"], "--print-config: is not for `list`"),
            (&["precompile"], "precompile: needs a file or an image"),
            (&["--namespace", "k8s.io"], "--namespace: is for `precompile`"),
            (&["list", "--address=/a"], "--address: is for `precompile`"),
            (&["precompile", "a.wasm", "--guard"], "--guard: is not for `precompile`"),
            (&["list", "precompile"], r#""precompile": unknown; --help shows what there is"#),
        ] {
            assert_eq!(refusal(arguments), error);
        }
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_refused() {
        let arguments = vec!["--cache-dir".into(), OsString::from_vec(b"/\xff".to_vec())];
        let error = parse(arguments).err().unwrap().to_string();
        assert_eq!(error, r#"--cache-dir: "/\xFF" is not UTF-8"#);
    }

    #[test]
    fn help_and_version_ask_for_nothing_else() {
        for (word, version) in [("-v", true), ("--version", true), ("-h", false), ("--help", false)]
        {
            let asked = parse(vec!["--guard".into(), word.into()]).unwrap();
            assert!(
                matches!(asked, Asked::Version) == version
                    && matches!(asked, Asked::Help) != version
            );
        }
    }

    #[test]
    fn the_ready_fd_is_open_and_no_standard_stream() {
        let file = File::open("/dev/null").unwrap();
        let fd = file.as_raw_fd();
        assert_eq!(line(&["--ready-fd", &fd.to_string()]).unwrap().ready_fd, Some(fd));
        assert_eq!(
            refusal(&["--ready-fd", "1"]),
            "--ready-fd: 1 is a standard stream; 3 or more is needed"
        );
        assert_eq!(refusal(&["--ready-fd", "1000000"]), "--ready-fd: 1000000 is not open");
        assert!(refusal(&["--ready-fd", "-1"]).starts_with("--ready-fd: -1 is not between 0 and"));
        assert!(
            refusal(&["--ready-fd", "2147483648"])
                .starts_with("--ready-fd: 2147483648 is not between 0 and")
        );
    }

    #[test]
    fn help_names_every_flag_key_and_variable() {
        for key in Key::ALL {
            assert!(help(&TEST).contains(&format!("  {} ", key.flag())), "{}", key.flag());
            assert!(help(&TEST).contains(&format!(" {}", key.name())), "{}", key.name());
            assert!(
                help(&TEST).contains(&format!(" {}", key.variable(&TEST))),
                "{}",
                key.variable(&TEST)
            );
        }
        for flag in [
            Flag::Config,
            Flag::ReadyFd,
            Flag::ListenFd,
            Flag::Guard,
            Flag::GuardFd,
            Flag::PrintConfig,
            Flag::Address,
            Flag::Namespace,
        ] {
            assert!(help(&TEST).contains(&format!("  {} ", flag.name())), "{}", flag.name());
        }
    }

    #[test]
    fn help_names_the_defaults() {
        let default = crate::config::Settings::defaults(&TEST);
        for text in [
            TEST.config_file,
            "CONTAINERD_WASMTIMED_CONFIG",
            &default.socket.to_string_lossy(),
            &format!("; {}\n", default.bundle_roots[0].display()),
            &format!("; {}\n", default.grace.as_secs()),
            &format!("; {}\n", default.cache.unwrap().display()),
            &format!("; {}\n", default.cache_size),
            &format!("; {}\n", default.log_level),
        ] {
            assert!(help(&TEST).contains(text), "{text}");
        }
    }
}
