#!/usr/bin/env bash
# Behaviour: the Rust crate reads nothing of a DNS answer that was cut off before its last record, not
#   even that it was: the flag TC, by which a client knows that it has to ask by TCP, is in the
#   header that its error leaves out. Only the crate's functions for a bare header tell it.
# Versions: Rust crate simple-dns 0.13.0; PyPI dnspython 2.9.2.
# Expected: RFC 1035, 4.1.1 (TC: "this message was truncated due to length greater than that permitted
#   on the transmission channel"), RFC 2181, 9: a client ignores such an answer and asks again.
#   dnspython tells it apart from a broken one, and has the records before the cut.
# Seen: an answer of 20 addresses whole: both 20; cut behind the 10th and within it, with TC: dnspython
#   "truncated", 10 and 9 answers; simple-dns InsufficientData, as for any broken message
# Here: `wasi:sockets` looks names up; its resolver reads header and question by itself first.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py dnspython==2.9.2
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "answers"
version = "0.0.0"
edition = "2021"

[dependencies]
simple-dns = "=0.13.0"
TOML
cat >app/src/main.rs <<'RS'
use simple_dns::{header_buffer, Packet, PacketFlag};

fn main() {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path).expect("file");
        let cut = header_buffer::has_flags(&bytes, PacketFlag::TRUNCATION).expect("header");
        match Packet::parse(&bytes) {
            Ok(packet) => println!("{path}: {} answers; header: TC {cut}", packet.answers.len()),
            Err(error) => println!("{path}: {error:?}; header: TC {cut}"),
        }
    }
}
RS
cat >answers.py <<'PY'
import dns.flags
import dns.message
import dns.rrset

query = dns.message.make_query("many.example.", "A", id=7)
answer = dns.message.make_response(query)
addresses = [f"192.0.2.{number}" for number in range(1, 21)]
answer.answer.append(dns.rrset.from_text("many.example.", 60, "IN", "A", *addresses))
whole = answer.to_wire()
record = 16  # a name that points to the question, type, class, time to live, length, address
answer.flags |= dns.flags.TC
cut = answer.to_wire()
cuts = {"whole": whole, "between": cut[: -10 * record], "within": cut[: -10 * record - 3]}
for name, wire in cuts.items():
    open(name, "wb").write(wire)
    try:
        message = dns.message.from_wire(wire, raise_on_truncation=True)
        said = "whole"
    except dns.message.Truncated as error:
        message = error.message()
        said = "truncated"
    print(f"{name}: {said}, {sum(map(len, message.answer))} answers")
PY
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
python=$(PYTHONPATH=py python3 answers.py)
rust=$(target/debug/answers whole between within)
printf '%s\n' "dnspython:" "$python" "simple-dns:" "$rust"
[[ $python == 'whole: whole, 20 answers
between: truncated, 10 answers
within: truncated, 9 answers' ]] || changed "dnspython reads them otherwise"
[[ $rust == 'whole: 20 answers; header: TC false
between: InsufficientData; header: TC true
within: InsufficientData; header: TC true' ]] || changed "simple-dns reads them otherwise"
