//! The command line of `runwasi-node-installer`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::host::HostOf;
use crate::options::{Options, Runtime};
use crate::{Error, install, status, uninstall};

/// Installs WebAssembly runtimes for containerd on a Kubernetes node.
#[derive(Debug, Parser)]
#[command(name = "runwasi-node-installer", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install, or bring up to date; without a change nothing is restarted
    Install(Flags),
    /// Remove what was installed
    Uninstall(Flags),
    /// Compare the node with what was installed; exit status 3 if something is missing or due
    Status(Flags),
    /// Sleep: the main container of the DaemonSet, after `install`
    Wait,
}

#[derive(Debug, Args)]
struct Flags {
    /// Where the root directory of the host is
    #[arg(long, default_value = "/host")]
    root: PathBuf,
    /// Directory with the files to install
    #[arg(long, default_value = "/assets")]
    assets: PathBuf,
    /// A runtime to install; repeatable; both without it
    #[arg(long = "runtime", value_name = "NAME")]
    runtimes: Vec<Name>,
    /// Let the shims make the sandboxes of pods (containerd 2)
    #[arg(long)]
    sandboxer: bool,
    /// Directory of programs on the host [default: /usr/local/bin; with k3s and RKE2
    /// /opt/runwasi/bin]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<String>,
    /// Directory of systemd units on the host [default: /etc/systemd/system]
    #[arg(long, value_name = "DIR")]
    unit_dir: Option<String>,
    /// Directory of sysctl files on the host [default: /etc/sysctl.d]
    #[arg(long, value_name = "DIR")]
    sysctl_dir: Option<String>,
    /// Directory of the installer's record on the host [default: /var/lib/runwasi-node-installer]
    #[arg(long, value_name = "DIR")]
    record_dir: Option<String>,
    /// containerd's configuration on the host, if it is not found
    #[arg(long, value_name = "FILE")]
    containerd_config: Option<String>,
    /// containerd's systemd unit, if it is not the usual one
    #[arg(long, value_name = "UNIT")]
    containerd_unit: Option<String>,
    /// Run no program of the host: nothing is started or stopped, and what may be in use stays
    #[arg(long)]
    no_restart: bool,
    /// Take away what may be in use, and replace blocks that were edited
    #[arg(long)]
    force: bool,
    /// Try a change of the configuration at once that has failed before
    #[arg(long)]
    retry: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// A shim per pod
    Wasmtime,
    /// The node daemon
    Wasmtimed,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Wait => wait(),
        Command::Install(flags) => options(flags).and_then(|options| {
            changed(&install(&options, &HostOf::default())?, "nothing to do");
            Ok(ExitCode::SUCCESS)
        }),
        Command::Uninstall(flags) => options(flags).and_then(|options| {
            changed(&uninstall(&options, &HostOf::default())?, "nothing to do");
            Ok(ExitCode::SUCCESS)
        }),
        Command::Status(flags) => options(flags).and_then(|options| {
            let status = status(&options)?;
            changed(&status.lines, "");
            Ok(if status.complete { ExitCode::SUCCESS } else { ExitCode::from(3) })
        }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("runwasi-node-installer: {error}");
        ExitCode::FAILURE
    })
}

fn changed(lines: &[String], otherwise: &str) {
    if lines.is_empty() {
        println!("{otherwise}");
    }
    lines.iter().for_each(|line| println!("{line}"));
}

/// Until a signal ends it.
fn wait() -> ! {
    loop {
        std::thread::park();
    }
}

fn options(flags: Flags) -> Result<Options, Error> {
    let usual = Options::default();
    let mut runtimes: Vec<Runtime> = flags.runtimes.into_iter().map(Runtime::from).collect();
    if runtimes.is_empty() {
        runtimes = usual.runtimes;
    }
    runtimes.sort();
    runtimes.dedup();
    let options = Options {
        root: flags.root,
        assets: flags.assets,
        runtimes,
        sandboxer: flags.sandboxer,
        bin_dir: flags.bin_dir,
        unit_dir: flags.unit_dir.unwrap_or(usual.unit_dir),
        sysctl_dir: flags.sysctl_dir.unwrap_or(usual.sysctl_dir),
        record_dir: flags.record_dir.unwrap_or(usual.record_dir),
        containerd_config: flags.containerd_config,
        containerd_unit: flags.containerd_unit,
        restart: !flags.no_restart,
        force: flags.force,
        retry: flags.retry,
    };
    let paths = [&options.unit_dir, &options.sysctl_dir, &options.record_dir];
    let named = [&options.bin_dir, &options.containerd_config].into_iter().flatten();
    for path in paths.into_iter().chain(named) {
        let plain = path.starts_with('/') && path.len() > 1 && !path.ends_with('/');
        if !plain || path.split('/').any(|part| part == ".." || part == ".") {
            return Err(Error::file(path, "is not a plain absolute path of the host"));
        }
    }
    Ok(options)
}

impl From<Name> for Runtime {
    fn from(name: Name) -> Self {
        match name {
            Name::Wasmtime => Self::Wasmtime,
            Name::Wasmtimed => Self::Wasmtimed,
        }
    }
}
