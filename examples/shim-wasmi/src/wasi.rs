//! Functions of WASI preview 1: arguments, environment, clocks, random bytes and the standard
//! streams. All others answer that they do not exist: the guest has no files.
//!
//! A call is an error for wasmi: the guest stands still, and the engine goes on with it when
//! [`answer`] is there. The crate `wasmi_wasi` would block the thread in each sleep and read.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use runwasi_core::InstanceSpec;
use tokio::time::sleep;
use wasmi::{Caller, Error, ExternType, Linker, Module, Val, errors::HostError};

type Done<T = ()> = Result<T, i32>;
const BADF: i32 = 8;
const FAULT: i32 = 21;
const IO: i32 = 29;
const NOSYS: i32 = 52;
const PIPE: i32 = 64;

/// Fuel that a call costs: some thirtieth of a turn, since it may copy 64 KiB.
const CALL: u64 = 6_000;

/// Bytes of one call at most. A guest that has more calls again.
const PART: u64 = 64 << 10;

/// Begin of the monotonic clock.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A call that waits for its answer. Parameters of 64 bits are 0: no function here uses them.
#[derive(Debug, thiserror::Error)]
#[error("{name}")]
pub(crate) struct HostCall {
    pub(crate) name: String,
    pub(crate) args: Vec<u64>,
}

impl HostError for HostCall {}

/// A linker with the functions of preview 1 that the module imports.
pub(crate) fn linker<T: 'static>(module: &Module) -> Result<Linker<T>, Error> {
    let mut linker = Linker::new(module.engine());
    for import in module.imports().filter(|import| import.module() == "wasi_snapshot_preview1") {
        let ExternType::Func(ty) = import.ty() else { continue };
        let name = import.name().to_owned();
        // This one ends the turn.
        let cost = if name == "sched_yield" { u64::MAX } else { CALL };
        let call = move |mut caller: Caller<'_, T>, args: &[Val], _: &mut [Val]| {
            caller.set_fuel(caller.get_fuel()?.saturating_sub(cost))?;
            let args = args.iter().map(|arg| arg.i32().unwrap_or(0).cast_unsigned().into());
            Err(Error::host(HostCall { name: name.clone(), args: args.collect() }))
        };
        linker.func_new(import.module(), import.name(), ty.clone(), call)?;
    }
    Ok(linker)
}

/// Carries out a call. An error is the error number for the guest.
pub(crate) async fn answer(spec: &InstanceSpec, memory: &mut [u8], call: &HostCall) -> Done {
    match (&*call.name, &call.args[..]) {
        ("args_get" | "environ_get", &[mut list, mut at]) => {
            for text in texts(spec, call) {
                put_u32(memory, list, at as usize)?;
                put(memory, at, text.as_bytes())?;
                list += 4;
                at += text.len() as u64;
            }
            Ok(())
        }
        ("args_sizes_get" | "environ_sizes_get", &[count, size]) => {
            let texts = texts(spec, call);
            put_u32(memory, count, texts.len())?;
            put_u32(memory, size, texts.iter().map(String::len).sum())
        }
        ("clock_time_get", &[clock, _, at]) => put(memory, at, &now(clock).to_le_bytes()),
        ("random_get", &[at, n @ ..=PART]) => {
            getrandom::fill(slice(memory, at, n)?).map_err(|_| IO)
        }
        ("sched_yield", []) => Ok(()),
        // A sleep. Other subscriptions, and several, are left out.
        ("poll_oneoff", &[from, to, 1, done]) if slice(memory, from + 8, 1)? == [0] => {
            let clock = u32(memory, from + 16)?;
            let passed = if u32(memory, from + 40)? & 1 == 1 { now(clock) } else { 0 };
            let time = u32(memory, from + 24)? | u32(memory, from + 28)? << 32;
            sleep(Duration::from_nanos(time.saturating_sub(passed))).await;
            let mut event = [0; 32];
            event[..8].copy_from_slice(slice(memory, from, 8)?);
            put(memory, to, &event)?;
            put_u32(memory, done, 1)
        }
        // Of no known type: no terminal.
        ("fd_fdstat_get", &[0..=2, at]) => put(memory, at, &[0; 24]),
        ("fd_read", &[0, list, count, done]) => {
            let read = spec.stdio.stdin.read(part(memory, list, count)?).await;
            put_u32(memory, done, read.map_err(|_| IO)?)
        }
        ("fd_write", &[fd @ 1..=2, list, count, done]) => {
            let output = if fd == 1 { &spec.stdio.stdout } else { &spec.stdio.stderr };
            let part = part(memory, list, count)?;
            output.write_all(part).await.map_err(|_| PIPE)?;
            let written = part.len();
            put_u32(memory, done, written)
        }
        (name, _) => Err(if name.starts_with("fd_") { BADF } else { NOSYS }),
    }
}

/// Arguments or environment, each with its final zero.
fn texts(spec: &InstanceSpec, call: &HostCall) -> Vec<String> {
    let environment = spec.environment().map(|(name, value)| format!("{name}={value}\0"));
    let args = spec.args.iter().map(|arg| format!("{arg}\0"));
    if call.name.starts_with("args") { args.collect() } else { environment.collect() }
}

fn now(clock: u64) -> u64 {
    let real = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    (if clock == 0 { real } else { BEGIN.elapsed() }).as_nanos() as u64
}

/// Bytes of a guest. It chooses address and size, both of 32 bits.
fn slice(memory: &mut [u8], at: u64, size: u64) -> Done<&mut [u8]> {
    memory.get_mut(at as usize..(at + size) as usize).ok_or(FAULT)
}

/// The first part of a list of buffers that is not empty.
fn part(memory: &mut [u8], list: u64, count: u64) -> Done<&mut [u8]> {
    for at in (0..count.min(1024)).map(|n| list + 8 * n) {
        let start = u32(memory, at)?;
        if let size @ 1.. = u32(memory, at + 4)? {
            return slice(memory, start, size.min(PART));
        }
    }
    Ok(&mut [])
}

fn u32(memory: &mut [u8], at: u64) -> Done<u64> {
    Ok(u32::from_le_bytes(slice(memory, at, 4)?.try_into().map_err(|_| FAULT)?).into())
}

fn put(memory: &mut [u8], at: u64, bytes: &[u8]) -> Done {
    slice(memory, at, bytes.len() as u64)?.copy_from_slice(bytes);
    Ok(())
}

fn put_u32(memory: &mut [u8], at: u64, value: usize) -> Done {
    put(memory, at, &(value as u32).to_le_bytes())
}
