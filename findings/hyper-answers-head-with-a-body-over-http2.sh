#!/usr/bin/env bash
# Behaviour: a hyper server sends the body that its service gives for a HEAD request if the request
#   comes by HTTP/2; by HTTP/1 it leaves it out. Clients report a protocol error.
# Versions: Rust crates hyper 1.12.0 (h2 0.4.20), hyper-util 0.1.21, http-body-util 0.1.5, tokio
#   1.54.1; curl of Debian 12.
# Expected: RFC 9110, 9.3.2: the server "MUST NOT send content in the response" to HEAD; and one
#   service behaves alike by both versions.
# Seen: HTTP/1: GET 0, HEAD 0; HTTP/2: GET 0, HEAD 92 (curl's status for a stream in error)
# Here: guests may give a body for HEAD; the shims have to take it away themselves for HTTP/2.
set -euo pipefail
dir=$(mktemp -d)
server=
trap 'if [[ $server ]]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "answer"
version = "0.0.0"
edition = "2021"

[dependencies]
http-body-util = "=0.1.5"
h2 = "=0.4.20"
hyper = { version = "=1.12.0", features = ["http1", "http2", "server"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
tokio = { version = "=1.54.1", features = ["macros", "net", "rt"] }
TOML
cat >app/src/main.rs <<'RS'
use http_body_util::Full;
use hyper::{body::Bytes, body::Incoming, service::service_fn, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// The same for every request; prints by what it came.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    eprintln!("{} by {:?}", request.method(), request.version());
    Ok(Response::new(Full::from("ready")))
}

/// Serves one connection after the other, by HTTP/2 if the argument is 2.
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let second = std::env::args().nth(1).as_deref() == Some("2");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let io = TokioIo::new(listener.accept().await?.0);
        let service = service_fn(answer);
        let served = if second {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(io, service).await
        } else {
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(io, service).await
        };
        if let Err(error) = served {
            eprintln!("{error:?}");
        }
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml

# by VERSION OPTION...: curl's status for GET and for HEAD, from a server of that version.
by() {
    local version=$1 get=0 head=0
    shift
    target/debug/answer "$version" >address 2>"log-$version" &
    server=$!
    for _ in {1..100}; do
        if [[ -s address ]]; then break; fi
        sleep 0.1
    done
    local curl=(curl -sS -m 10 --noproxy '*' "$@")
    [[ $("${curl[@]}" "http://$(<address)/") == ready ]] || get=$?
    "${curl[@]}" -I "http://$(<address)/" >"headers-$version" 2>"said-$version" || head=$?
    kill "$server"
    server=
    rm address
    seen="GET $get, HEAD $head"
    echo "HTTP/$version: $seen $(<"said-$version")"
}
by 1 --http1.1
[[ $seen == 'GET 0, HEAD 0' && -z $(<said-1) ]] || changed "HEAD fails by HTTP/1"
by 2 --http2-prior-knowledge
[[ $(<log-2) == *'HEAD by HTTP/2.0'* ]] || changed "the service is not asked by HTTP/2"
[[ $seen == 'GET 0, HEAD 92' && $(<said-2) == *PROTOCOL_ERROR* ]] ||
    changed "HEAD ends otherwise by HTTP/2"
