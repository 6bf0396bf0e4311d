//! The guest `p3_http.wasm`, a component that exports the asynchronous `wasi:http/handler` of WASI p3. An instance of it may
//! be given many requests, also at the same time: `/count` tells how many. Run by the end-to-end tests.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::http::{client, types::Scheme};
use wasip3::wit_bindgen::{StreamReader, StreamResult};
use wasip3::{spawn, wit_future, wit_stream};

const PATHS: &str = "\
/hello          a short text
/echo           the request's body, as it comes
/length         how many bytes the request's body has
/length-later   an answer, then prints how many bytes the request's body has
/bytes?count=N  N bytes; byte number i is i modulo 251
/slow?ms=N      the answer after a while
/slow-body?ms=N five lines \"chunk I\", N milliseconds before each
/count          how many requests this very instance has had
/log            prints a line to standard output
/short?length=N five bytes, and the head declares N
/spin           computes for ever
/spin-after     computes for ever after its answer
/trap           executes the unreachable instruction
/cut?ms=N       a line, and after a while executes the unreachable instruction
/get?url=URL    makes a request of its own, passes status and body on
/post-half?ms=N&url=URL  begins a request of its own with a body, and executes the unreachable instruction in the middle of it
";

/// Requests that this instance has had.
static REQUESTS: AtomicU32 = AtomicU32::new(0);

struct Service;

impl Guest for Service {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let value = query.split_once('=').map_or("", |(_, value)| value);
        match path {
            "/" => Ok(text(200, PATHS)),
            "/hello" => Ok(text(200, "Hello from p3!\n")),
            "/echo" => Ok(echo(request)),
            "/length" => Ok(text(200, &format!("{}\n", length(request).await))),
            "/length-later" => Ok(length_later(request)),
            "/bytes" => Ok(bytes(value.parse().unwrap_or(1 << 20))),
            "/slow" => {
                sleep(value).await;
                Ok(text(200, "late\n"))
            }
            "/slow-body" => Ok(slow_body(value.to_owned())),
            "/short" => Ok(short(value)),
            "/count" => Ok(text(200, &format!("{count}\n"))),
            "/log" => {
                println!("p3 {path}");
                Ok(text(200, "logged\n"))
            }
            "/spin" => loop {
                std::hint::spin_loop();
            },
            "/spin-after" => Ok(spin_after()),
            "/trap" => core::arch::wasm32::unreachable(),
            "/cut" => Ok(cut(value.to_owned())),
            "/get" => get(value).await,
            "/post-half" => post_half(value).await,
            _ => Ok(text(404, "not found\n")),
        }
    }
}

wasip3::http::service::export!(Service);

async fn sleep(millis: &str) {
    wait_for(millis.parse().unwrap_or(1000u64).saturating_mul(1_000_000)).await;
}

fn text(status: u16, text: &str) -> Response {
    let (mut to, body) = wit_stream::new();
    let text = text.as_bytes().to_vec();
    spawn(async move {
        // Who has left does not hear it.
        to.write_all(text).await;
    });
    response(status, body)
}

fn spin_after() -> Response {
    let (mut to, body) = wit_stream::new();
    spawn(async move {
        to.write_all(b"done\n".to_vec()).await;
        drop(to);
        loop {
            std::hint::spin_loop();
        }
    });
    response(200, body)
}

/// Declares a length, and has five bytes.
fn short(length: &str) -> Response {
    let (mut to, body) = wit_stream::new();
    spawn(async move {
        to.write_all(b"five!".to_vec()).await;
    });
    let length = ("content-length".to_owned(), length.as_bytes().to_vec());
    with_fields(200, Fields::from_list(&[length]).expect("a number"), body)
}

fn response(status: u16, body: StreamReader<u8>) -> Response {
    with_fields(status, Fields::new(), body)
}

fn with_fields(status: u16, fields: Fields, body: StreamReader<u8>) -> Response {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(fields, Some(body), trailers);
    response.set_status_code(status).expect("a status of this program, or of a server's answer");
    response
}

/// Hands the request's stream to the answer: no byte of it comes through the guest.
fn echo(request: Request) -> Response {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, _trailers) = Request::consume_body(request, taken);
    response(200, body)
}

/// Reads the body to its end.
async fn length(request: Request) -> u64 {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (mut body, _trailers) = Request::consume_body(request, taken);
    let mut length = 0;
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        let (result, mut piece) = body.read(buffer).await;
        length += piece.len() as u64;
        if matches!(result, StreamResult::Dropped) {
            return length;
        }
        piece.clear();
        buffer = piece;
    }
}

fn length_later(request: Request) -> Response {
    spawn(async move { println!("{} bytes", length(request).await) });
    text(200, "already\n")
}

fn bytes(count: usize) -> Response {
    let (mut to, body) = wit_stream::new();
    spawn(async move {
        // A multiple of the pattern's period, so that every piece is the same.
        let pattern: Vec<u8> = (0..251u8).cycle().take(251 * 256).collect();
        let mut left = count;
        while left > 0 {
            let part = left.min(pattern.len());
            if !to.write_all(pattern[..part].to_vec()).await.is_empty() {
                // The reader has gone: a further write would be a trap.
                return;
            }
            left -= part;
        }
    });
    response(200, body)
}

fn slow_body(millis: String) -> Response {
    let (mut to, body) = wit_stream::new();
    spawn(async move {
        for chunk in 0..5 {
            sleep(&millis).await;
            to.write_all(format!("chunk {chunk}\n").into_bytes()).await;
        }
    });
    response(200, body)
}

fn cut(millis: String) -> Response {
    let (mut to, body) = wit_stream::new();
    spawn(async move {
        to.write_all(b"begun\n".to_vec()).await;
        sleep(&millis).await;
        core::arch::wasm32::unreachable();
    });
    response(200, body)
}

/// A request to what a URL has behind its scheme.
fn request(rest: &str, body: Option<StreamReader<u8>>) -> Result<Request, ErrorCode> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), body, trailers, None);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    Ok(request)
}

/// Traps in the middle of the body.
async fn post_half(value: &str) -> Result<Response, ErrorCode> {
    let Some((millis, rest)) = value.split_once("&url=http://") else {
        return Ok(text(400, "not a URL\n"));
    };
    let (mut to, body) = wit_stream::new();
    let request = request(rest, Some(body))?;
    request.set_method(&Method::Post).map_err(|()| ErrorCode::HttpRequestMethodInvalid)?;
    let millis = millis.to_owned();
    spawn(async move {
        to.write_all(b"half".to_vec()).await;
        sleep(&millis).await;
        core::arch::wasm32::unreachable();
    });
    client::send(request).await?;
    Ok(text(200, "answered\n"))
}

async fn get(url: &str) -> Result<Response, ErrorCode> {
    let Some(rest) = url.strip_prefix("http://") else {
        return Ok(text(400, "not a URL\n"));
    };
    let answer = client::send(request(rest, None)?).await?;
    let status = answer.get_status_code();
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, _trailers) = Response::consume_body(answer, taken);
    Ok(response(status, body))
}
