//! Man pages, completions and `config check`: no daemon is asked.

use std::fs;

use anyhow::{Result, ensure};
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::{Command, says};

#[test]
fn completions_are_valid_scripts() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(daemon_file()).args(["completions", shell]).run()?.ok()?.out();
        says(&script, &["inspect", "unused-for", "debug"], &[])?;
        if shell == "bash" {
            let file = directory.path().join("script");
            fs::write(&file, script)?;
            Command::new("bash").args(["-n"]).args([&file]).run()?.ok()?;
        }
    }
    Command::new(daemon_file()).args(["completions", "tcsh"]).run()?.status_is(1)?;
    Ok(())
}

#[test]
fn man_pages_are_made_for_each_command() -> Result<()> {
    let directory = tempfile::tempdir()?;
    Command::new(daemon_file()).args(["man"]).args([directory.path()]).run()?.ok()?;
    for name in ["", "-inspect", "-cache-prune"] {
        let page = directory.path().join(format!("containerd-wasmtimed{name}.8"));
        let page = fs::read_to_string(page)?;
        ensure!(page.contains(".TH") && page.contains("SYNOPSIS"), "{page}");
    }
    Ok(())
}

#[test]
fn config_check_names_the_place_of_a_wrong_value() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("d.toml");
    let check = |toml: &str| {
        fs::write(&file, toml)?;
        Command::new(daemon_file()).args(["config", "check"]).args([&file]).run()
    };
    let said = check("grace = 5\n[engine]\nsimd = true\n")?.ok()?;
    ensure!(said.out() == format!("{}: valid\n", file.display()), "{said}");
    says(&check("\ngrace = -5\n")?.status_is(1)?.err(), &["d.toml:2: grace"], &[])?;
    says(&check("[engine]\nsimdd = true\n")?.status_is(1)?.err(), &["d.toml:2", "simdd"], &[])?;
    Ok(())
}
