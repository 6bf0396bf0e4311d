//! The `main` of the OS process that compiles, and the steps of a compilation.
//!
//! ```text
//! parent                                   process
//! SETTINGS ─────────────────────────────▶  makes its engine, then confines itself
//! perhaps WARM_UP ──────────────────────▶  compiles an empty module, waits
//! THREADS, their number ────────────────▶  starts them, then seals itself
//! perhaps ENTRY or EXPORT, with its name
//! MODULE or COMPONENT, with the bytes ──▶  parses them, checks their bounds and exports
//! links the outline  ◀───────────────────  OUTLINE, empty if there is none
//! GO ───────────────────────────────────▶  compiles
//!                    ◀───────────────────  CODE
//! ```
//!
//! Each step of the process may also answer with REFUSED and a reason, or NO_MEMORY.

use std::{
    io,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use rayon::ThreadPoolBuilder;
use runwasi_core::{
    artifact::ArtifactKind,
    code_cache::compile_process::{self as process, Frame},
    settings::RawSettings,
};
use wasmtime::{Engine, OutOfMemory};

use crate::{
    config::config,
    exports::Uncompiled,
    outline,
    settings::Settings,
    world::{self, Wanted},
};

/// Tags of frames.
pub(crate) mod tag {
    pub(crate) const SETTINGS: u8 = b's';
    pub(crate) const WARM_UP: u8 = b'w';
    pub(crate) const THREADS: u8 = b't';
    pub(crate) const ENTRY: u8 = b'e';
    pub(crate) const EXPORT: u8 = b'f';
    pub(crate) const MODULE: u8 = b'm';
    pub(crate) const COMPONENT: u8 = b'c';
    pub(crate) const OUTLINE: u8 = b'o';
    pub(crate) const GO: u8 = b'g';
    pub(crate) const CODE: u8 = b'x';
    pub(crate) const REFUSED: u8 = b'r';
    pub(crate) const NO_MEMORY: u8 = b'n';
}

/// Largest artifact without an outline, in bytes: compiling it takes no longer than its outline.
const SOON: usize = 4 << 10;

/// Smallest module.
const EMPTY: &[u8] = b"\0asm\x01\0\0\0";

/// True if the `main` of this program answers as a compiler.
// `Relaxed`: it is set before any other thread exists.
static ANSWERS: AtomicBool = AtomicBool::new(false);

/// Reason of a compilation without code.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The artifact is invalid, or exceeds a bound.
    Invalid(String),
    /// An allocation has failed.
    NoMemory,
}

/// Lets this program compile in OS processes of its own. Call it first in `main`, before a file is
/// opened or a thread exists, and return what it returns:
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     if let Some(end) = runwasi_wasmtime::answer_as_compiler() {
///         return end;
///     }
///     // The shim, the daemon, or another program with an engine.
///     # ExitCode::SUCCESS
/// }
/// ```
///
/// An engine starts its own program again for each compilation. In such a process this function
/// compiles and returns the exit status; otherwise it returns nothing. In a program that does not
/// call it, engines compile on threads, without bounds of memory and time, and log a warning.
pub fn answer_as_compiler() -> Option<ExitCode> {
    ANSWERS.store(true, Ordering::Relaxed);
    process::is_this_one().then(|| match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent reads it. Without a parent there is no reader.
            let _ = io::Write::write_all(&mut io::stderr(), error.to_string().as_bytes());
            ExitCode::FAILURE
        }
    })
}

/// True if this program can be started to compile.
pub(crate) fn is_available() -> bool {
    ANSWERS.load(Ordering::Relaxed)
}

/// Checks the bounds and the wanted entry of an artifact. Returns it in the binary format, and its
/// compiled outline.
pub(crate) fn prepare(
    engine: &Engine,
    settings: &Settings,
    (kind, wanted): (ArtifactKind, &Wanted),
    bytes: Vec<u8>,
) -> Result<(Vec<u8>, Option<Vec<u8>>), Refusal> {
    let parsed = wat::parse_bytes(&bytes).map_err(|error| Refusal::Invalid(error.to_string()))?;
    let wasm = match parsed {
        std::borrow::Cow::Owned(wasm) => wasm,
        std::borrow::Cow::Borrowed(_) => bytes,
    };
    outline::check_bounds(&wasm, settings).map_err(Refusal::Invalid)?;
    if let Some(exports) = Uncompiled::read(kind, &wasm) {
        world::check(kind, &exports, wanted).map_err(Refusal::Invalid)?;
    }
    if wasm.len() <= SOON {
        return Ok((wasm, None));
    }
    // A fault of the outline is one of the whole, and has a clearer error there.
    let outline =
        outline::outline(kind, &wasm).and_then(|outline| compile(engine, kind, &outline).ok());
    Ok((wasm, outline))
}

/// Compiles an artifact.
pub(crate) fn compile(
    engine: &Engine,
    kind: ArtifactKind,
    wasm: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let code = match kind {
        ArtifactKind::Module => engine.precompile_module(wasm),
        ArtifactKind::Component => engine.precompile_component(wasm),
    };
    code.map_err(|error| match error.is::<OutOfMemory>() {
        true => Refusal::NoMemory,
        false => Refusal::Invalid(format!("{error:#}")),
    })
}

/// The work of the process.
fn answer() -> io::Result<()> {
    process::begin()?;
    let mut stdin = io::stdin().lock();
    let settings = Frame::read(&mut stdin)?;
    let settings: Settings = RawSettings::parse("settings", &settings.bytes, |_| true)
        .and_then(|raw| raw.read(&Settings::default()))
        .map_err(io::Error::other)?;
    // By as many threads as the parent orders, which may be this one alone.
    let engine =
        Engine::new(config(&settings).parallel_compilation(true)).map_err(io::Error::other)?;
    process::confine()?;
    // From here on it may compute for seconds: the outline, too.
    process::end_with_parent()?;
    start_threads(threads(&mut stdin, &settings)?, &settings)?;
    process::seal()?;
    // Untrusted from here on.
    let (kind, wanted, bytes) = artifact(&mut stdin)?;
    let wasm = match prepare(&engine, &settings, (kind, &wanted), bytes) {
        Ok((wasm, outline)) => {
            send(tag::OUTLINE, &outline.unwrap_or_default())?;
            wasm
        }
        Err(refusal) => return refuse(&refusal),
    };
    // Without it the imports are wrong, or the parent is gone.
    Frame::read(&mut stdin)?;
    match compile(&engine, kind, &wasm) {
        Ok(code) => send(tag::CODE, &code),
        Err(refusal) => refuse(&refusal),
    }
}

/// Waits for the number of threads, and begins nothing untrusted meanwhile.
fn threads(stdin: &mut impl io::Read, settings: &Settings) -> io::Result<usize> {
    loop {
        let Frame { tag, bytes } = Frame::read(&mut *stdin)?;
        match tag {
            // Its code and tables are in memory then. It is not sent.
            tag::WARM_UP => warm_up(settings)?,
            tag::THREADS => {
                let number: [u8; 8] =
                    bytes.try_into().map_err(|_| io::Error::other("no number"))?;
                return usize::try_from(u64::from_le_bytes(number)).map_err(io::Error::other);
            }
            other => return Err(io::Error::other(format!("a frame with tag {other}"))),
        }
    }
}

fn warm_up(settings: &Settings) -> io::Result<()> {
    // With an engine that needs no threads: there are none before their number is known.
    let engine = Engine::new(&config(settings)).map_err(io::Error::other)?;
    engine.precompile_module(EMPTY).map(drop).map_err(io::Error::other)
}

/// Starts the threads that compile. This one is the first of them.
fn start_threads(number: usize, settings: &Settings) -> io::Result<()> {
    process::bound(settings.compile_bytes(), settings.compile_time, number)?;
    ThreadPoolBuilder::new()
        .num_threads(number)
        .use_current_thread()
        .stack_size(process::STACK)
        .build_global()
        .map_err(|error| io::Error::other(format!("{number} threads cannot be had: {error}")))
}

fn artifact(stdin: &mut impl io::Read) -> io::Result<(ArtifactKind, Wanted, Vec<u8>)> {
    let mut wanted = Wanted::Any;
    loop {
        let Frame { tag, bytes } = Frame::read(&mut *stdin)?;
        match tag {
            tag::ENTRY => wanted = Wanted::Entry(None),
            tag::EXPORT => {
                let name = String::from_utf8(bytes).map_err(io::Error::other)?;
                wanted = Wanted::Entry(Some(name));
            }
            tag::MODULE => return Ok((ArtifactKind::Module, wanted, bytes)),
            _ => return Ok((ArtifactKind::Component, wanted, bytes)),
        }
    }
}

fn refuse(refusal: &Refusal) -> io::Result<()> {
    match refusal {
        Refusal::Invalid(reason) => send(tag::REFUSED, reason.as_bytes()),
        Refusal::NoMemory => send(tag::NO_MEMORY, &[]),
    }
}

fn send(tag: u8, bytes: &[u8]) -> io::Result<()> {
    Frame::write(io::stdout().lock(), tag, bytes)
}
