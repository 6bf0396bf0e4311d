//! A FUSE file system of the test's own whose file is there, but whose reads and writes are never answered, as those of a server
//! that is away; used by `files`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The numbers of the requests that it knows (`linux/fuse.h`).
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;
/// Each read asks the server: nothing is kept in the page cache.
const DIRECT_IO: u32 = 1;
const ROOT: u64 = 1;
const HEADER: usize = 40;

/// The mounted file system; ends with all its calls when dropped.
pub struct Hung {
    directory: PathBuf,
    hung: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Hung {
    /// Mounts it at a new directory. Its file is `f`.
    pub fn mount(directory: &Path) -> Result<Self> {
        fs::create_dir(directory)?;
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = std::ffi::CString::new(options)?;
        mount("hang", directory, "fuse", MountFlags::empty(), options.as_c_str())
            .context("cannot mount a FUSE file system")?;
        let hung = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let server = std::thread::spawn({
            let hung = hung.clone();
            let over = over.clone();
            move || serve(device, &hung, &over)
        });
        Ok(Self { directory: directory.to_owned(), hung, over, server: Some(server) })
    }

    /// How many reads and writes wait for an answer, or have waited. Of writes the kernel sends one at a time.
    pub fn calls(&self) -> usize {
        self.hung.load(Ordering::SeqCst)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            // It closes the device, which ends every call that waits.
            drop(server.join());
        }
        // An error leaves a mount, which the clean-up of the temporary directory reports.
        let _ = unmount(&self.directory, UnmountFlags::DETACH);
    }
}

fn serve(mut device: File, hung: &AtomicUsize, over: &AtomicBool) {
    let mut request = vec![0; 1 << 17];
    while !over.load(Ordering::SeqCst) {
        let mut polled = [PollFd::new(&device, PollFlags::IN)];
        let soon = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        if poll(&mut polled, Some(&soon)).unwrap_or(0) == 0 {
            continue;
        }
        let Ok(length) = device.read(&mut request) else { return };
        if let Some(answer) = answer(&request[..length], hung) {
            drop(device.write_all(&answer));
        }
    }
}

/// The answer to one request, or none.
fn answer(request: &[u8], hung: &AtomicUsize) -> Option<Vec<u8>> {
    let field = |at: usize| Some(u32::from_le_bytes(request.get(at..at + 4)?.try_into().ok()?));
    let wide = |at: usize| Some(u64::from_le_bytes(request.get(at..at + 8)?.try_into().ok()?));
    let (kind, unique, node) = (field(4)?, wide(8)?, wide(16)?);
    let body = match kind {
        INIT => words(&[7, 31, 65536, 0, 12 | 10 << 16, 65536, 1, 16, 0, 0, 0, 0, 0, 0, 0, 0]),
        LOOKUP if request.get(HEADER..)? == b"f\0" => {
            [words(&[2, 0, 0, 0, 1, 0, 1, 0, 0, 0]), attributes(2)].concat()
        }
        LOOKUP => return Some(reply(unique, ENOENT, &[])),
        GETATTR => [words(&[1, 0, 0, 0]), attributes(node)].concat(),
        OPEN | OPENDIR => words(&[1, 0, DIRECT_IO, 0]),
        RELEASE | RELEASEDIR | FLUSH => Vec::new(),
        STATFS => vec![0; 80],
        READ | WRITE => {
            hung.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        _ => return Some(reply(unique, ENOSYS, &[])),
    };
    Some(reply(unique, 0, &body))
}

/// `struct fuse_attr` of the directory or of its file.
fn attributes(node: u64) -> Vec<u8> {
    let (size, mode) = if node == ROOT { (0, 0o40755) } else { (4096, 0o100_644) };
    let node = u32::try_from(node).unwrap_or(0);
    let times = [0; 9];
    [words(&[node, 0, size, 0, 8, 0]), words(&times), words(&[mode, 1, 0, 0, 0, 4096, 0])].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn reply(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(0);
    [&length.to_le_bytes()[..], &(-error).to_le_bytes(), &unique.to_le_bytes(), body].concat()
}
