//! What a person types before the first container: `make install`, `make load`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::runtime::WasmImage;
use runwasi_tests::{Command, Containerd, Image, Runtime, Version};
use tempfile::TempDir;

/// `make` at the root of the workspace, apart from a `make` that runs these tests.
fn make<const N: usize>(args: [&str; N]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Command::new("make").current_dir(&root).env("MAKEFLAGS", "").env("MAKELEVEL", "0").args(args)
}

/// What `make install` has put below a stage, as for a package.
struct Installed {
    stage: TempDir,
}

/// With a space, as everybody's home may have one.
const PREFIX: &str = "/opt/some where";

/// Programs, then files: below [`PREFIX`].
const PROGRAMS: [&str; 3] = [
    "bin/containerd-shim-wasmtime-v1",
    "bin/containerd-shim-wasmtimed-v1",
    "bin/containerd-wasmtimed",
];
const FILES: [&str; 10] = [
    "lib/systemd/system/containerd-wasmtimed.service",
    "lib/systemd/system/containerd-wasmtimed.socket",
    "lib/sysctl.d/60-containerd-wasmtimed.conf",
    "share/doc/runwasi/containerd-wasmtimed.toml",
    "share/bash-completion/completions/containerd-wasmtimed",
    "share/zsh/site-functions/_containerd-wasmtimed",
    "share/fish/vendor_completions.d/containerd-wasmtimed.fish",
    "share/runwasi/grafana/runwasi.json",
    "share/runwasi/prometheus/runwasi.rules.yml",
    "share/runwasi/prometheus/runwasi.scrape.yml",
];
/// The man pages, by the words of the commands.
const PAGES: [&str; 19] = [
    "",
    "-cache",
    "-cache-ls",
    "-cache-prune",
    "-cache-verify",
    "-completions",
    "-config",
    "-config-check",
    "-debug",
    "-debug-bundle",
    "-drain",
    "-events",
    "-health",
    "-inspect",
    "-list",
    "-precompile",
    "-reload",
    "-status",
    "-top",
];

impl Installed {
    fn new() -> Result<Self> {
        let installed = Self { stage: tempfile::tempdir()? };
        installed.make("install")?;
        Ok(installed)
    }

    fn make(&self, target: &str) -> Result<()> {
        let destdir = format!("DESTDIR={}", self.stage.path().display());
        make([target, &format!("PREFIX={PREFIX}"), &destdir]).run()?.ok()?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stage.path().join(PREFIX.trim_start_matches('/')).join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// The settings that the daemon makes of this file.
    fn settings(&self, file: &Path) -> Result<String> {
        let daemon =
            Command::new(self.path(PROGRAMS[2])).args(["--print-config", "--config"]).args([file]);
        Ok(daemon.run()?.ok()?.out())
    }

    /// The settings of a daemon that nobody has configured.
    fn defaults(&self) -> Result<String> {
        let empty = self.stage.path().join("empty.toml");
        fs::write(&empty, "")?;
        self.settings(&empty)
    }

    /// All files there are, below [`PREFIX`].
    fn files(&self) -> Result<BTreeSet<String>> {
        let found = Command::new("find")
            .args([self.path("").as_os_str()])
            .args(["!", "-type", "d", "-printf", "%P\\n"]);
        Ok(found.run()?.ok()?.out().lines().map(str::to_owned).collect())
    }
}

#[test]
fn install_copies_below_prefix_and_destdir_and_uninstall_takes_just_that_away() -> Result<()> {
    let installed = Installed::new()?;
    let pages = PAGES.map(|words| format!("share/man/man8/containerd-wasmtimed{words}.8"));
    let files: Vec<String> = FILES.map(str::to_owned).into_iter().chain(pages).collect();
    let programs = PROGRAMS.map(str::to_owned);
    let all: BTreeSet<_> = programs.iter().chain(&files).cloned().collect();
    ensure!(installed.files()? == all, "{:?}", installed.files()?);
    for (names, wanted) in [(&programs[..], 0o755), (&files[..], 0o644)] {
        for name in names {
            let mode = fs::metadata(installed.path(name))?.permissions().mode() & 0o7777;
            ensure!(mode == wanted, "{name}: mode {mode:o}");
        }
    }
    let stranger = "share/doc/runwasi/notes";
    fs::write(installed.path(stranger), "")?;
    installed.make("uninstall")?;
    ensure!(installed.files()? == [stranger.to_owned()].into());
    ensure!(!installed.path("share/runwasi").exists(), "an empty directory stays");
    Ok(())
}

#[test]
fn install_that_cannot_write_a_program_leaves_the_one_that_is_there() -> Result<()> {
    let installed = Installed { stage: tempfile::tempdir()? };
    let program = installed.path(PROGRAMS[0]);
    fs::create_dir_all(program.parent().context("no directory")?)?;
    fs::write(&program, "of the version before")?;
    let destdir = format!("DESTDIR={}", installed.stage.path().display());
    // Files of at most some kilobytes, as on a disk that is nearly full.
    let line = "ulimit -f 100; exec make install \"$@\"";
    let prefix = format!("PREFIX={PREFIX}");
    let shell = Command::new("sh").args(["-c", line, "sh", &prefix, &destdir]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    shell.current_dir(&root).env("MAKEFLAGS", "").env("MAKELEVEL", "0").run()?.refused()?;
    ensure!(fs::read_to_string(&program)? == "of the version before");
    Ok(())
}

#[test]
fn installed_programs_say_who_they_are() -> Result<()> {
    let installed = Installed::new()?;
    for (program, name) in PROGRAMS.into_iter().zip([
        Runtime::Wasmtime.name(),
        Runtime::Wasmtimed.name(),
        "containerd-wasmtimed",
    ]) {
        let said = Command::new(installed.path(program)).args(["-v"]).run()?.ok()?;
        ensure!(said.out().contains(name), "{said}");
    }
    Ok(())
}

/// The values of a directive in a unit.
fn values<'a>(unit: &'a str, directive: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('=')).collect()
}

#[test]
fn installed_units_start_the_installed_daemon_at_its_default_socket() -> Result<()> {
    let installed = Installed::new()?;
    let (service, socket) = (installed.read(FILES[0])?, installed.read(FILES[1])?);
    let started = values(&service, "ExecStart");
    ensure!(started == [format!("\"{PREFIX}/{}\" --guard", PROGRAMS[2])], "{started:?}");
    let (listens, defaults) = (values(&socket, "ListenStream"), installed.defaults()?);
    ensure!(
        listens.len() == 1 && defaults.contains(&format!("socket = \"{}\"\n", listens[0])),
        "{listens:?}: {defaults}"
    );
    Ok(())
}

#[test]
fn service_has_nothing_that_makes_a_mount_namespace() -> Result<()> {
    // Of systemd.exec(5). The daemon and `delete` would no longer see what containerd mounts.
    const NAMESPACED: [&str; 23] = [
        "BindPaths",
        "BindReadOnlyPaths",
        "DynamicUser",
        "ExecPaths",
        "InaccessiblePaths",
        "LogNamespace",
        "MountAPIVFS",
        "MountFlags",
        "NoExecPaths",
        "PrivateDevices",
        "PrivateIPC",
        "PrivateMounts",
        "PrivateTmp",
        "ProcSubset",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectKernel",
        "ProtectProc",
        "ProtectSystem",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "Root",
        "TemporaryFileSystem",
    ];
    let service = Installed::new()?.read(FILES[0])?;
    let directives: Vec<_> = service.lines().filter(|line| !line.starts_with('#')).collect();
    ensure!(directives.contains(&"KillMode=process"), "{service}");
    for name in NAMESPACED {
        ensure!(!directives.iter().any(|line| line.starts_with(name)), "{name}");
    }
    Ok(())
}

#[test]
fn example_settings_are_the_defaults() -> Result<()> {
    let installed = Installed::new()?;
    let (example, defaults) =
        (installed.settings(&installed.path(FILES[3]))?, installed.defaults()?);
    ensure!(example == defaults, "{example}is not\n{defaults}");
    Ok(())
}

#[test]
fn load_makes_a_containerd_of_the_users_choice_know_the_images() -> Result<()> {
    load_makes_known(Version::Machine)
}

#[test]
fn load_makes_a_containerd_1_7_know_the_images() -> Result<()> {
    load_makes_known(Version::V1_7)
}

#[test]
fn load_makes_a_containerd_2_know_the_images() -> Result<()> {
    load_makes_known(Version::V2)
}

fn load_makes_known(version: Version) -> Result<()> {
    let wasm = WasmImage::ALL.map(Image::Wasm);
    let images = || [Image::Wasmtest, Image::WasmtestNative].into_iter().chain(wasm);
    for image in images() {
        ensure!(
            image.tar().exists(),
            "{} is missing: `make images` writes it",
            image.tar().display()
        );
    }
    let fixture = Containerd::builder().version(version).start()?;
    let (address, namespace) = (
        format!("ADDRESS={}", fixture.address().display()),
        format!("NAMESPACE={}", fixture.namespace()),
    );
    let said = make(["load", &address, &namespace]).run()?.ok()?;
    let warned = said.out().contains("cannot run the wasm images");
    ensure!(warned != version.runs_wasm_images(), "{said}");
    let list = fixture.ctr(["image", "ls", "-q"])?.ok()?;
    for image in images() {
        ensure!(list.out().lines().any(|line| line == image.name()), "no {}: {list}", image.name());
    }
    let run = [
        "run",
        "--rm",
        "--runtime",
        Runtime::Wasmtime.name(),
        Image::Wasmtest.name(),
        &fixture.id("loaded"),
    ];
    let out = fixture.ctr(run)?.ok()?;
    ensure!(out.out() == "Hello from wasm!\n", "{out}");
    fixture.becomes_clean()
}
