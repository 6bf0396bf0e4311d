#!/usr/bin/env bash
# Behaviour: of a directory that a component is given, jco's preview2-shim tells neither the entries
#   (bad-descriptor) nor the state (invalid), unless the component opens it once more as ".".
# Versions: npm @bytecodealliance/preview2-shim 0.26.1, Node 20.
# Expected: wasi:filesystem/preopens: get-directories has descriptors like others; types,
#   read-directory: "Read directory entries from a directory", and stat: "Return the attributes of an
#   open file or directory".
# Seen: a given directory: read-directory bad-descriptor, stat invalid; "." of it: two entries, and
#   "directory"
# Here: a component that goes through a volume from its root, as it does under the shims, ends with an
#   error at once under jco. Programs of wasi-libc open "." and see no difference.
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
cat >root.mjs <<'JS'
import { mkdirSync, writeFileSync } from "node:fs";
import { filesystem } from "@bytecodealliance/preview2-shim";

for (const name of ["one", "two"]) {
    mkdirSync(name);
    writeFileSync(`${name}/a`, name);
    writeFileSync(`${name}/b`, name);
}
filesystem._setPreopens({ "/one": `${process.cwd()}/one`, "/two": `${process.cwd()}/two` });

/// What comes of it, or the error.
function tell(what, action) {
    let said;
    try {
        said = action();
    } catch (error) {
        said = `error ${error}`;
    }
    console.log(`${what}: ${said}`);
}

/// The names of the directory's entries.
function list(directory) {
    const [entries, names] = [directory.readDirectory(), []];
    for (let entry; (entry = entries.readDirectoryEntry()); ) names.push(entry.name);
    return names.sort().join(" ");
}

for (const [given, name] of filesystem.preopens.getDirectories()) {
    const opened = given.openAt({ symlinkFollow: true }, ".", { directory: true }, { read: true });
    tell(`${name} list`, () => list(given));
    tell(`${name} state`, () => given.stat().type);
    tell(`${name}/. list`, () => list(opened));
    tell(`${name}/. state`, () => opened.stat().type);
}
JS
node root.mjs | tee seen
cmp seen - <<'SEEN' || changed "it does something else"
/one list: error bad-descriptor
/one state: error invalid
/one/. list: a b
/one/. state: directory
/two list: error bad-descriptor
/two state: error invalid
/two/. list: a b
/two/. state: directory
SEEN
