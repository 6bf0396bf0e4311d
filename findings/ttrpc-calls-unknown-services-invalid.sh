#!/usr/bin/env bash
# Behaviour: a server of the Rust crate ttrpc answers a call of a service that it does not have, or of a
#   method that a service lacks, with INVALID_ARGUMENT, as it does a broken request. A server in Go, by
#   the same protocol, answers UNIMPLEMENTED.
# Versions: Rust crate ttrpc 0.10.0 (sync); Debian containerd 1.6.20~ds1-1+deb12u3 (bookworm).
# Expected: gRPC, whose codes ttrpc uses: "UNIMPLEMENTED: The operation is not implemented or is not
#   supported/enabled in this service"; with it a client knows that it may try an older service.
# Seen: another method of a service, and another service: 12 by containerd, 3 by the crate
# Here: the daemon's clients take UNIMPLEMENTED for the mark of an older server.
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
apt-get -qq -o APT::Sandbox::User=root download containerd='1.6.20~ds1-1+deb12u3'
dpkg -x containerd_*.deb debian
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "server"
version = "0.0.0"
edition = "2021"

[dependencies]
ttrpc = "=0.10.0"
TOML
cat >app/src/main.rs <<'RS'
use std::collections::HashMap;
use ttrpc::{proto::Request, MethodHandler, Response, TtrpcContext};

struct Nothing;

impl MethodHandler for Nothing {
    fn handler(&self, context: TtrpcContext, _: Request) -> ttrpc::Result<()> {
        context.respond(context.mh.stream_id, Response::default())
    }
}

fn main() {
    let forward = "/containerd.services.events.ttrpc.v1.Events/Forward".to_owned();
    let handler: Box<dyn MethodHandler + Send + Sync> = Box::new(Nothing);
    let server = ttrpc::Server::new().bind("unix://rust").expect("bind");
    let mut server = server.register_service(HashMap::from([(forward, handler)]));
    server.start().expect("start");
    std::thread::sleep(std::time::Duration::from_secs(60));
}
RS
# Asks the server at ADDRESS for SERVICE and METHOD and prints the status of the answer.
cat >ask.py <<'PY'
import socket
import struct
import sys


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


address, service, method = sys.argv[1:]
request = field(1, service.encode()) + field(2, method.encode())
client = socket.socket(socket.AF_UNIX)
client.settimeout(20)
client.connect(address)
client.sendall(struct.pack(">IIBB", len(request), 1, 1, 0) + request)
stream = client.makefile("rb")
length, _, kind, _ = struct.unpack(">IIBB", stream.read(10))
answer = stream.read(length)
# Field 1 of a response is the status, whose field 1 is the code, and field 2 the message.
assert kind == 2 and answer[:1] == b"\x0a" and answer[2:3] == b"\x08" and answer[4:5] == b"\x12"
print(answer[3], answer[6 : 6 + answer[5]].decode())
PY
cat >containerd.toml <<TOML
version = 2
root = "$dir/root"
state = "$dir/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri"]
[grpc]
address = "$dir/grpc"
[ttrpc]
address = "$dir/go"
TOML
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml

# try NAME COMMAND...: the codes that the server answers with which the command starts.
try() {
    local name=$1 service=containerd.services.events.ttrpc.v1.Events
    shift
    "$@" >"$name.log" 2>&1 &
    server=$!
    for _ in {1..100}; do
        if [[ -S $name ]]; then break; fi
        sleep 0.1
    done
    sleep 0.2
    method=$(python3 ask.py "$name" "$service" Other)
    other=$(python3 ask.py "$name" other.Service Forward)
    kill "$server"
    wait "$server" || true
    server=
    printf '%s\n' "$name:" "  other method: $method" "  other service: $other"
}
try go debian/usr/bin/containerd --config containerd.toml
[[ $method == '12 '* && $other == '12 '* ]] || changed "containerd answers otherwise"
try rust target/debug/server
[[ $method == '3 '* && $other == '3 '* ]] || changed "the crate answers otherwise"
