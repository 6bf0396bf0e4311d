//! How late a guest's timer fires; called by `scheduling`.
//!
//! The guest sleeps 5 ms again and again and prints how long each sleep took. The same program runs natively at the same
//! time, beside the daemon, which shows how late the machine's own timers are.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;
use runwasi_tests::runtime::target_dir;
use tokio::net::unix::pipe;

use super::spinners::Spinners;
use crate::fake_containerd::{Container, FakeContainerd, Tasks};

/// The guest's arguments: milliseconds, and how often.
const TIMER: [&str; 3] = ["timer", "5", "600"];

/// Far above what so many sleeps take among spinners.
const LIMIT: Duration = Duration::from_secs(120);

/// How long each sleep of the guest and of the native program took by its own clock, in milliseconds.
pub(super) fn measure(
    fake: &FakeContainerd,
    spinners: &mut Spinners,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let native = Command::new(target_dir().join("guests/wasmtest-native"))
        .args(TIMER)
        .deadline(LIMIT)
        .spawn()?;
    let (tasks, mut container) = spinners.guest(&TIMER)?;
    let fifo = container.pipe_output()?.to_owned();
    let (text, ()) =
        fake.run(async { tokio::try_join!(read_to_end(&fifo), whole_life(tasks, &container)) })?;
    Ok((sleeps(&text)?, sleeps(&native.wait()?.ok()?.out())?))
}

async fn whole_life(tasks: &Tasks, container: &Container) -> Result<()> {
    tasks.create(container).await?;
    tasks.start(&container.id).await?;
    tasks.wait(&container.id).await?;
    tasks.delete(&container.id).await
}

/// Everything that is written to a FIFO until its last writer leaves.
async fn read_to_end(fifo: &Path) -> Result<String> {
    let pipe = pipe::OpenOptions::new().open_receiver(fifo).context("cannot open a FIFO")?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        pipe.readable().await?;
        match pipe.try_read(&mut chunk) {
            Ok(0) => return Ok(String::from_utf8(bytes)?),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("cannot read a FIFO"),
        }
    }
}

fn sleeps(text: &str) -> Result<Vec<f64>> {
    let sleeps = text.split_whitespace().map(|word| Ok(word.parse::<f64>()? / 1e3));
    let sleeps: Vec<f64> =
        sleeps.collect::<Result<_>>().with_context(|| format!("not a timer's output: {text:?}"))?;
    ensure!(
        sleeps.len().to_string() == TIMER[2],
        "{} sleeps instead of {}",
        sleeps.len(),
        TIMER[2]
    );
    Ok(sleeps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sleeps_must_be_told() {
        let all = "5060 ".repeat(600);
        assert_eq!(sleeps(&all).unwrap()[599], 5.06);
        assert!(sleeps("5060 5070").is_err());
        assert!(sleeps(&all.replace("5060", "five")).is_err());
    }
}
