#!/usr/bin/env bash
# Behaviour: a file from before 1970 is missing in what modern-tar reads of GNU tar's archive, and its
#   text is taken for the next entry's header: there is an empty file named like the text. What
#   modern-tar writes of such a file it reads in the same way, and tar ends with an error. Nothing
#   is said, unless it is told to be strict.
# Versions: npm modern-tar 0.8.6, tar-stream 3.2.2, GNU tar 1.34 (Debian 12), Node 20.
# Expected: GNU tar's manual, "Basic Tar Format" (numbers that do not fit are base 256, negative ones as
#   two's complement), and POSIX has negative times, too (pax, mtime); tar-stream reads the file.
# Seen: archive with "old" of 1969 and "new": modern-tar finds "the text" (0 bytes) and new, tar-stream
#   old and new; its own archive: the same, and tar: "Archive contains '0-…' where numeric time_t value
#   expected", status 2
# Here: layers hold what a build put into them, with any times: files of an image vanish, and others
#   appear.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts modern-tar@0.8.6 tar-stream@3.2.2
mkdir files
printf 'the text' >files/old
printf 'another' >files/new
touch -d '1969-06-01 00:00:00 UTC' files/old
TZ=UTC tar --format=gnu -cf gnu.tar -C files old new
cat >read.mjs <<'JS'
import { readFileSync, writeFileSync } from "node:fs";
import { packTar, unpackTar } from "modern-tar";
import tarStream from "tar-stream";

async function read(name) {
  const entries = await unpackTar(new Uint8Array(readFileSync(name)));
  return entries.map(({ header, data }) => `"${header.name}" (${data?.length ?? 0})`).join(", ");
}
async function readByTarStream(name) {
  const extract = tarStream.extract();
  extract.end(readFileSync(name));
  const names = [];
  for await (const entry of extract) {
    names.push(`"${entry.header.name}" (${entry.header.size})`);
    entry.resume();
  }
  return names.join(", ");
}
const files = ["old", "new"].map((name) => {
  const body = readFileSync(`files/${name}`);
  const mtime = new Date(name === "old" ? "1969-06-01T00:00:00Z" : "2020-06-01T00:00:00Z");
  return { header: { name, size: body.length, mtime }, body };
});
writeFileSync("own.tar", await packTar(files));
console.log(`of GNU tar: ${await read("gnu.tar")}`);
console.log(`of GNU tar, by tar-stream: ${await readByTarStream("gnu.tar")}`);
console.log(`of its own: ${await read("own.tar")}`);
JS
seen=$(node read.mjs)
echo "$seen"
status=0
said=$(LC_ALL=C tar -tf own.tar 2>&1 >/dev/null) || status=$?
echo "tar: $status: ${said%%$'\n'*}"
[[ $seen == 'of GNU tar: "the text" (0), "new" (7)
of GNU tar, by tar-stream: "old" (8), "new" (7)
of its own: "the text" (0), "new" (7)' ]] || changed "it reads others"
[[ $status == 2 && $said == *'where numeric time_t value expected'* ]] || changed "tar reads it"
