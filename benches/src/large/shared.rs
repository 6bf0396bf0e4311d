//! What ten shims that run the same large program have in memory of its compiled code; used by `large`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Runtime, proc};

use crate::fake_containerd::{FakeContainerd, Sandbox, Storage};
use crate::options::short;
use crate::processes::{at_rest, of_pod, usage};
use crate::results::Row;
use crate::{Bench, stats};

const SHIMS: usize = 10;

/// The most of its code that a shim may have for itself.
const GOAL_PRIVATE: f64 = 0.05;

const MODULE: &str = "resvg.wasm";

/// A guest that has used no CPU for this long waits for its input.
const QUIET: Duration = Duration::from_millis(1500);

/// What an OS process has in memory of the files below a directory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mapped {
    /// Pages that others have, too.
    shared: u64,
    /// Pages that nobody else has.
    private: u64,
}

/// The guests wait for a picture on their standard input, which never comes.
pub(super) fn measure(bench: &Bench, runtime: Runtime) -> Result<Vec<Row>> {
    bench.say(&format!("large: memory of {SHIMS} shims that run {MODULE}: {}", short(runtime)))?;
    FakeContainerd::play_with_empty_cache(runtime, Storage::Memory, |fake| {
        fake.add_guest(MODULE)?;
        let sandboxes = (0..SHIMS).map(|n| start(bench, fake, n)).collect::<Result<Vec<_>>>()?;
        let rows = figures(bench, fake, runtime, &sandboxes)?;
        for sandbox in sandboxes {
            fake.run(sandbox.tasks.remove(&sandbox.id))?;
            fake.leave(sandbox);
        }
        fake.becomes_empty()?;
        Ok(rows)
    })
}

fn start(bench: &Bench, fake: &FakeContainerd, number: usize) -> Result<Sandbox> {
    bench.interrupt.check()?;
    let mut container =
        fake.program(&format!("waits{number}"), &[&format!("/{MODULE}"), "-", "-c"])?;
    container.hold_input()?;
    let sandbox = fake.sandbox(&container)?;
    fake.run(async {
        sandbox.tasks.create(&container).await?;
        sandbox.tasks.start(&container.id).await
    })?;
    Ok(sandbox)
}

fn figures(
    bench: &Bench,
    fake: &FakeContainerd,
    runtime: Runtime,
    sandboxes: &[Sandbox],
) -> Result<Vec<Row>> {
    let address = fake.address();
    let pids = sandboxes.iter().map(|sandbox| {
        let mut pids = of_pod(&address, &sandbox.id);
        // The process of the sandbox shares the memory of its shim.
        pids.retain(|pid| !proc::is_sandbox(*pid));
        ensure!(pids.len() == 1, "{} has the OS processes {pids:?}, not one shim", sandbox.id);
        Ok(pids[0])
    });
    let pids = pids.collect::<Result<Vec<_>>>()?;
    at_rest(&bench.interrupt, QUIET, || Ok(usage(&pids)?.ticks))?;
    let code = pids.iter().map(|pid| mapped(*pid, fake.cache())).collect::<Result<Vec<_>>>()?;
    let whole = pids.iter().map(|pid| usage(&[*pid])).collect::<Result<Vec<_>>>()?;
    let sum = code.iter().fold(Mapped::default(), |sum, one| Mapped {
        shared: sum.shared + one.shared,
        private: sum.private + one.private,
    });
    ensure!(
        sum.shared + sum.private > 0,
        "no shim has mapped compiled code below {}",
        fake.cache().display()
    );
    let mean = |values: Vec<u64>| {
        stats::mean(&values.into_iter().map(|bytes| bytes as f64 / 1e6).collect::<Vec<_>>())
    };
    let row = |figure: &str, value| {
        Row::new(format!("large_shims_{figure}"), short(runtime), value, "MB")
    };
    let share = sum.private as f64 / (sum.private + sum.shared) as f64;
    Ok(vec![
        row("pss_mean", mean(whole.iter().map(|used| used.pss).collect())?),
        row("private_mean", mean(whole.iter().map(|used| used.private).collect())?),
        row("code_shared_mean", mean(code.iter().map(|code| code.shared).collect())?),
        row("code_private_mean", mean(code.iter().map(|code| code.private).collect())?),
        Row::new("large_shims_code_private_part", short(runtime), share, "x").at_most(GOAL_PRIVATE),
    ])
}

fn mapped(pid: u32, directory: &Path) -> Result<Mapped> {
    let file = format!("/proc/{pid}/smaps");
    let smaps = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    Ok(below(&smaps, directory))
}

/// Sums up the mappings of files below a directory. A mapping is a line with its place, then its fields.
fn below(smaps: &str, directory: &Path) -> Mapped {
    let mut sum = Mapped::default();
    let mut counts = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some(field) if field.ends_with(':') => {
                let bytes =
                    words.next().and_then(|size| size.parse::<u64>().ok()).unwrap_or(0) * 1024;
                match field {
                    "Shared_Clean:" | "Shared_Dirty:" if counts => sum.shared += bytes,
                    "Private_Clean:" | "Private_Dirty:" if counts => sum.private += bytes,
                    _ => {}
                }
            }
            _ => counts = words.nth(4).is_some_and(|path| Path::new(path).starts_with(directory)),
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f00-7f10 r-xp 00001000 fe:00 77 /c/cache/key-module
Size:                 64 kB
Shared_Clean:         40 kB
Private_Clean:         4 kB
Private_Dirty:         8 kB
7f10-7f20 rw-p 00000000 00:00 0
Private_Dirty:       999 kB
7f20-7f30 r--p 00000000 fe:00 78 /c/cached/other
Shared_Clean:        999 kB
7f30-7f40 r--p 00000000 fe:00 77 /c/cache/key-module
Shared_Clean:          2 kB
";

    #[test]
    fn only_files_below_the_directory_count() {
        let sum = below(SMAPS, Path::new("/c/cache"));
        assert_eq!(sum, Mapped { shared: 42 * 1024, private: 12 * 1024 });
    }
}
