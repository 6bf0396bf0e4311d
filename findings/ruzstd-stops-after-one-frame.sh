#!/usr/bin/env bash
# Behaviour: ruzstd's StreamingDecoder reads the first frame of a stream and then reports its end;
#   what follows is left unread, without an error. A stream that begins with a skippable frame is
#   an error at once. Its own `decode_all` reads both.
# Version: Rust crate ruzstd 0.9.1.
# Expected: a reader over a .zst stream gives all of it: by RFC 8878 that is one or more frames.
# Seen: "first " of "first second"; SkipFrame
# Here: zstd layers of images have several frames (zstd:chunked, pzstd); a layer read so would be
#   cut short, so the node daemon's `precompile` loops over frames.
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
name = "frames"
version = "0.0.0"
edition = "2021"

[dependencies]
ruzstd = "=0.9.1"
TOML
cat >app/src/main.rs <<'RS'
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use ruzstd::encoding::{compress_to_vec, CompressionLevel};
use std::io::Read;

fn frame(text: &str) -> Vec<u8> {
    compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
}

fn all(data: &[u8]) -> String {
    let mut text = vec![0; 64];
    let length = FrameDecoder::new().decode_all(data, &mut text).expect("decode_all");
    String::from_utf8_lossy(&text[..length]).into_owned()
}

fn streamed(data: &[u8]) -> String {
    let mut text = String::new();
    match StreamingDecoder::new(data) {
        Ok(mut decoder) => decoder.read_to_string(&mut text).expect("read_to_string"),
        Err(error) => return format!("error: {error:?}"),
    };
    text
}

fn main() {
    let two = [frame("first "), frame("second")].concat();
    // The magic number of a skippable frame, its length, its content.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7][..], &frame("after")].concat();
    println!("two frames: all {:?}, streamed {:?}", all(&two), streamed(&two));
    println!("skippable first: all {:?}, streamed {:?}", all(&skippable), streamed(&skippable));
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
said=$(target/debug/frames)
echo "$said"
[[ $said == 'two frames: all "first second", streamed "first "'$'\n'* ]] || changed "other texts"
[[ $said == *'skippable first: all "after", streamed "error: '*SkipFrame* ]] ||
    changed "another error"
