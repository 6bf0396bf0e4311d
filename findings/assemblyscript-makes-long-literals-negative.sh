#!/usr/bin/env bash
# Behaviour: AssemblyScript reads a whole number of an f64 as an i64, without an error: 2^63 is
#   -2^63, 2^64 - 1 is -1, and of the numbers above some wrap around and some are the error AS236.
#   With `.0` all are right.
# Versions: npm assemblyscript 0.28.20, Node 20.
# Expected: the literal stands for an f64, and is one in TypeScript (ECMAScript, "Numeric
#   Literals"), of which the README calls the language a variant; if it is an i64, AS236 "does not
#   fit" for all.
# Seen: 9223372036854775808: -9223372036854775808; 18446744073709551615: -1; 123456789012345680000:
#   -5670419503621181440; 99999999999999999999: AS236; 9223372036854775808.0: 9223372036854775808
# Here: a limit such as `value < 18446744073709551615` of a guest is always passed or never.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20

# value LITERAL: what Node reads of the f64, or the compiler's error.
value() {
    echo "export const value: f64 = $1;" >literal.ts
    if ! node_modules/.bin/asc literal.ts -o literal.wasm >errors 2>&1; then
        grep -o 'AS[0-9]*' errors
        return
    fi
    node -e 'const module = new WebAssembly.Module(require("fs").readFileSync("literal.wasm"));
        console.log(BigInt(new WebAssembly.Instance(module).exports.value.value).toString());'
}
# compare LITERAL WANTED: fails unless the literal is read as WANTED.
compare() {
    local got
    got=$(value "$1")
    echo "$1: $got"
    [[ $got == "$2" ]] || changed "$1 is $got, and not $2"
}
compare 9223372036854775807 9223372036854775808
compare 9223372036854775808 -9223372036854775808
compare 9223372036854775808.0 9223372036854775808
compare 18446744073709551615 -1
compare 18446744073709551615.0 18446744073709551616
compare 123456789012345680000 -5670419503621181440
compare 123456789012345680000.0 123456789012345683968
compare 99999999999999999999 AS236
compare 99999999999999999999.0 100000000000000000000

# The same in a comparison of f64s, which is true for every number below 2^64 in TypeScript.
echo 'export function below(value: f64): bool { return value < 18446744073709551615; }' >below.ts
node_modules/.bin/asc below.ts -o below.wasm
below=$(node -e 'const module = new WebAssembly.Module(require("fs").readFileSync("below.wasm"));
    console.log(new WebAssembly.Instance(module).exports.below(5));')
echo "5 < 18446744073709551615: $below"
[[ $below == 0 ]] || changed "5 is below 18446744073709551615"
