#!/usr/bin/env bash
# Behaviour: in jco's preview2-shim a stream for appending begins at the end that the file has when it
#   is made, and goes on from there: what others have written since is overwritten. Two descriptors of
#   one file are two objects.
# Versions: npm @bytecodealliance/preview2-shim 0.26.1, Node 20.
# Expected: wasi:filesystem/types, append-via-stream: "similar to `write` with `O_APPEND`", which POSIX
#   wants at the end of the file "prior to each write"; is-same-object: "whether the two descriptors
#   have the same device (`st_dev`) and inode" numbers.
# Seen: one and three written to the first of two streams, two to the second one in between: "two" and
#   "three", where a file of Node that is opened with "a" has all; is-same-object: false
# Here: components that write into one log, or one that opens its log twice, lose lines under jco, and
#   under the shims of this project none.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/preview2-shim@0.26.1
cat >append.mjs <<'JS'
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { filesystem } from "@bytecodealliance/preview2-shim";

/// Writes three lines to two places in turn, and tells what is in the file.
function lines(name, file, first, second) {
    first("one\n");
    second("two\n");
    first("three\n");
    console.log(`${name}: ${readFileSync(file, "utf8").trim().split("\n").join(" ")}`);
}

const files = [1, 2].map(() => openSync("node.log", "a"));
lines("node", "node.log", ...files.map((file) => (line) => writeSync(file, line)));
files.forEach(closeSync);

writeFileSync("shim.log", "");
filesystem._setPreopens({ "/": process.cwd() });
const [[root]] = filesystem.preopens.getDirectories();
const open = () => root.openAt({ symlinkFollow: true }, "shim.log", {}, { write: true });
const descriptors = [open(), open()];
const streams = descriptors.map((descriptor) => descriptor.appendViaStream());
const write = (stream) => (line) => stream.blockingWriteAndFlush(new TextEncoder().encode(line));
lines("preview2-shim", "shim.log", ...streams.map(write));
console.log(`the same object: ${descriptors[0].isSameObject(descriptors[1])}`);
JS
node append.mjs | tee seen
cmp seen - <<'SEEN' || changed "it does something else"
node: one two three
preview2-shim: two three
the same object: false
SEEN
