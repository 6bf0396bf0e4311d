#!/usr/bin/env bash
# Behaviour: a stream of lines that tokio-util's LinesCodec makes, with a limit to a line's
#   length, ends after the first line that is longer, though more lines follow. Polled once more
#   it goes on.
# Versions: Rust crates tokio-util 0.7.20, futures-util 0.3.34, tokio 1.54.1.
# Expected: an error for that line and then the others. LinesCodec: after the line "has been fully
#   discarded" calls of `decode` "will function as normal"; a stream that gives None has ended.
# Seen: of one, a long line, three and four: one, an error, the end; after the end: three, four,
#   the end
# Here: whoever copies a container's output line by line in such a loop stops at the first long
#   line, and the program blocks on a full pipe. The shims copy bytes.
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
name = "lines"
version = "0.0.0"
edition = "2021"

[dependencies]
futures-util = "=0.3.34"
tokio = { version = "=1.54.1", features = ["macros", "rt"] }
tokio-util = { version = "=0.7.20", features = ["codec"] }
TOML
cat >app/src/main.rs <<'RS'
use futures_util::StreamExt;
use tokio_util::codec::{FramedRead, LinesCodec};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let text = format!("one\n{}\nthree\nfour\n", "2".repeat(50));
    let mut lines = FramedRead::new(text.as_bytes(), LinesCodec::new_with_max_length(10));
    for _ in 0..2 {
        let mut got = Vec::new();
        while let Some(line) = lines.next().await {
            got.push(line.unwrap_or_else(|error| format!("({error})")));
        }
        println!("{}, the end", got.join(", "));
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
got=$(cargo run -q --manifest-path app/Cargo.toml)
echo "$got"
[[ $got == "one, (max line length exceeded), the end
three, four, the end" ]] || changed "other lines"
