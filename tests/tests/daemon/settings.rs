//! The daemon's settings: what is refused, before anything is made, and which source wins.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::{Command, Runtime, says};

/// The daemon with this configuration file and a state directory that is not there yet.
fn daemon(dir: &Path, toml: &str) -> Result<Command> {
    let config = dir.join("config.toml");
    std::fs::write(&config, toml)?;
    let (config, socket) = (config.to_string_lossy(), dir.join("d/manager.sock"));
    Ok(Command::new(daemon_file()).args([
        "--config",
        &*config,
        "--socket",
        &*socket.to_string_lossy(),
    ]))
}

/// What it says about these settings, with nothing made.
fn refused(toml: &str, flags: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let command = variables
        .iter()
        .fold(daemon(dir.path(), toml)?, |command, (name, value)| command.env(name, value));
    let said = command.args(flags).run()?.refused()?;
    ensure!(
        !dir.path().join("d").exists(),
        "a state directory was made before the settings were judged"
    );
    Ok(said)
}

#[test]
fn unknown_key_is_refused_with_file_and_line() -> Result<()> {
    let said = refused("grace = 5\nslots = 4\nsloots = 4\n", &[], &[])?;
    says(&said, &["config.toml:3", "sloots"], &["unknown"])?;
    let said = refused("[sandbox]\ngrace = 5\n", &[], &[])?;
    says(&said, &["config.toml:1", "sandbox"], &["unknown"])
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() -> Result<()> {
    let lines = [
        ("grace", "3601"),
        ("grace", "-1"),
        ("grace", "\"soon\""),
        ("slots", "0"),
        ("slots", "100001"),
        ("cache", "\"relative/path\""),
        ("log-level", "\"loud\""),
        ("bundle-roots", "[\"relative\"]"),
        ("bundle-roots", "[]"),
        ("socket", "\"relative.sock\""),
        ("socket", &format!("\"/{}\"", "x".repeat(200))),
    ];
    for (key, value) in lines {
        let said = refused(&format!("# first\n{key} = {value}\n"), &[], &[])?;
        says(&said, &["config.toml:2", key], &[])?;
    }
    says(&refused("grace = \n", &[], &[])?, &["config.toml:1"], &[])?;
    says(&refused("", &["--grace", "soon"], &[])?, &["--grace"], &[])?;
    says(&refused("", &["--gracious"], &[])?, &["--gracious"], &[])?;
    let variable = "CONTAINERD_WASMTIMED_SLOTS";
    says(&refused("", &[], &[(variable, "many")])?, &[variable], &[])
}

#[test]
fn engine_settings_are_judged_and_printed_with_the_rest() -> Result<()> {
    let said = refused("grace = 5\n[engine]\ngc = true\ngcc = true\n", &[], &[])?;
    says(&said, &["config.toml:4", "engine.gcc"], &["unknown"])?;
    let said = refused("[engine]\nquantum = 5\n", &[], &[])?;
    says(&said, &["config.toml:2", "engine.quantum"], &["not between"])?;
    let dir = tempfile::tempdir()?;
    let printed =
        daemon(dir.path(), "[engine]\nsimd = false\n")?.args(["--print-config"]).run()?.ok()?.out();
    for line in [
        "cache-size = 1024 # MiB",
        "[engine]",
        "simd = false",
        "gc = true",
        "quantum = 1000 # microseconds",
    ] {
        ensure!(printed.lines().any(|printed| printed == line), "no {line:?} in {printed}");
    }
    let again = daemon(dir.path(), &printed)?.args(["--print-config"]).run()?.ok()?.out();
    ensure!(again == printed, "{again} instead of {printed}");
    Ok(())
}

#[test]
fn printed_config_shows_the_numbers_in_force() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let print = |toml: &str, flags: &[&str]| -> Result<String> {
        let command = daemon(dir.path(), toml)?.args(flags).args(["--print-config"]);
        Ok(command.run()?.ok()?.out())
    };
    let printed = print("[engine]\ntables = 77\n", &["--slots", "1000"])?;
    for line in ["slots = 1000", "# memories = 1500 # by slots", "tables = 77"] {
        ensure!(printed.lines().any(|printed| printed == line), "no {line:?} in {printed}");
    }
    let printed = print("", &[])?;
    let value = |key: &str| -> Result<u32> {
        let lines = printed.lines().filter_map(|line| line.strip_prefix(key));
        let value = lines.filter_map(|rest| rest.split_whitespace().next()).next();
        Ok(value.with_context(|| format!("no {key:?} in {printed}"))?.parse()?)
    };
    let slots = value("# slots = ")?;
    ensure!(slots >= 16 && value("# tables = ")? == 2 * slots, "{printed}");
    ensure!(print(&printed, &[])? == printed);
    Ok(())
}

#[test]
fn overridden_value_of_the_file_is_checked() -> Result<()> {
    let variable = ("CONTAINERD_WASMTIMED_SLOTS", "5");
    let said = refused("grace = 5\nslots = 0\n", &["--slots", "7"], &[variable])?;
    says(&said, &["config.toml:2: slots: 0"], &["not between 1 and 100000"])?;
    let said = refused("", &["--slots", "7"], &[("CONTAINERD_WASMTIMED_SLOTS", "0")])?;
    says(&said, &["CONTAINERD_WASMTIMED_SLOTS: 0"], &["not between 1 and 100000"])
}

#[test]
fn help_is_no_failure() -> Result<()> {
    let shims = [Runtime::Wasmtime, Runtime::Wasmtimed].into_iter();
    for program in shims.filter_map(Runtime::program_file).chain([daemon_file()]) {
        for flag in ["--help", "-h"] {
            let answer = Command::new(&program).args([flag]).run()?.ok()?;
            ensure!(answer.out().contains("-v"), "{}: {answer}", program.display());
        }
    }
    Ok(())
}

#[test]
fn printed_config_is_read_back_and_flags_win_over_environment_and_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let toml = "grace = 1\nslots = 10\nlog-level = \"warn\"\n";
    let sources = || -> Result<Command> {
        let command = daemon(dir.path(), toml)?.args(["--grace", "3", "--print-config"]);
        Ok(command.env("CONTAINERD_WASMTIMED_GRACE", "2").env("CONTAINERD_WASMTIMED_SLOTS", "20"))
    };
    let printed = sources()?.run()?.ok()?.out();
    for line in ["grace = 3", "slots = 20", "log-level = \"warn\""] {
        let is_line = |printed: &str| printed.split('#').next().map(str::trim) == Some(line);
        ensure!(printed.lines().any(is_line), "no {line:?} in {printed}");
    }
    let again = daemon(dir.path(), &printed)?.args(["--print-config"]).run()?.ok()?.out();
    ensure!(again == printed, "{again} instead of {printed}");
    ensure!(!dir.path().join("d").exists(), "printing the settings made something");
    Ok(())
}
