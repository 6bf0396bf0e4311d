//! FIFOs whose readers are slow, late or gone; the cases are listed in `main.rs`. One without any reader is the suite
//! `bad_input`'s.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::bundle::{Bundle, fifo};
use runwasi_tests::shim::{LIMIT, TaskClient};
use runwasi_tests::{ShimDriver, poll_until};
use rustix::fs::OFlags;

const ID: &str = "prints";

/// A guest that prints so many bytes into a FIFO, created and not started.
struct Printing<'a> {
    p: &'a ShimDriver,
    bundle: Bundle,
    client: TaskClient,
    stdout: PathBuf,
}

impl<'a> Printing<'a> {
    fn bytes(p: &'a ShimDriver, count: usize) -> Result<Self> {
        let bundle = p.bundle(ID, &[p.runtime().guest(), "bytes", &count.to_string()])?;
        bundle.add_guests()?;
        let (client, stdout) = (p.connect(ID, bundle.path())?, p.dir().join("out"));
        fifo(&stdout)?;
        Ok(Self { p, bundle, client, stdout })
    }

    /// With a reader there: the shim waits for one for a moment.
    fn created(&self) -> Result<File> {
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        let reader = File::options().read(true).custom_flags(nonblock).open(&self.stdout)?;
        self.client.create_with_output(ID, self.bundle.path(), &self.stdout)?;
        Ok(reader)
    }

    fn over(self) -> Result<()> {
        self.client.delete(ID)?;
        self.p.finish(&self.client, ID, self.bundle.path())?;
        self.p.becomes_clean()
    }
}

/// Reads at least one byte, unless it is the end.
fn read(reader: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let read = poll_until("output", LIMIT, || match reader.read(buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        result => Some(result),
    });
    Ok(read??)
}

/// Demands that these are the guest's bytes from number `from` on.
fn are_those_from(from: usize, bytes: &[u8]) -> Result<()> {
    let wrong = bytes.iter().zip(from..).find(|(byte, n)| usize::from(**byte) != n % 251);
    ensure!(wrong.is_none(), "byte {wrong:?} after {from}");
    Ok(())
}

pub(crate) fn slow_reader_gets_everything_and_disturbs_nobody(p: &ShimDriver) -> Result<()> {
    const COUNT: usize = 400_000;
    let printing = Printing::bytes(p, COUNT)?;
    let mut reader = printing.created()?;
    printing.client.start(ID)?;
    let reading = thread::spawn(move || -> Result<Vec<u8>> {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        loop {
            match read(&mut reader, &mut buffer)? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
            // Slower than any guest prints.
            let _ = receiver.recv_timeout(Duration::from_millis(3));
        }
    });
    // Meanwhile its own shim answers, and others live and end.
    while !reading.is_finished() {
        let other = p.bundle("other", &[p.runtime().guest(), "exit", "0"])?;
        other.add_guests()?;
        let client = p.connect("other", other.path())?;
        client.create("other", other.path(), &[])?;
        client.start("other")?;
        ensure!(client.wait("other")?.exit_status == 0);
        client.delete("other")?;
        p.finish(&client, "other", other.path())?;
    }
    let all = reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(all.len() == COUNT, "{} of {COUNT} bytes", all.len());
    are_those_from(0, &all)?;
    ensure!(printing.client.wait(ID)?.exit_status == 0);
    printing.over()
}

pub(crate) fn exit_is_told_when_the_reader_has_everything(p: &ShimDriver) -> Result<()> {
    const COUNT: usize = 40_000;
    let printing = Printing::bytes(p, COUNT)?;
    let mut reader = printing.created()?;
    printing.client.start(ID)?;
    // The guest has printed something, and so everything: it fits into the pipe.
    let mut all = vec![0; COUNT + 1];
    ensure!(read(&mut reader, &mut all[..1])? == 1);
    let early = p
        .hears(&["/tasks/create", "/tasks/start"])
        .and_then(|()| told_within(p, Duration::from_millis(300)));
    ensure!(early.is_err(), "the exit was told before its output was read");
    let mut count = 1;
    while count < COUNT {
        count += read(&mut reader, &mut all[count..])?;
    }
    ensure!(printing.client.wait(ID)?.exit_status == 0);
    p.hears(&["/tasks/create", "/tasks/start", "/tasks/exit"])?;
    are_those_from(0, &all[..COUNT])?;
    ensure!(read(&mut reader, &mut all)? == 0, "somebody could still write");
    printing.over()
}

fn told_within(p: &ShimDriver, limit: Duration) -> Result<()> {
    poll_until("an exit", limit, || {
        p.topics().iter().any(|topic| topic == "/tasks/exit").then_some(())
    })
}

pub(crate) fn reader_that_has_gone_is_replaced_without_a_loss(p: &ShimDriver) -> Result<()> {
    const COUNT: usize = 300_000;
    let printing = Printing::bytes(p, COUNT)?;
    let mut first = printing.created()?;
    printing.client.start(ID)?;
    let mut buffer = vec![0; COUNT];
    let taken = read(&mut first, &mut buffer[..1000])?;
    drop(first);
    are_those_from(0, &buffer[..taken])?;
    // More than a pipe holds is to come: without a reader the guest waits.
    let mut second = File::open(&printing.stdout)?;
    let mut rest = Vec::new();
    second.read_to_end(&mut rest)?;
    ensure!(taken + rest.len() == COUNT, "{taken} and {} of {COUNT} bytes", rest.len());
    are_those_from(taken, &rest)?;
    ensure!(printing.client.wait(ID)?.exit_status == 0);
    printing.over()
}
