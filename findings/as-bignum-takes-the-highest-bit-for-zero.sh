#!/usr/bin/env bash
# Behaviour: as-bignum's u128 takes a divisor of which only bit 63 or only bit 127 is set for
#   another number: numbers of 64 bits divided by 2^63 stay as they are, and to divide by 2^127 is
#   "Division by zero". 2^127 is 0.5 as an f64, has no digit in base 16 and 128 zeros before its
#   first one.
# Versions: npm as-bignum 0.3.1, assemblyscript 0.28.20, Node 20.
# Expected: the numbers, as of JavaScript's BigInt, and as of as-bignum itself for 2^62 and 2^126.
# Seen: 9 / 2^62: 0, 9 / 2^63: 9; (2^127 - 1) / 2^126: 1, / 2^127: Division by zero; 2^126:
#   8.507059173023462e+37, 0x4000…, 1; 2^127: 0.5, 0x, 128
# Here: a guest in AssemblyScript that computes with amounts or identifiers of 128 bits is right
#   until such a number comes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20 as-bignum@0.3.1

cat >numbers.ts <<'TS'
import { u128 } from "as-bignum/assembly";

export function divide(a: string, b: string): string {
  return (u128.fromString(a) / u128.fromString(b)).toString();
}
export function hexadecimal(a: string): string {
  return u128.fromString(a).toString(16);
}
export function float(a: string): f64 {
  return u128.fromString(a).toF64();
}
export function zeros(a: string): i32 {
  return u128.clz(u128.fromString(a));
}
TS
node_modules/.bin/asc numbers.ts -o numbers.wasm --bindings esm --exportRuntime
cat >call.js <<'JS'
import { divide, float, hexadecimal, zeros } from "./numbers.js";
const attempt = (call) => {
  try {
    return call();
  } catch (error) {
    return error.message.replace(/ in .*/, "");
  }
};
for (const [a, bit] of [[9n, 62n], [9n, 63n], [2n ** 64n - 1n, 62n], [2n ** 64n - 1n, 63n],
  [2n ** 127n - 1n, 126n], [2n ** 127n - 1n, 127n]]) {
  const quotient = attempt(() => divide(`${a}`, `${2n ** bit}`));
  console.log(`${a} / 2^${bit}: ${quotient}, by BigInt ${a / 2n ** bit}`);
}
for (const bit of [126n, 127n]) {
  const number = 2n ** bit;
  const own = [float(`${number}`), `0x${hexadecimal(`${number}`)}`, zeros(`${number}`)];
  const binary = number.toString(2);
  const right = [Number(number), `0x${number.toString(16)}`, 128 - binary.length];
  console.log(`2^${bit}: ${own.join(", ")}`);
  console.log(`2^${bit} by BigInt: ${right.join(", ")}`);
}
JS
said=$(node call.js)
echo "$said"
wanted=$(
    cat <<'SAID'
9 / 2^62: 0, by BigInt 0
9 / 2^63: 9, by BigInt 0
18446744073709551615 / 2^62: 3, by BigInt 3
18446744073709551615 / 2^63: 18446744073709551615, by BigInt 1
170141183460469231731687303715884105727 / 2^126: 1, by BigInt 1
170141183460469231731687303715884105727 / 2^127: Division by zero, by BigInt 0
2^126: 8.507059173023462e+37, 0x40000000000000000000000000000000, 1
2^126 by BigInt: 8.507059173023462e+37, 0x40000000000000000000000000000000, 1
2^127: 0.5, 0x, 128
2^127 by BigInt: 1.7014118346046923e+38, 0x80000000000000000000000000000000, 0
SAID
)
[[ $said == "$wanted" ]] || changed "other numbers"
