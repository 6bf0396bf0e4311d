//! Loop devices (`loop(4)`): a file as a block device, for the file systems in files that some
//! snapshotters keep.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

// Numbers of `linux/loop.h`.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Times that a free device is asked for. Another process may take the same one.
const TRIES: usize = 32;

/// A loop device. The kernel frees it with its last user: this value, or what is mounted of it.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    numbers: [u64; 5],
    kinds: [u32; 3],
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

impl LoopDevice {
    /// Makes a device of a file. Blocks.
    pub(crate) fn of(file: &Path, read_only: bool) -> io::Result<Self> {
        let backing = OpenOptions::new().read(true).write(!read_only).open(file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            // SAFETY: the call takes no argument and returns a number.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new().read(true).write(!read_only).open(&path)?;
            match configure(&device, &backing, read_only) {
                Ok(()) => return Ok(Self { path, _open: device }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "others take each free loop device"))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Gives a free device its file (Linux 5.8).
fn configure(device: &File, backing: &File, read_only: bool) -> io::Result<()> {
    let flags = LO_FLAGS_AUTOCLEAR | if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    let info = LoopInfo { numbers: [0; 5], kinds: [0; 3], flags, names: [0; 160], init: [0; 2] };
    let fd = backing.as_raw_fd().cast_unsigned();
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the kernel reads one `loop_config`, which lives during the call, and writes nothing.
    // The descriptor in it is open during the call; the kernel takes its own reference.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_size() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn device_shows_its_file_and_goes_with_its_last_user() {
        assert!(rustix::process::geteuid().is_root(), "this test must run as root");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        std::fs::write(&file, vec![7; 4096]).unwrap();
        let device = LoopDevice::of(&file, true).unwrap();
        assert_eq!(std::fs::read(device.path()).unwrap(), vec![7; 4096]);
        let name = device.path().file_name().unwrap().to_owned();
        let backing = Path::new("/sys/block").join(name).join("loop/backing_file");
        let holds = || std::fs::read_to_string(&backing).is_ok_and(|held| held.contains("/f\n"));
        assert!(holds());
        drop(device);
        assert!(!holds());
    }
}
