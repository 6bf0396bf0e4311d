//! The command lines of the delegate's program: `start` and `delete`, as containerd runs them.
//!
//! A process keeps the restrictions of the one that starts it, and runc needs nearly all that a
//! system's manager can take away: namespaces, capabilities, system calls, new privileges. So the
//! server of a hardened unit has systemd start the program, as a transient service.

use std::{
    fs,
    io::{self, Read, Seek, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{error::NativeError, oom_score, setting::search_path};
use crate::{
    cgroups,
    child::{memory_file, wait_within},
    containerd::shim_client::{self, ShimAddress},
    engine::exit::Exit,
    id::Id,
    sanitize, task_limits,
};

/// Time for `start`, which takes less than 0.1 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// True if the last `start` had containerd's params on stdin. Shims since containerd 2.3 need them;
/// the earlier ones that read stdin take them for options of an unknown type.
static TAKES_PARAMS: AtomicBool = AtomicBool::new(false);

/// Exists where systemd runs as the system's manager (`sd_booted(3)`).
const SYSTEMD: &str = "/run/systemd/system";

/// The program with what it is told about containerd.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    pub(crate) program: PathBuf,
    pub(crate) namespace: Id,
    pub(crate) grpc_address: String,
    pub(crate) ttrpc_address: String,
    /// Options of runc's type for `start`, as a protobuf `Any`: the cgroup of the delegate.
    pub(crate) options: Vec<u8>,
    /// True if the delegate gets the OOM score of this process, which is that of a shim.
    pub(crate) keeps_oom_score: bool,
}

impl Launcher {
    /// The OOM score of its delegates, as far as it can be known.
    pub(super) fn oom_score(&self) -> Option<i32> {
        match self.keeps_oom_score {
            true => oom_score::own(),
            false => oom_score::of_shims(&self.grpc_address),
        }
    }

    /// Starts the delegate `id` in its directory and returns its address. Where systemd starts it,
    /// it has this OOM score. Blocks.
    pub(crate) fn start(
        &self,
        id: &str,
        directory: &Path,
        score: Option<i32>,
    ) -> Result<ShimAddress, NativeError> {
        if is_restricted() && !Path::new(SYSTEMD).exists() {
            return Err(NativeError::Restricted);
        }
        let started = match self.options.is_empty() {
            true => self.start_by_trial(id, directory, score),
            // A program would not refuse the other form, but read something else in it.
            false => self.start_with(self.takes_params(), (id, directory), score),
        };
        let stdout = started.map_err(|reason| self.failed(reason))?;
        let unknown = || self.failed(format!("prints no address: {:?}", text(&stdout)));
        ShimAddress::parse(&stdout).ok_or_else(unknown)
    }

    /// Finds out by a try which form of input the program takes.
    fn start_by_trial(
        &self,
        id: &str,
        directory: &Path,
        score: Option<i32>,
    ) -> Result<Vec<u8>, String> {
        // Relaxed: a wrong guess costs a second try.
        let takes_params = TAKES_PARAMS.load(Ordering::Relaxed);
        self.start_with(takes_params, (id, directory), score).or_else(|first| {
            let again = self.start_with(!takes_params, (id, directory), score);
            TAKES_PARAMS.store(takes_params ^ again.is_ok(), Ordering::Relaxed);
            // One of the errors may only be about the form that the program does not take.
            again.map_err(|second| format!("{first}; {second}"))
        })
    }

    /// True if the program takes containerd's params, by its version.
    fn takes_params(&self) -> bool {
        let mut command = Command::new(&self.program);
        command.arg("-v");
        // An error: `start` has a better one.
        let told = run(command, &[], START_LIMIT).unwrap_or_default();
        is_since_2_3(&String::from_utf8_lossy(&told))
    }

    fn start_with(
        &self,
        params: bool,
        (id, directory): (&str, &Path),
        score: Option<i32>,
    ) -> Result<Vec<u8>, String> {
        let command = self.command(id, directory, &["start"]);
        let input = match params {
            true => {
                let Self { namespace, grpc_address, ttrpc_address, options, .. } = self;
                shim_client::bootstrap_params(id, namespace, grpc_address, ttrpc_address, options)
            }
            false => self.options.clone(),
        };
        match is_restricted() {
            false => run(command, &input, START_LIMIT),
            true => start_service(&command, directory, &input, score),
        }
    }

    /// Kills and removes what is left of a container without a living delegate. Blocks.
    pub(crate) fn delete(
        &self,
        id: &Id,
        bundle: &Path,
        limit: Duration,
    ) -> Result<(u32, Exit), NativeError> {
        let bundle_flag = bundle.display().to_string();
        let shim = self.command(id.as_str(), bundle, &["-bundle", &bundle_flag, "delete"]);
        let command = match is_restricted() {
            false => shim,
            true => by_systemd(&shim, bundle, &["--pipe", "--wait"]),
        };
        let stdout = run(command, &[], limit).map_err(|reason| self.failed(reason))?;
        let unknown = || self.failed("prints no exit status".to_owned());
        shim_client::deleted(&stdout).ok_or_else(unknown)
    }

    fn command(&self, id: &str, directory: &Path, action: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["-namespace", self.namespace.as_str(), "-id", id])
            .args(["-address", &self.grpc_address])
            .args(action)
            .current_dir(directory)
            .env("PATH", search_path())
            .env("TTRPC_ADDRESS", &self.ttrpc_address)
            .env("GRPC_ADDRESS", &self.grpc_address)
            .env("NAMESPACE", self.namespace.as_str())
            .env("MAX_SHIM_VERSION", "3");
        // Variables of our own service: the program must not speak for it.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command
    }

    /// An error of the program.
    pub(crate) fn failed(&self, reason: impl ToString) -> NativeError {
        NativeError::Failed { program: self.program.clone(), reason: reason.to_string() }
    }
}

/// True below a unit whose restrictions children inherit.
// The daemon's unit has this one among them, and runc could keep no promise with it alone: setuid
// programs of containers would have no effect.
fn is_restricted() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line == "NoNewPrivs:\t1")
}

/// Has systemd start the delegate as a service that lasts as long as the delegate. Its streams are
/// files in its directory: `systemd-run` returns before the end, and could not connect them to
/// ours.
fn start_service(
    command: &Command,
    directory: &Path,
    input: &[u8],
    score: Option<i32>,
) -> Result<Vec<u8>, String> {
    let text_of = |error: io::Error| error.to_string();
    let file = |name: &str| directory.join(name);
    fs::write(file("stdin"), input).map_err(text_of)?;
    let properties = service_properties(directory, score);
    let flags: Vec<&str> = properties.iter().flat_map(|property| ["-p", property]).collect();
    let starter = starter(command);
    let started = run(by_systemd(&starter, directory, &flags), &[], START_LIMIT);
    let said = |name: &str| fs::read(file(name)).unwrap_or_default();
    started.map_err(|reason| format!("{reason} {}", text(&said("stderr"))))?;
    Ok(said("stdout"))
}

fn service_properties(directory: &Path, score: Option<i32>) -> Vec<String> {
    let stream = |stream: &str, name: &str| {
        format!("Standard{stream}=file:{}", directory.join(name).display())
    };
    let mut properties = vec![
        "Type=forking".to_owned(),
        // The delegate is left to itself by a stop of the service, as by that of containerd's.
        "KillMode=process".to_owned(),
        // Nor does a program of runc's that the kernel has ended for its memory stop it.
        "OOMPolicy=continue".to_owned(),
        stream("Input", "stdin"),
        stream("Output", "stdout"),
        stream("Error", "stderr"),
    ];
    properties.extend(score.map(|score| format!("OOMScoreAdjust={}", oom_score::below(score))));
    properties
}

/// The command as the child of a shell: the program gives the delegate one more than the OOM score
/// of its parent, which would be systemd's own.
fn starter(command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    // A shell may execute a last command in its own place.
    shell.args(["-c", "\"$@\"; exit $?", "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
}

/// The same command as a transient service of systemd.
// Without the default dependencies: at a shutdown of the machine systemd would stop the delegates
// at once, beside the daemon that ends their containers by them, and start no service for `delete`.
// So do the scopes of runc's containers.
fn by_systemd(command: &Command, directory: &Path, flags: &[&str]) -> Command {
    let mut outer = Command::new("systemd-run");
    outer.args(["--quiet", "--collect", "-p", "DefaultDependencies=no"]).args(flags);
    outer.arg("-p").arg(format!("WorkingDirectory={}", directory.display()));
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let mut pair = name.to_owned();
            pair.push("=");
            pair.push(value);
            outer.arg("-E").arg(pair);
        }
    }
    outer.arg("--").arg(command.get_program()).args(command.get_args());
    outer.env("PATH", search_path());
    outer
}

/// Runs a command and returns its stdout. The error is its status with the beginning of its stderr.
fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
    let text_of = |error: io::Error| error.to_string();
    // Files instead of pipes: nothing has to read while the program runs.
    let mut stdin = memory_file("native").map_err(text_of)?;
    let mut stdout = memory_file("native").map_err(text_of)?;
    let mut stderr = memory_file("native").map_err(text_of)?;
    stdin.write_all(input).and_then(|()| stdin.rewind()).map_err(text_of)?;
    let stream = |file: &fs::File| file.try_clone().map(Stdio::from).map_err(text_of);
    command.stdin(stdin).stdout(stream(&stdout)?).stderr(stream(&stderr)?).process_group(0);
    // A delegate and its containers outlive the guest whose cgroup this process may be in.
    cgroups::start_outside(&mut command);
    let mut child = command.spawn().map_err(task_limits::named).map_err(text_of)?;
    let status = wait_within(&mut child, Some(limit)).map_err(text_of)?;
    let said = |file: &mut fs::File| {
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(text_of)?;
        Ok::<_, String>(bytes)
    };
    match status {
        Some(status) if status.success() => said(&mut stdout),
        Some(status) => Err(format!("{status}: {}", text(&said(&mut stderr)?))),
        None => Err(format!("killed after {} s", limit.as_secs())),
    }
}

/// True for the output of `-v` of containerd 2.3 or later, or of another program.
fn is_since_2_3(told: &str) -> bool {
    let version = told.lines().find_map(|line| line.trim().strip_prefix("Version:"));
    let Some(version) = version.map(|version| version.trim().trim_start_matches('v')) else {
        return true;
    };
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= (2, 3),
        _ => true,
    }
}

fn text(bytes: &[u8]) -> String {
    sanitize::text(String::from_utf8_lossy(bytes).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_gets_its_input_and_returns_its_output_or_its_words() {
        let limit = Duration::from_secs(20);
        assert_eq!(run(shell("cat"), b"params", limit).unwrap(), b"params");
        let error = run(shell("echo no luck >&2; exit 3"), b"", limit).unwrap_err();
        assert_eq!(error, "exit status: 3: no luck");
        let error = run(shell("sleep 1000"), b"", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error, "killed after 0 s");
    }

    #[test]
    fn the_version_tells_the_form_of_the_input() {
        for (version, since) in [
            ("1.6.20~ds1", false),
            ("2.1.9+unknown", false),
            ("v2.2.7", false),
            ("v2.3.4", true),
            ("2.10.0-rc.0", true),
            ("3.0.0", true),
            ("devel", true),
        ] {
            let told = format!("shim:\n  Version:  {version}\n  Revision: x\n");
            assert_eq!(is_since_2_3(&told), since, "{version}");
        }
        assert!(is_since_2_3(""));
    }

    #[test]
    fn a_transient_service_gets_the_whole_command() {
        let launcher = Launcher {
            program: "/bin/shim".into(),
            namespace: Id::parse("namespace", "n").unwrap(),
            grpc_address: "/run/c.sock".to_owned(),
            ttrpc_address: "/run/c.sock.ttrpc".to_owned(),
            options: Vec::new(),
            keeps_oom_score: false,
        };
        let inner = launcher.command("c1", Path::new("/d"), &["start"]);
        let outer = by_systemd(&starter(&inner), Path::new("/d"), &["-p", "Type=forking"]);
        let args: Vec<_> = outer.get_args().map(|arg| arg.to_str().unwrap()).collect();
        let text = args.join(" ");
        for part in [
            "-p DefaultDependencies=no -p Type=forking -p WorkingDirectory=/d -E ",
            "-E TTRPC_ADDRESS=/run/c.sock.ttrpc",
            "-- /bin/sh -c \"$@\"; exit $? sh /bin/shim -namespace n -id c1 -address /run/c.sock start",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("NOTIFY_SOCKET"), "{text}");
    }

    #[test]
    fn a_service_has_the_score_from_which_its_program_makes_that_of_the_delegate() {
        let properties = |score| service_properties(Path::new("/d"), score);
        let with = properties(Some(-998));
        assert!(with.contains(&"OOMScoreAdjust=-999".to_owned()), "{with:?}");
        assert_eq!(properties(None), with[..with.len() - 1]);
        for property in ["KillMode=process", "OOMPolicy=continue", "StandardInput=file:/d/stdin"] {
            assert!(with.contains(&property.to_owned()), "{property}");
        }
    }

    #[test]
    fn the_program_is_a_child_of_its_starter_and_its_status_is_told() {
        let limit = Duration::from_secs(20);
        // Of the shell in between the number is neither this process's nor 1.
        let parent = run(starter(&shell("echo $PPID")), &[], limit).unwrap();
        let parent: u32 = String::from_utf8(parent).unwrap().trim().parse().unwrap();
        assert!(parent != std::process::id() && parent != 1);
        let error = run(starter(&shell("echo no luck >&2; exit 3")), &[], limit).unwrap_err();
        assert_eq!(error, "exit status: 3: no luck");
    }
}
