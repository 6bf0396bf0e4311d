//! The guest of the image `docker.io/library/wasmtest`: one program, many small commands, each a thing that a
//! test wants to see a container do. Built for wasm and natively (to test the tests with runc) by
//! `scripts/guests`; started by the end-to-end tests, the demo and the benchmarks.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

type Outcome = Result<ExitCode, Box<dyn Error>>;

const USAGE: &str = "\
usage: wasmtest [COMMAND]
  (none)             print \"Hello from wasm!\"
  echo ARGS...       print the arguments, separated by spaces
  sleep SECONDS      sleep; fractions are allowed
  exit CODE          end with this exit code (0 to 255)
  write FILE TEXT    write exactly TEXT to FILE
  append FILE TEXT...  write each TEXT to the end of FILE, print FILE
  sync FILE TEXT     write exactly TEXT to FILE and wait until the disk has the file
  sync-data FILE TEXT  the same for its content
  fill FILE KIB      write that many KiB to FILE
  cat [FILE]         copy FILE, or standard input until its end, to standard output
  env                print the environment, one NAME=VALUE a line
  args ...           print all arguments, one a line, the program's name first
  daemon             print a line each second for ever
  spin               compute for ever
  count              compute for ever, print a line \"tick N\" now and then
  alloc MIB          allocate, touch every page, print \"done\"
  alloc-later MIB    the same after a second
  try-alloc MIB      ask for memory; print \"done\" or, if there is none, \"refused\"
  hold MIB           allocate, touch every page, keep it and sleep for ever
  trap               execute the unreachable instruction
  bytes N            write N bytes; byte number i is i modulo 251
  stderr TEXT        print TEXT to standard error
  cwd                print the working directory
  open-many FILE N   open FILE N times, keep all open, print \"A opened, B refused\", sleep for ever
  link FROM TO       make a hard link
  rename FROM TO     give another name
  remove-all DIR     remove a directory and all in it
  ls DIR             print the names in DIR, one a line, sorted
  tty                print which of the three streams are terminals
  timer MILLIS COUNT sleep COUNT times, print how long each sleep took in microseconds, on one line
";

/// Why the command line cannot be obeyed; `main` answers with the usage and exit code 2.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}\n{USAGE}", self.0)
    }
}

impl Error for Usage {}

fn main() -> ExitCode {
    // Lossless arguments are not worth their length here: the tests send UTF-8.
    let args: Vec<String> = env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "wasmtest: {}", error.to_string().trim_end());
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(args: &[String]) -> Outcome {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [] => line("Hello from wasm!"),
        ["echo", rest @ ..] => line(&rest.join(" ")),
        ["sleep", seconds] => sleep(seconds),
        ["exit", code] => Ok(ExitCode::from(number::<u8>("exit code", code)?)),
        ["write", file, text] => {
            fs::write(file, text).map_err(|error| format!("write {file}: {error}"))?;
            done()
        }
        ["append", file, texts @ ..] => append(file, texts),
        ["sync", file, text] => named("sync", file, synced(file, text, fs::File::sync_all)),
        ["sync-data", file, text] => named("sync", file, synced(file, text, fs::File::sync_data)),
        ["fill", file, kib] => named(
            "fill",
            file,
            fs::write(file, vec![1; number::<usize>("number of KiB", kib)? << 10]),
        ),
        ["cat"] => copy(io::stdin().lock()),
        ["cat", file] => {
            copy(fs::File::open(file).map_err(|error| format!("open {file}: {error}"))?)
        }
        ["env"] => environment(),
        ["args", ..] => args.iter().try_for_each(|arg| print(arg)).and_then(|()| done()),
        ["daemon"] => daemon(),
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        ["count"] => count(),
        ["alloc", mib] => alloc(number("number of MiB", mib)?),
        ["alloc-later", mib] => {
            thread::sleep(Duration::from_secs(1));
            alloc(number("number of MiB", mib)?)
        }
        ["try-alloc", mib] => try_alloc(number("number of MiB", mib)?),
        ["hold", mib] => hold(number("number of MiB", mib)?),
        ["trap"] => trap(),
        ["bytes", count] => bytes(number("number of bytes", count)?),
        ["stderr", text] => {
            writeln!(io::stderr(), "{text}")?;
            done()
        }
        ["cwd"] => line(&env::current_dir()?.to_string_lossy()),
        ["open-many", file, count] => open_many(file, number("count", count)?),
        ["link", from, to] => named("link", from, fs::hard_link(from, to)),
        ["rename", from, to] => named("rename", from, fs::rename(from, to)),
        ["remove-all", directory] => named("remove", directory, fs::remove_dir_all(directory)),
        ["ls", directory] => list(directory),
        ["tty"] => terminals(),
        ["timer", millis, count] => {
            timer(number("number of milliseconds", millis)?, number("count", count)?)
        }
        _ => Err(Usage(format!("cannot make sense of {words:?}")).into()),
    }
}

fn named(what: &str, path: &str, result: io::Result<()>) -> Outcome {
    result.map_err(|error| format!("{what} {path}: {error}"))?;
    done()
}

fn append(file: &str, texts: &[&str]) -> Outcome {
    let appended = |text: &&str| -> io::Result<()> {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file)?;
        file.write_all(text.as_bytes())
    };
    texts.iter().try_for_each(appended).map_err(|error| format!("append {file}: {error}"))?;
    line(&fs::read_to_string(file)?)
}

fn synced(file: &str, text: &str, sync: fn(&fs::File) -> io::Result<()>) -> io::Result<()> {
    let mut file = fs::File::create(file)?;
    file.write_all(text.as_bytes())?;
    sync(&file)
}

fn open_many(file: &str, count: usize) -> Outcome {
    let opened: Vec<_> = (0..count).filter_map(|_| fs::File::open(file).ok()).collect();
    print(&format!("{} opened, {} refused", opened.len(), count - opened.len()))?;
    loop {
        thread::sleep(Duration::from_secs(1000));
        std::hint::black_box(&opened);
    }
}

fn terminals() -> Outcome {
    let [stdin, stdout, stderr] =
        [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    line(&format!("stdin {stdin}, stdout {stdout}, stderr {stderr}"))
}

fn done() -> Outcome {
    Ok(ExitCode::SUCCESS)
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, Usage> {
    text.parse().map_err(|_| Usage(format!("not a {what}: {text}")))
}

/// Not `println!`: a closed standard output is an exit code here, not a panic, which would be a trap.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

fn line(text: &str) -> Outcome {
    print(text)?;
    done()
}

fn sleep(seconds: &str) -> Outcome {
    let duration = Duration::try_from_secs_f64(number("number of seconds", seconds)?)
        .map_err(|error| Usage(format!("{seconds}: {error}")))?;
    thread::sleep(duration);
    done()
}

fn timer(millis: u64, count: usize) -> Outcome {
    let sleeps = (0..count).map(|_| {
        let begin = Instant::now();
        thread::sleep(Duration::from_millis(millis));
        begin.elapsed().as_micros().to_string()
    });
    line(&sleeps.collect::<Vec<_>>().join(" "))
}

/// Flushes what each read brought, so that an attached user sees it at once, line end or not.
fn copy(mut from: impl Read) -> Outcome {
    let mut out = io::stdout().lock();
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return done(),
            count => out.write_all(&buffer[..count])?,
        }
        out.flush()?;
    }
}

fn environment() -> Outcome {
    for (name, value) in env::vars_os() {
        print(&format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))?;
    }
    done()
}

/// Never sleeps: how far it is tells how much it was allowed to compute.
fn count() -> Outcome {
    for n in 0u64.. {
        let mut sum = 0u64;
        for i in 0..20_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(i ^ n));
        }
        print(&format!("tick {n}"))?;
    }
    done()
}

fn daemon() -> Outcome {
    for tick in 1u64.. {
        print(&format!("tick {tick}"))?;
        thread::sleep(Duration::from_secs(1));
    }
    done()
}

fn alloc(mib: usize) -> Outcome {
    std::hint::black_box(&touched(mib)?);
    line("done")
}

fn hold(mib: usize) -> Outcome {
    let memory = touched(mib)?;
    loop {
        thread::sleep(Duration::from_secs(1000));
        std::hint::black_box(&memory);
    }
}

fn try_alloc(mib: usize) -> Outcome {
    let mut memory = Vec::<u8>::new();
    match memory.try_reserve_exact(size(mib)?) {
        Ok(()) => line("done"),
        Err(_) => line("refused"),
    }
}

fn size(mib: usize) -> Result<usize, &'static str> {
    mib.checked_mul(1 << 20).ok_or("more MiB than addresses")
}

fn touched(mib: usize) -> Result<Vec<u8>, &'static str> {
    let mut memory = vec![0u8; size(mib)?];
    // Smaller than a wasm page: the host backs the memory with pages of its own, all of which shall be touched.
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    Ok(memory)
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

fn bytes(count: u64) -> Outcome {
    // A multiple of the pattern's period, so that every buffer is the same.
    let pattern: Vec<u8> = (0..251u8).cycle().take(251 * 256).collect();
    let mut out = io::stdout().lock();
    let mut left = count;
    while left > 0 {
        let part = left.min(pattern.len() as u64);
        out.write_all(&pattern[..part as usize])?;
        left -= part;
    }
    out.flush()?;
    done()
}

fn list(directory: &str) -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| format!("ls {directory}: {error}"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    names.iter().try_for_each(|name| print(name)).and_then(|()| done())
}

/// Run by the entrypoint `wasmtest.wasm#greet`, as the only call into a fresh instance: no constructor ran, so it
/// may use standard output and nothing that opens files.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub extern "C" fn greet() {
    // The signature has no place for an error, and a trap would hide the cause behind a backtrace.
    let _ = print("Hello from greet!");
}

/// Memory for the adapter that makes a component of this module. Without it, the adapter grows the memory by a page of
/// its own, which Debian's C library of 2022 takes for a part of its heap.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_size: usize,
    align: usize,
    new_size: usize,
) -> *mut u8 {
    use std::alloc::{Layout, alloc, handle_alloc_error, realloc};

    let layout = |size| {
        Layout::from_size_align(size, align).expect("the adapter asks for what there can be")
    };
    if new_size == 0 {
        return std::ptr::without_provenance_mut(align);
    }
    // SAFETY: the caller gives back what it was given here, with the size and alignment it asked for then.
    let memory = unsafe {
        match old_size {
            0 => alloc(layout(new_size)),
            _ => realloc(old, layout(old_size), new_size),
        }
    };
    if memory.is_null() { handle_alloc_error(layout(new_size)) } else { memory }
}
