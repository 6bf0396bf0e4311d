#!/usr/bin/env bash
# Behaviour: a service of hyper gets the cookies of one request as several fields if the client sent
#   them so by HTTP/2, as browsers do. Whoever asks for the field `cookie` gets the first piece.
# Versions: Rust crates hyper 1.12.0 (h2 0.4.20), hyper-util 0.1.21, http-body-util 0.1.5, tokio 1.54.1;
#   PyPI h2 4.4.1, hpack 4.2.0, hyperframe 6.1.0; Node 20.
# Expected: RFC 9113, 8.2.3: pieces "MUST be concatenated into a single octet string using the two-octet
#   delimiter of 0x3b, 0x20" before they are passed into "a generic HTTP server application".
# Seen: "a=1; b=2; c=3" in three pieces: Node's http2 "a=1; b=2; c=3", hyper "a=1"; as one field both
#   "a=1; b=2; c=3"
# Here: the shims pass requests on to guests and join the pieces themselves.
set -euo pipefail
dir=$(mktemp -d)
server=
finish() {
    if [[ -n $server ]]; then kill "$server" && wait "$server"; fi 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py h2==4.4.1 hpack==4.2.0 hyperframe==6.1.0
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "cookies"
version = "0.0.0"
edition = "2021"

[dependencies]
http-body-util = "=0.1.5"
h2 = "=0.4.20"
hyper = { version = "=1.12.0", features = ["http2", "server"] }
hyper-util = { version = "=0.1.21", features = ["tokio"] }
tokio = { version = "=1.54.1", features = ["macros", "net", "rt"] }
TOML
cat >app/src/main.rs <<'RS'
use http_body_util::Full;
use hyper::{body::Bytes, body::Incoming, service::service_fn, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let cookie = request.headers()["cookie"].clone();
    Ok(Response::new(Full::from(cookie.as_bytes().to_vec())))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let io = TokioIo::new(listener.accept().await?.0);
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(io, service_fn(answer)).await;
    }
}
RS
cat >serve.js <<'JS'
const server = require("node:http2").createServer((request, response) => {
  response.end(request.headers.cookie);
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
JS
cat >ask.py <<'PY'
import socket
import sys
import h2.config
import h2.connection
import h2.events

config = h2.config.H2Configuration(split_outbound_cookies=sys.argv[2] == "pieces")
connection = h2.connection.H2Connection(config)
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
connection.initiate_connection()
method, path = (":method", "GET"), (":path", "/")
address = [(":scheme", "http"), (":authority", "127.0.0.1")]
cookies = ("cookie", "a=1; b=2; c=3")
connection.send_headers(1, [method, path, *address, cookies], end_stream=True)
answer, ended = b"", False
while not ended:
    client.sendall(connection.data_to_send())
    for event in connection.receive_data(client.recv(65536)):
        if isinstance(event, h2.events.DataReceived):
            answer += event.data
        ended = ended or isinstance(event, h2.events.StreamEnded)
print(answer.decode())
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml

# ask NAME COMMAND...: what the server that the command starts gets of the cookies.
ask() {
    local name=$1
    shift
    "$@" >port &
    server=$!
    for _ in {1..100}; do
        if [[ -s port ]]; then break; fi
        sleep 0.1
    done
    pieces=$(PYTHONPATH=py python3 ask.py "$(<port)" pieces)
    whole=$(PYTHONPATH=py python3 ask.py "$(<port)" whole)
    kill "$server"
    wait "$server" || true
    server=
    rm port
    printf '%s\n' "$name:" "  in pieces: $pieces" "  whole: $whole"
}
all='a=1; b=2; c=3'
ask Node node serve.js
[[ $pieces == "$all" && $whole == "$all" ]] || changed "Node gets others"
ask hyper target/debug/cookies
[[ $whole == "$all" ]] || changed "hyper gets others of a whole field"
[[ $pieces == a=1 ]] || changed "hyper gets others of pieces"
