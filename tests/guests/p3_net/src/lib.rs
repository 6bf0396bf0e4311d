//! The guest `p3_net.wasm`, a command of WASI p3: what it asks of the network and of the file system goes by p3's asynchronous
//! functions. Run by the tests.

mod files;
mod http;
mod sockets;

use wasip3::cli::{environment, stderr, stdout};
use wasip3::exports::cli::run::Guest;
use wasip3::{spawn, wit_stream};

const USAGE: &str = "\
usage: p3_net COMMAND
  tcp-connect ADDRESS PORT TEXT  send TEXT and the end of the stream, print what comes back
  udp-send ADDRESS PORT TEXT     send TEXT in a datagram, print the one that comes back
  resolve NAME                   print the addresses of NAME, one a line
  http-get URL [COUNT]           print the status and the body, so often
  open-many PATH COUNT           open PATH that often, print how many were opened and refused
  rename FROM TO                 rename a file
";

/// What went wrong, for standard error.
type Outcome = Result<String, String>;

struct Program;

impl Guest for Program {
    async fn run() -> Result<(), ()> {
        let args = environment::get_arguments();
        let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
        let outcome = match words.as_slice() {
            ["tcp-connect", address, port, text] => sockets::tcp(address, port, text).await,
            ["udp-send", address, port, text] => sockets::udp(address, port, text).await,
            ["resolve", name] => sockets::resolve(name).await,
            ["http-get", url] => http::get(url).await,
            ["http-get", url, count] => http::get_often(url, count).await,
            ["open-many", path, count] => files::open_many(path, count).await,
            ["rename", from, to] => files::rename(from, to).await,
            _ => Err(format!("cannot make sense of {words:?}\n{USAGE}")),
        };
        match outcome {
            Ok(text) => print(text, false).await,
            Err(error) => {
                print(format!("p3_net: {error}\n"), true).await?;
                Err(())
            }
        }
    }
}

wasip3::cli::command::export!(Program);

/// Ends when the host has taken all of it.
async fn print(text: String, error: bool) -> Result<(), ()> {
    let (mut to, from) = wit_stream::new();
    let written =
        if error { stderr::write_via_stream(from) } else { stdout::write_via_stream(from) };
    spawn(async move {
        to.write_all(text.into_bytes()).await;
    });
    written.await.map_err(drop)
}
