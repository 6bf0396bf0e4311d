#!/usr/bin/env bash
# Behaviour: the Rust crate refuses a name server whose interface has a `.`, `-` or `_` in its name, as
#   those of VLANs and bridges have (eth0.100, br-lan): `Config::parse` fails for the whole file.
# Versions: Rust crate resolv-conf 0.7.6; glibc 2.36 (Debian 12).
# Expected: RFC 4007, 11.2 (`<address>%<zone_id>`; the zone may be an interface's name), and interfaces
#   are called so; glibc asks such a server, here on an interface of that name.
# Seen: eth0: both; eth0.100, br-lan, wlan_0: asked by glibc, "InvalidIp" by the crate
# Here: the resolver of `wasi:sockets` reads the zones of name servers by itself for that reason.
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
name = "servers"
version = "0.0.0"
edition = "2021"

[dependencies]
resolv-conf = "=0.7.6"
TOML
cat >app/src/main.rs <<'RS'
fn main() {
    let text = std::fs::read_to_string("resolv.conf").expect("file");
    match resolv_conf::Config::parse(text) {
        Ok(config) => println!("{} server", config.nameservers.len()),
        Err(error) => println!("{error:?}"),
    }
}
RS
# A server on fe80::1 of the interface that answers each question for an address with 192.0.2.1.
cat >ask.py <<'PY'
import socket
import sys
import threading

server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("fe80::1", 53, 0, socket.if_nametoindex(sys.argv[1])))


def serve():
    while True:
        query, client = server.recvfrom(512)
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
        counts = b"\0\1\0\1\0\0\0\0"
        question = query[12 : query.index(b"\0", 12) + 5]
        server.sendto(query[:2] + b"\x81\x80" + counts + question + record, client)


threading.Thread(target=serve, daemon=True).start()
print(socket.gethostbyname("web.example."))
PY
# In a network and with a resolv.conf of its own.
cat >glibc.sh <<'SH'
set -euo pipefail
ip link set lo name "$1"
ip link set "$1" up
ip address add fe80::1/64 dev "$1" nodad
mount --bind resolv.conf "$(readlink -f /etc/resolv.conf)"
timeout 20 python3 ask.py "$1"
SH
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
for name in eth0 eth0.100 br-lan wlan_0; do
    echo "nameserver fe80::1%$name" >resolv.conf
    glibc=$(unshare --net --mount bash glibc.sh "$name") || changed "glibc does not ask on $name"
    rust=$(target/debug/servers)
    echo "fe80::1%$name: glibc: $glibc; resolv-conf: $rust"
    [[ $glibc == 192.0.2.1 ]] || changed "glibc gets another answer"
    if [[ $name == eth0 ]]; then
        [[ $rust == '1 server' ]] || changed "eth0 is refused"
    else
        [[ $rust == 'InvalidIp(0, '* ]] || changed "$name is read"
    fi
done
