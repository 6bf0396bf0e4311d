#!/usr/bin/env bash
# Behaviour: hickory-resolver drops the interface of a name server of resolv.conf: fe80::1%eth1 is
#   asked on eth0, if that is the first one. A file without a server is an error.
# Versions: Rust crates hickory-resolver 0.26.3, tokio 1.54.1; glibc 2.36.
# Expected: what glibc does. RFC 4007, section 11: "<address>%<zone_id>" is an address of that zone;
#   resolv.conf(5), nameserver: without entries "the default is to use the name server on the local
#   machine".
# Seen: nameserver fe80::1%eth1: glibc 192.0.2.1, hickory-resolver "request timed out"; search alone:
#   glibc 192.0.2.1 of 127.0.0.1, hickory-resolver "no nameservers found in config"
# Here: programs get the host's resolv.conf, in which a router that announces itself has such an
#   address; those of Rust for the native runtime then resolve no name, where curl does.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "resolve"
version = "0.0.0"
edition = "2021"

[dependencies]
hickory-resolver = "=0.26.3"
tokio = { version = "=1.54.1", features = ["rt"] }
TOML
cat >app/src/main.rs <<'RS'
use hickory_resolver::TokioResolver;
use std::error::Error;

async fn resolve() -> Result<String, Box<dyn Error>> {
    let resolver = TokioResolver::builder_tokio()?.build()?;
    let found = resolver.lookup_ip("web.example.").await?;
    Ok(found.iter().map(|address| address.to_string()).collect::<Vec<_>>().join(" "))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{}", runtime.block_on(resolve()).unwrap_or_else(|error| error.to_string()));
}
RS
# A server that answers each question for an IPv4 address with 192.0.2.1, and others with nothing.
cat >serve.py <<'PY'
import socket
import sys

place = socket.getaddrinfo(sys.argv[1], 53, type=socket.SOCK_DGRAM)[0]
server = socket.socket(place[0], socket.SOCK_DGRAM)
server.bind(place[4])
print("ready", flush=True)
while True:
    query, client = server.recvfrom(512)
    end = query.index(b"\0", 12) + 5
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1" if query[end - 3] == 1 else b""
    counts = b"\0\1\0" + bytes([bool(record)]) + b"\0\0\0\0"
    server.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + record, client)
PY
# In a network of its own with a server on 127.0.0.1 and the interfaces eth0 and eth1, on whose other
# end is a second network, with a server on fe80::1.
cat >ask.sh <<'SH'
set -euo pipefail
mount --bind resolv.conf "$(readlink -f /etc/resolv.conf)"
ip link set lo up
unshare --net sleep 60 &
trap 'kill $(jobs -p)' EXIT
other=$!
until [[ $(readlink /proc/$other/ns/net) != "$(readlink /proc/self/ns/net)" ]]; do sleep 0.1; done
there=(nsenter "--net=/proc/$other/ns/net")
for number in 0 1; do
    ip link add "eth$number" type veth peer name "end$number" netns $other
    ip link set "eth$number" up
    "${there[@]}" ip link set "end$number" up
done
"${there[@]}" ip address add fe80::1/64 dev end1 nodad
rm -f ready.*
sleep 2.5
python3 serve.py 127.0.0.1 >ready.1 &
"${there[@]}" python3 serve.py fe80::1%end1 >ready.2 &
until [[ -s ready.1 && -s ready.2 ]]; do sleep 0.1; done
echo "glibc: $(python3 -c 'import socket; print(socket.gethostbyname("web.example."))')"
echo "hickory-resolver: $(timeout 20 target/debug/resolve)"
SH
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
for line in "nameserver 127.0.0.1" "search example" "nameserver fe80::1%eth1"; do
    printf '%s\n' "$line" "options timeout:1 attempts:2" >resolv.conf
    echo "$line"
    timeout 60 unshare --net --mount bash ask.sh
done | tee seen
cmp seen - <<'SEEN' || changed "other answers"
nameserver 127.0.0.1
glibc: 192.0.2.1
hickory-resolver: 192.0.2.1
search example
glibc: 192.0.2.1
hickory-resolver: io error: no nameservers found in config
nameserver fe80::1%eth1
glibc: 192.0.2.1
hickory-resolver: request timed out
SEEN
