//! The installer's image, imported by a real containerd: its installer runs as a container and works on a root at `/host`.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use runwasi_installer::options::Options;
use runwasi_installer::status;
use runwasi_tests::{Command, Containerd, Version};

use crate::fixture::{PROGRAMS, project};

const NAME: &str = "docker.io/library/runwasi-node:latest";
const CONFIG: &str = "# Of the node.\nversion = 3\n";

#[test]
fn installer_of_the_image_installs_and_uninstalls_from_a_container() -> Result<()> {
    let fixture = Containerd::builder().version(Version::V2).start()?;
    let tar = fixture.dir().join("node.tar");
    Command::new(project().join("scripts/node-image")).args([&tar]).run()?.ok()?;
    fixture.import(&tar, false)?;
    fs::remove_file(&tar)?;
    let root = fixture.dir().join("node");
    for directory in ["etc/containerd", "usr/local/bin", "var/lib"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::write(root.join("etc/containerd/config.toml"), CONFIG)?;
    let run = |words: &[&str]| {
        let mount = format!("type=bind,src={},dst=/host,options=rbind:rw", root.display());
        let id = fixture.id(words[0]);
        let arguments = ["run", "--rm", "--mount", &mount, NAME, &id, "/runwasi-node-installer"];
        fixture.ctr([&arguments[..], words, &["--no-restart"]].concat())
    };
    run(&["install"])?.ok()?;
    let config = fs::read_to_string(root.join("etc/containerd/config.toml"))?;
    ensure!(config.starts_with(CONFIG) && config.contains("runtimes.wasmtimed]\n"), "{config}");
    for program in PROGRAMS {
        says_its_version(&root.join("usr/local/bin").join(program))?;
    }
    // Nothing is restarted, and so something is due.
    run(&["status"])?.status_is(3)?;
    let status = status(&Options { root: root.clone(), ..Options::default() })?;
    ensure!(status.lines.contains(&"containerd: restart due".to_owned()), "{status:?}");
    run(&["uninstall"])?.ok()?;
    ensure!(fs::read_to_string(root.join("etc/containerd/config.toml"))? == CONFIG);
    says_its_version(&root.join("usr/local/bin").join(PROGRAMS[0]))?;
    run(&["uninstall", "--force"])?.ok()?;
    let left = Command::new("find").args([&root]).args(["-type", "f"]).run()?.ok()?.out();
    ensure!(left.lines().count() == 1, "{left}");
    fixture.becomes_clean()
}

fn says_its_version(program: &Path) -> Result<()> {
    Command::new(program).args(["-v"]).run()?.ok()?;
    Ok(())
}
