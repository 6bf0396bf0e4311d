//! The guest `http_app.wasm`, a component that serves `wasi:http/incoming-handler`: one path for each thing that a test or a
//! benchmark wants to see a server do. [`PATHS`] is what `/` answers.

mod answer;
mod outgoing;
mod query;

use std::env;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wasip2::cli::stdout::get_stdout;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam};
use wasip2::io::streams::StreamError;

use crate::answer::Answer;
use crate::query::Query;

/// What a caller did wrong, or what went wrong; becomes the answer's text.
type Outcome = Result<(), Box<dyn std::error::Error>>;

const PATHS: &str = "\
/hello                  a short text
/echo                   the request's body, as it comes
/length                 how many bytes the request's body has
/slow?ms=N              the answer after a while
/slow-body?chunks=N&ms=M  N lines \"chunk I\", M milliseconds before each
/bytes?count=N          N bytes; byte number i is i modulo 251
/spin                   computes for ever
/alloc?mib=N            touches memory, then \"done\"
/trap                   executes the unreachable instruction
/exit?code=N            a complete answer, and then the end of the program with that status
/cut?ms=N               a line, and after a while executes the unreachable instruction
/log                    writes the method and path to the stream of standard output
/println                the same as programs do it, through the language's standard library
/env                    the environment, one NAME=VALUE a line
/headers                the request's headers, one NAME: VALUE a line
/count                  how many requests this very instance has had
/status?code=N          an empty answer with that status
/short?length=N         five bytes, and the head declares N
/get?url=URL            makes a request of its own, passes status and body on; it waits for connect-ms=N, first-byte-ms=N,
                        between-bytes-ms=N
/get-with-body?url=URL  the same with a body, whose length it does not tell
/post-half?ms=N&url=URL  begins a request of its own with a body, and executes the unreachable instruction in the middle of it
";

/// Requests that this instance has had.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

struct App;

impl Guest for App {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let answer = Answer::to(out);
        if let Err(error) = serve(path, &Query::of(query), request, answer, count) {
            // The answer has begun, so the caller sees it cut short.
            let _ = writeln!(io::stderr(), "http_app: {path}: {error}");
        }
    }
}

fn serve(
    path: &str,
    query: &Query,
    request: IncomingRequest,
    answer: Answer,
    count: u32,
) -> Outcome {
    match path {
        "/" => answer.text(PATHS),
        "/hello" => answer.text("Hello from wasm!\n"),
        "/echo" => echo(request, answer),
        "/length" => answer.text(&format!("{}\n", length(request)?)),
        "/slow" => {
            sleep(query.number("ms", 1000));
            answer.text("late\n")
        }
        "/slow-body" => slow_body(query.number("chunks", 5), query.number("ms", 200), answer),
        "/bytes" => bytes(query.number("count", 1 << 20), answer),
        "/spin" => loop {
            std::hint::spin_loop();
        },
        "/alloc" => alloc(query.number("mib", 1), answer),
        "/trap" => core::arch::wasm32::unreachable(),
        "/exit" => {
            answer.text("the last word\n")?;
            std::process::exit(query.number("code", 0) as i32)
        }
        "/cut" => cut(query.number("ms", 0), answer),
        "/log" => {
            let line = format!("{} {path}\n", method(&request.method()));
            get_stdout().blocking_write_and_flush(line.as_bytes())?;
            answer.text("logged\n")
        }
        "/println" => {
            writeln!(io::stdout(), "{} {path}", method(&request.method()))?;
            answer.text("logged\n")
        }
        "/env" => answer.text(
            &env::vars().map(|(name, value)| format!("{name}={value}\n")).collect::<String>(),
        ),
        "/headers" => answer.text(&headers(&request)),
        "/count" => answer.text(&format!("{count}\n")),
        "/status" => answer.status(query.number("code", 200) as u16)?.text(""),
        "/short" => answer.of_length(query.number("length", 10))?.text("five!"),
        "/get" => outgoing::get(query, answer),
        "/get-with-body" => outgoing::get_with_body(query, answer),
        "/post-half" => outgoing::post_half(query),
        _ => answer.status(404)?.text("not found\n"),
    }
}

wasip2::http::proxy::export!(App);

fn sleep(millis: u64) {
    let nanos = Duration::from_millis(millis).as_nanos();
    subscribe_duration(u64::try_from(nanos).unwrap_or(u64::MAX)).block();
}

fn echo(request: IncomingRequest, answer: Answer) -> Outcome {
    let body = request.consume().map_err(|()| "the body was taken")?;
    answer.begin()?.pass_on(body)
}

/// Reads the body to its end.
fn length(request: IncomingRequest) -> Result<u64, Box<dyn std::error::Error>> {
    let body = request.consume().map_err(|()| "the body was taken")?;
    let stream = body.stream().map_err(|()| "the stream was taken")?;
    let mut length = 0;
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(piece) => length += piece.len() as u64,
            Err(StreamError::Closed) => return Ok(length),
            Err(error) => return Err(error.into()),
        }
    }
}

fn slow_body(chunks: u64, millis: u64, answer: Answer) -> Outcome {
    let mut to = answer.begin()?;
    for chunk in 0..chunks {
        sleep(millis);
        to.write(format!("chunk {chunk}\n").as_bytes())?;
    }
    to.end()
}

fn cut(millis: u64, answer: Answer) -> Outcome {
    let mut to = answer.begin()?;
    to.write(b"begun\n")?;
    sleep(millis);
    core::arch::wasm32::unreachable()
}

fn bytes(count: u64, answer: Answer) -> Outcome {
    // A multiple of the pattern's period, so that every buffer is the same.
    let pattern: Vec<u8> = (0..251u8).cycle().take(251 * 256).collect();
    let mut to = answer.begin()?;
    let mut left = count;
    while left > 0 {
        let part = left.min(pattern.len() as u64);
        to.write(&pattern[..part as usize])?;
        left -= part;
    }
    to.end()
}

fn alloc(mib: u64, answer: Answer) -> Outcome {
    let mut memory = vec![0u8; usize::try_from(mib << 20)?];
    // Smaller than a wasm page: the host backs the memory with pages of its own, all of which shall be touched.
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&memory);
    answer.text("done\n")
}

fn headers(request: &IncomingRequest) -> String {
    let mut entries = request.headers().entries();
    entries.sort();
    entries
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)))
        .collect()
}

fn method(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => other,
    }
}
