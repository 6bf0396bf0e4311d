#!/usr/bin/env bash
# Behaviour: for the dockerfile-parser crate `--link` of COPY, and each option after it, is a file to
#   copy: the stage of `--from` is lost. COPY with a JSON array, ENV with an escaped blank and ENV with
#   an empty value make the whole file an error.
# Versions: Rust crates dockerfile-parser 0.9.0, parse-dockerfile 0.1.9.
# Expected: Dockerfile reference: "COPY [OPTIONS] <src> ... <dest>" and "COPY [OPTIONS] ["<src>", ...
#   "<dest>"]", with `--link` among the options; ENV: "Quotes and backslashes can be used to include
#   spaces within values". parse-dockerfile reads all so.
# Seen: COPY --link --from=build /app /bin/: no options, and "--link", "--from=build" and "/app" to
#   copy; COPY ["read me", "/doc/"]: "error unescaping string: UnexpectedEOF"; ENV A=b\ c and ENV E=:
#   "could not parse Dockerfile"
# Here: a tool that follows by this crate what is in an image misses the stage that compiles the
#   program, as in the images of WebAssembly programs, in which there is nothing else.
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
name = "read"
version = "0.0.0"
edition = "2021"

[dependencies]
dockerfile-parser = "=0.9.0"
parse-dockerfile = { version = "=0.1.9", default-features = false }
TOML
cat >app/src/main.rs <<'RS'
use dockerfile_parser::{Dockerfile, Instruction};
use parse_dockerfile::{Instruction as Other, Source};

/// What the crate reads of the line after the first one.
fn read(text: &str) -> String {
    match Dockerfile::parse(text) {
        Ok(file) => match &file.instructions[1] {
            Instruction::Copy(copy) => {
                let options: Vec<_> = copy.flags.iter().map(|flag| flag.name.as_ref()).collect();
                let files: Vec<_> = copy.sources.iter().map(|source| source.as_ref()).collect();
                format!("options {options:?}, files {files:?}")
            }
            _ => "another instruction".into(),
        },
        Err(error) => error.to_string().split("-->").next().unwrap().trim().into(),
    }
}

/// What parse-dockerfile reads of it.
fn read_by_other(text: &str) -> String {
    match &parse_dockerfile::parse(text).unwrap().instructions[1] {
        Other::Copy(copy) => {
            let options: Vec<_> = copy.options.iter().map(|option| &*option.name.value).collect();
            let files = copy.src.iter().map(|source| match source {
                Source::Path(path) => &*path.value,
                _ => "another source",
            });
            format!("options {options:?}, files {:?}", files.collect::<Vec<_>>())
        }
        Other::Env(env) => format!("environment {}", env.arguments.value),
        _ => "another instruction".into(),
    }
}

fn main() {
    for line in std::io::stdin().lines().map(Result::unwrap) {
        let text = format!("FROM scratch\n{line}\n");
        println!("{line}");
        println!("  parse-dockerfile: {}", read_by_other(&text));
        println!("  dockerfile-parser: {}", read(&text));
    }
}
RS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
target/debug/read <<'LINES' | tee seen
COPY --from=build --link /app /bin/
COPY --link --from=build /app /bin/
COPY ["read me", "/doc/"]
ENV A=b\ c
ENV E=
LINES
cmp seen - <<'SEEN' || changed "they read other things"
COPY --from=build --link /app /bin/
  parse-dockerfile: options ["from", "link"], files ["/app"]
  dockerfile-parser: options ["from"], files ["--link", "/app"]
COPY --link --from=build /app /bin/
  parse-dockerfile: options ["link", "from"], files ["/app"]
  dockerfile-parser: options [], files ["--link", "--from=build", "/app"]
COPY ["read me", "/doc/"]
  parse-dockerfile: options [], files ["read me"]
  dockerfile-parser: error unescaping string: UnexpectedEOF
ENV A=b\ c
  parse-dockerfile: environment A=b\ c
  dockerfile-parser: could not parse Dockerfile:
ENV E=
  parse-dockerfile: environment E=
  dockerfile-parser: could not parse Dockerfile:
SEEN
