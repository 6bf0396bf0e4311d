//! Tables of runtimes in containerd's configuration.

use std::fmt::Write;

use crate::Error;
use crate::options::Runtime;

/// Versions of the configuration that this program knows: 2 is read by containerd 1.3 to 2.x, 3 by
/// 2.0, 4 by 2.3.
pub(crate) const VERSIONS: std::ops::RangeInclusive<i64> = 2..=4;

/// The name of the plugin that has the runtimes.
pub(crate) fn plugin(version: i64) -> &'static str {
    if version == 2 { "io.containerd.grpc.v1.cri" } else { "io.containerd.cri.v1.runtime" }
}

/// Programs of a directory in the `PATH` of containerd's unit are found by the runtime's name.
/// Elsewhere the path is the name: `runtime_path` does the same only for pods that the CRI makes,
/// not for `sandboxer = "shim"`.
pub(crate) fn runtime_type(runtime: Runtime, bin_dir: &str) -> String {
    const SEARCHED: [&str; 6] =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    match SEARCHED.contains(&bin_dir) {
        true => runtime.containerd_name().to_owned(),
        false => format!("{bin_dir}/{}", runtime.shim()),
    }
}

/// The tables of the project's runtimes.
pub(crate) fn runtimes(
    file: &str,
    version: i64,
    runtimes: &[Runtime],
    bin_dir: &str,
    sandboxer: bool,
) -> Result<String, Error> {
    if sandboxer && version == 2 {
        let reason = "version 2 of the configuration has no `sandboxer`: it needs containerd 2 and version 3";
        return Err(Error::file(file, reason));
    }
    let mut text = String::new();
    for runtime in runtimes {
        let name = quoted(&runtime_type(*runtime, bin_dir));
        let header = header(version, runtime.handler());
        let lines =
            format!("{header}  runtime_type = {name}\n  pod_annotations = [\"io.runwasi.*\"]\n");
        text.push_str(&lines);
        if sandboxer {
            text.push_str("  sandboxer = \"shim\"\n");
        }
    }
    Ok(text)
}

/// Whether the tables that [`runtimes`] makes have one of this runtime.
pub(crate) fn has(tables: &str, runtime: Runtime) -> bool {
    let header = [2, 3].map(|version| header(version, runtime.handler()));
    header.iter().any(|header| tables.contains(header))
}

/// The table of runc with its defaults. containerd 1.x has it by default only while a file has no
/// table of a runtime: a first one replaces the whole map.
pub(crate) fn runc(version: i64) -> String {
    let header = header(version, "runc");
    format!("{header}  runtime_type = \"io.containerd.runc.v2\"\n")
}

fn header(version: i64, name: &str) -> String {
    format!("[plugins.\"{}\".containerd.runtimes.{name}]\n", plugin(version))
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                // Writing to a string does not fail.
                write!(quoted, "\\u{:04X}", u32::from(letter)).ok();
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
