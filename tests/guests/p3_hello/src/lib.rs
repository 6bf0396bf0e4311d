//! The guest `p3_hello.wasm`, a component that exports the asynchronous `wasi:cli/run` of WASI p3: one program, a few small
//! commands. What it prints and reads goes by p3's streams. Run by the end-to-end tests.

use std::time::Duration;

use wasip3::cli::{environment, exit, stderr, stdin, stdout};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::cli::run::Guest;
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, Filesize, OpenFlags, PathFlags,
};
use wasip3::{spawn, wit_stream};

const USAGE: &str = "\
usage: p3_hello [COMMAND]
  (none)         print \"Hello from p3!\"
  echo ARGS...   print the arguments, separated by spaces
  sleep MILLIS   sleep, then print \"slept\"
  both MILLIS    sleep twice at the same time, then print \"slept\"
  exit CODE      end with this exit code
  fail           end with a failure and no code
  cat            copy standard input to standard output
  read PATH      copy a file to standard output
  write PATH TEXT   write to a file from its begin, without an end of line
  append PATH TEXT  write to the end of a file, without an end of line
  env            print the environment, one NAME=VALUE a line
  cwd            print the directory that the guest was started in, or \"none\"
  spin           compute for ever
  trap           execute the unreachable instruction
";

struct Program;

impl Guest for Program {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
        match words.as_slice() {
            [] => print("Hello from p3!\n").await,
            ["echo", rest @ ..] => print(&format!("{}\n", rest.join(" "))).await,
            ["sleep", millis] => {
                sleep(millis).await?;
                print("slept\n").await
            }
            ["both", millis] => {
                let (first, second) = futures::join!(sleep(millis), sleep(millis));
                first.and(second)?;
                print("slept\n").await
            }
            ["exit", code] => {
                exit::exit_with_code(code.parse().map_err(drop)?);
                Ok(())
            }
            ["fail"] => Err(()),
            ["cat"] => cat().await,
            ["read", path] => said(read(path).await).await,
            ["write", path, text] => said(write(path, text, Some(0)).await).await,
            ["append", path, text] => said(write(path, text, None).await).await,
            ["env"] => {
                let all = environment::get_environment();
                print(
                    &all.iter()
                        .map(|(name, value)| format!("{name}={value}\n"))
                        .collect::<String>(),
                )
                .await
            }
            ["cwd"] => {
                print(&format!("{}\n", environment::get_initial_cwd().as_deref().unwrap_or("none")))
                    .await
            }
            ["spin"] => loop {
                std::hint::spin_loop();
            },
            ["trap"] => core::arch::wasm32::unreachable(),
            _ => {
                complain(USAGE).await?;
                Err(())
            }
        }
    }
}

wasip3::cli::command::export!(Program);

/// Ends when the host has taken all of it.
async fn print(text: &str) -> Result<(), ()> {
    let (mut to, from) = wit_stream::new();
    let written = stdout::write_via_stream(from);
    let text = text.as_bytes().to_vec();
    spawn(async move {
        to.write_all(text).await;
    });
    written.await.map_err(drop)
}

async fn complain(text: &str) -> Result<(), ()> {
    let (mut to, from) = wit_stream::new();
    let written = stderr::write_via_stream(from);
    to.write_all(text.as_bytes().to_vec()).await;
    drop(to);
    written.await.map_err(drop)
}

/// Tells the code of an error.
async fn said(done: Result<(), ErrorCode>) -> Result<(), ()> {
    let Err(code) = done else { return Ok(()) };
    complain(&format!("{code:?}\n")).await?;
    Err(())
}

async fn sleep(millis: &str) -> Result<(), ()> {
    let nanos = Duration::from_millis(millis.parse().map_err(drop)?).as_nanos();
    wait_for(u64::try_from(nanos).map_err(drop)?).await;
    Ok(())
}

/// Hands standard input's stream to standard output: no byte of it comes through the guest.
async fn cat() -> Result<(), ()> {
    let (input, read) = stdin::read_via_stream();
    stdout::write_via_stream(input).await.map_err(drop)?;
    read.await.map_err(drop)
}

async fn open(path: &str, flags: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
    let mut roots = preopens::get_directories().into_iter();
    let (root, _) = roots.find(|(_, name)| name == "/").ok_or(ErrorCode::NoEntry)?;
    let path = path.trim_start_matches('/').to_owned();
    root.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), flags).await
}

async fn read(path: &str) -> Result<(), ErrorCode> {
    let file = open(path, DescriptorFlags::READ).await?;
    let (bytes, read) = file.read_via_stream(0);
    stdout::write_via_stream(bytes).await.map_err(|_| ErrorCode::Pipe)?;
    read.await
}

async fn write(path: &str, text: &str, offset: Option<Filesize>) -> Result<(), ErrorCode> {
    let file = open(path, DescriptorFlags::WRITE).await?;
    let (mut to, from) = wit_stream::new();
    let written = match offset {
        Some(offset) => file.write_via_stream(from, offset),
        None => file.append_via_stream(from),
    };
    let text = text.as_bytes().to_vec();
    spawn(async move {
        to.write_all(text).await;
    });
    written.await
}
