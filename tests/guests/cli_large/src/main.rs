//! The guest `cli_large.wasm`, a component of two megabytes of code, nearly all of it other people's: reads and prints the text
//! format of wasm. What it takes to start something of that size is measured by the benchmarks.

use std::error::Error;
use std::io::{self, Read, Write};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cli_large [COMMAND]
  (none)    print \"Hello from a large guest!\"
  reprint   read a module from standard input, as text or binary, and print its text
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "cli_large: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Box<dyn Error>> {
    let text = match words {
        [] => "Hello from a large guest!\n".to_owned(),
        ["reprint"] => reprint()?,
        _ => return Err(format!("cannot make sense of {words:?}\n{USAGE}").into()),
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn reprint() -> Result<String, Box<dyn Error>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let mut text = wasmprinter::print_bytes(wat::parse_bytes(&bytes)?)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
