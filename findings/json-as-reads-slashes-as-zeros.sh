#!/usr/bin/env bash
# Behaviour: json-as reads the escape `\/` of a JSON string as U+0000, without an error, and writes
#   NaN and infinity as they are, which is no JSON.
# Versions: npm json-as 1.6.0, assemblyscript 0.28.20, Node 20.
# Expected: RFC 8259, Strings: `\/` is a slash; Numbers: infinity and NaN are not permitted.
#   JavaScript's JSON reads the first as "/" and writes the others as null.
# Seen: "a\/b": a, U+0000, b, by Node a/b; the other seven escapes: as by Node; [NaN]: "[NaN]",
#   which JSON.parse refuses, by Node "[null]"
# Here: programs that put JSON into web pages write each slash so: a guest in AssemblyScript gets
#   paths and addresses with zeros in them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{ "type": "module" }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts assemblyscript@0.28.20 json-as@1.6.0

cat >json.ts <<'TS'
import { JSON } from "json-as";

export function read(text: string): string {
  return JSON.parse<string>(text);
}
export function write(numbers: f64[]): string {
  return JSON.stringify(numbers);
}
TS
node_modules/.bin/asc json.ts -o json.wasm --bindings esm --transform json-as/transform
cat >call.js <<'JS'
import { read, write } from "./json.js";
const codes = (text) => [...text].map((letter) => letter.charCodeAt(0)).join(" ");
for (const text of [String.raw`"a\/b"`, String.raw`"\"\\\b\f\n\r\t\u0041"`, `"a/b"`]) {
  console.log(`${text}: ${codes(read(text))}; by Node ${codes(JSON.parse(text))}`);
}
for (const numbers of [[1.5], [NaN], [Infinity]]) {
  console.log(`[${numbers}]: ${write(numbers)}; by Node ${JSON.stringify(numbers)}`);
}
JS
said=$(node call.js)
echo "$said"
wanted=$(
    cat <<'SAID'
"a\/b": 97 0 98; by Node 97 47 98
"\"\\\b\f\n\r\t\u0041": 34 92 8 12 10 13 9 65; by Node 34 92 8 12 10 13 9 65
"a/b": 97 47 98; by Node 97 47 98
[1.5]: [1.5]; by Node [1.5]
[NaN]: [NaN]; by Node [null]
[Infinity]: [Infinity]; by Node [null]
SAID
)
[[ $said == "$wanted" ]] || changed "other JSON"
