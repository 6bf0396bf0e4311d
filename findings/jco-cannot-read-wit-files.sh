#!/usr/bin/env bash
# Behaviour: jco's tools fail for every WIT path with "No such file or directory". They are wasm
#   components that reach files through preview2-shim; from version 0.26 on the shim gives its
#   guests no directory unless it is told to, and jco, which asks for ^0.26.0, does not tell it.
# Versions: npm @bytecodealliance/jco-transpile 0.15.0 (that of jco 1.35.0), preview2-shim 0.26.1.
# Expected: `jco componentize app.js --wit FILE` reads the file; the path is absolute and right.
# Seen: "failed to get path metadata: No such file or directory (os error 44)"; 44 is WASI's ENOENT
# Here: JavaScript components are made with componentize-js itself, which takes WIT as text.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
cat >package.json <<'JSON'
{ "overrides": { "@bytecodealliance/preview2-shim": "0.26.1" } }
JSON
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/jco-transpile@0.15.0
echo 'package local:calc; world calc { export add: func(a: u32, b: u32) -> u32; }' >calc.wit
cat >read.mjs <<'JS'
import { resolve } from "node:path";
import { componentWitMetadataForWorld } from "@bytecodealliance/jco-transpile";
import { _setPreopens } from "@bytecodealliance/preview2-shim/filesystem";
if (process.argv[2] === "told") _setPreopens({ "/": "/" });
try {
  await componentWitMetadataForWorld({ tag: "path", val: resolve("calc.wit") }, "calc");
  console.log("read");
} catch (error) {
  console.log(error.message ?? error);
}
JS
as_is=$(node read.mjs)
told=$(node read.mjs told)
echo "as installed: $as_is"
echo "shim told of /: $told"
[[ $as_is == *'No such file or directory (os error 44)' ]] || changed "the file is found"
[[ $told == read ]] || changed "with a directory it fails, too"
