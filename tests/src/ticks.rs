//! The output of a guest that prints a line each second, read past containerd and `ctr`; called by tests.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;

use crate::poll::poll_until;
use crate::proc;

/// The reading end of the stdout of a detached container that runs `daemon`.
#[derive(Debug)]
pub struct Ticks {
    file: File,
    heard: String,
}

impl Ticks {
    /// Opens the FIFO that `ctr run -d` has made for this container.
    pub fn of(id: &str) -> Result<Self> {
        let fifos = proc::fifos_of(id);
        let stdout = fifos.iter().find(|path| path.to_string_lossy().ends_with("-stdout"));
        let path = stdout.with_context(|| format!("no stdout of {id} among {fifos:?}"))?;
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        Ok(Self {
            file: File::options().read(true).custom_flags(nonblock).open(path)?,
            heard: String::new(),
        })
    }

    /// Waits for two more lines than now; from the first heard on none may be missing. `ctr run -d` itself may have taken
    /// the guest's very first.
    pub fn go_on(&mut self) -> Result<()> {
        self.drain();
        let wanted = self.heard.lines().count() + 2;
        poll_until("two more ticks", Duration::from_secs(20), || {
            self.drain();
            (self.heard.lines().count() >= wanted).then_some(())
        })
        .with_context(|| format!("heard until now: {:?}", self.heard))?;
        let numbers = self
            .heard
            .lines()
            .map(|line| line.strip_prefix("tick ").and_then(|n| n.parse::<usize>().ok()));
        let numbers: Vec<_> =
            numbers.collect::<Option<_>>().with_context(|| format!("{:?}", self.heard))?;
        let follow = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
        ensure!(follow, "output is missing: {:?}", self.heard);
        Ok(())
    }

    /// How many lines were heard.
    pub fn count(&self) -> usize {
        self.heard.lines().count()
    }

    /// Takes what is there.
    pub fn drain(&mut self) {
        let mut bytes = Vec::new();
        // Ends with an error, "would block", once it is empty.
        self.file.read_to_end(&mut bytes).err();
        self.heard.push_str(&String::from_utf8_lossy(&bytes));
    }
}
