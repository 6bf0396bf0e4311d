//! The guest `net.wasm`, a component: one program, many small commands, each of which uses something that only components
//! have. Built by `scripts/guests` for preview 1 and wrapped in the adapter; run by the end-to-end tests.

mod http;
mod name;
mod store;
mod tcp;
mod udp;

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use wasip2::cli::{environment, exit};

type Outcome = Result<(), Box<dyn Error>>;

const USAGE: &str = "\
usage: net COMMAND
  tcp-connect HOST PORT TEXT  send TEXT and the end of the stream, print what comes back
  tcp-hold HOST PORT          connect, print \"connected\", keep the connection and wait until it is closed
  tcp-leave HOST PORT         connect, send until there is no room, print the number of bytes, exit without closing anything
  tcp-echo PORT               print \"listening\", send back what one connection brings
  udp-send HOST PORT TEXT     send TEXT in a datagram, print the one that comes back
  udp-echo PORT               print \"listening\", send one datagram back to where it came from
  resolve NAME                print the addresses of NAME, one a line
  http-get URL [COUNT]        print the status and the body, so often
  config KEY                  print a value of wasi:config, or \"none\"
  config-all                  print all of them, one NAME=VALUE a line, sorted
  kv                          set, get, count, list and delete in wasi:keyvalue, print each result
  exit CODE                   end with this exit code, which preview 1's adapter would make 1
  cwd                         print the directory that the guest was started in, or \"none\"
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "net: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Outcome {
    match words {
        ["tcp-connect", host, port, text] => tcp::connect(host, port.parse()?, text),
        ["tcp-hold", host, port] => tcp::hold(host, port.parse()?),
        ["tcp-leave", host, port] => tcp::leave(host, port.parse()?),
        ["tcp-echo", port] => tcp::echo(port.parse()?),
        ["udp-send", host, port, text] => udp::send(host, port.parse()?, text),
        ["udp-echo", port] => udp::echo(port.parse()?),
        ["resolve", name] => {
            name::resolve(name)?.into_iter().try_for_each(|ip| print(&name::shown(ip)))
        }
        ["http-get", url] => http::get(url),
        ["http-get", url, count] => (0..count.parse::<u32>()?).try_for_each(|_| http::get(url)),
        ["config", key] => store::config(key),
        ["config-all"] => store::config_all(),
        ["kv"] => store::keyvalue(),
        ["exit", code] => {
            exit::exit_with_code(code.parse()?);
            Ok(())
        }
        ["cwd"] => print(environment::initial_cwd().as_deref().unwrap_or("none")),
        _ => Err(format!("cannot make sense of {words:?}\n{USAGE}").into()),
    }
}

/// Not `println!`: a closed standard output is an exit code here, not a panic, which would be a trap.
fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
