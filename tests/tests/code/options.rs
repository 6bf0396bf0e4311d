//! containerd's runtime options, by `ctr run --runtime-config-path`; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::says;

use crate::fixture::{Fixture, names};
use crate::modules::{SPINNING, printing};

const PATH: &str = "--runtime-config-path";

pub(crate) fn unknown_and_wrong_options_are_refused_with_their_line(b: &mut Fixture) -> Result<()> {
    b.module("guest.wat", printing("", ""))?;
    for (text, line, key, reason) in [
        ("[engine]\ngc = true\ngcc = true\n", 3, "engine.gcc", "unknown key"),
        ("slots = 100\ngrace = 5\n", 2, "grace", "unknown key"),
        ("\n[engine]\ngc = 1\n", 3, "engine.gc", "not a boolean"),
        ("[engine]\n\noptimise = 'most'\n", 3, "engine.optimise", "none of speed"),
        ("slots = \n", 1, "", ""),
    ] {
        let options = b.options(text)?;
        says(
            &b.refusal_with(&[PATH, &options], "guest.wat")?,
            &[&format!("options.toml:{line}: "), key],
            &[reason],
        )?;
    }
    b.runs("guest.wat")
}

pub(crate) fn missing_options_file_is_named(b: &mut Fixture) -> Result<()> {
    b.module("guest.wat", printing("", ""))?;
    says(
        &b.refusal_with(&[PATH, "/absent/o.toml"], "guest.wat")?,
        &["/absent/o.toml"],
        &["no such file"],
    )?;
    says(&b.refusal_with(&[PATH, "o.toml"], "guest.wat")?, &["o.toml"], &["not an absolute path"])
}

pub(crate) fn containers_of_a_pod_have_one_engine(b: &mut Fixture) -> Result<()> {
    b.module("spin.wat", SPINNING)?;
    b.module("guest.wat", printing("", ""))?;
    let group = format!("io.kubernetes.cri.sandbox-id={}", b.id("pod"));
    let kind = "io.kubernetes.cri.container-type=container";
    let pod = ["--annotation", &group, "--annotation", kind];
    let first = b.id("first");
    let options = b.options("[engine]\nsimd = false\n")?;
    b.start(&[&pod[..], &["-d", PATH, &options]].concat(), &first, "spin.wat").run()?.ok()?;
    let same = b
        .start(&[&pod[..], &["--rm", PATH, &options]].concat(), &b.id("same"), "guest.wat")
        .run()?
        .ok()?;
    ensure!(same.out() == "ok\n", "{same}");
    let options = b.options("\n[engine]\nsimd = true\n")?;
    let other = b
        .start(&[&pod[..], &["--rm", PATH, &options]].concat(), &b.id("other"), "guest.wat")
        .run()?
        .refused()?;
    says(&other, &["options.toml:3: engine.simd", "false"], &["earlier container"])?;
    ensure!(b.kill_and_finish(&first)? == 137);
    b.fixture.becomes_clean()
}

pub(crate) fn options_name_the_cache_and_its_size(b: &mut Fixture) -> Result<()> {
    let other = b.fixture.dir().join("other");
    for n in 0..4 {
        // About 400 KiB of code each, unlike one another.
        b.module(&format!("{n}.wat"), crate::modules::large(250 + n))?;
        let options = b.options(&format!("cache = {:?}\ncache-size = 1\n", other))?;
        b.start(&["--rm", PATH, &options], &b.id("run"), &format!("{n}.wat")).run()?.ok()?;
    }
    ensure!(b.kept().is_empty(), "{:?} is kept elsewhere", b.kept());
    let kept = names(&other);
    let total: u64 = kept
        .iter()
        .map(|name| std::fs::metadata(other.join(name)).map_or(0, |file| file.len()))
        .sum();
    ensure!(!kept.is_empty() && kept.len() < 4 && total <= 1 << 20, "{total} bytes in {kept:?}");
    b.fixture.becomes_clean()
}

pub(crate) fn daemon_takes_options_that_it_fulfils_and_refuses_others(
    b: &mut Fixture,
) -> Result<()> {
    b.module("guest.wat", printing("", ""))?;
    let options = b.options("[engine]\nsimd = true\nquantum = 1000\n")?;
    b.start(&["--rm", PATH, &options], &b.id("same"), "guest.wat").run()?.ok()?;
    let options = b.options("[engine]\nsimd = true\nquantum = 2000\n")?;
    let said = b.refusal_with(&[PATH, &options], "guest.wat")?;
    says(&said, &["options.toml:3: engine.quantum", "2000", "1000"], &["daemon"])?;
    b.runs("guest.wat")
}
