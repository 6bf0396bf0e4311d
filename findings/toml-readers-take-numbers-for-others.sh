#!/usr/bin/env bash
# Behaviour: with JavaScript's numbers instead of BigInts @ltd/j-toml reads each binary and octal
#   integer as 0. fast-toml reads nan as false, and -inf, +inf, +nan and -nan as strings.
# Versions: npm @ltd/j-toml 1.38.0, fast-toml 0.5.4, js-toml 2.0.1, Node 20.
# Expected: TOML 1.0.0, Integer: `0o` and `0b` are the prefixes of octal and binary numbers;
#   Float: inf, nan and both with a sign are floats. js-toml says so.
# Seen: 0o755: 493, j-toml 0, with BigInts 493; 0b1010: 10, j-toml 0, with BigInts 10; nan:
#   fast-toml false; -inf: fast-toml "-inf"
# Here: a mode of a socket or directory, which settings write as 0o755, becomes one that lets no
#   one in. The daemon's settings are read in Rust.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @ltd/j-toml@1.38.0 fast-toml@0.5.4 \
    js-toml@2.0.1
cat >read.mjs <<'JS'
import jtoml from "@ltd/j-toml";
import fast from "fast-toml";
import { load } from "js-toml";

const show = (value) => (typeof value === "string" ? JSON.stringify(value) : String(value));
for (const text of ["0xff", "0o755", "0b1010", "inf", "+inf", "-inf", "nan", "-nan"]) {
  const source = `value = ${text}\n`;
  const readers = {
    "js-toml": load(source),
    "fast-toml": fast.parse(source),
    "j-toml": jtoml.parse(source, 1.0, "\n", false),
    "with BigInts": jtoml.parse(source, 1.0, "\n", true),
  };
  const read = Object.entries(readers).map(([name, { value }]) => `${name} ${show(value)}`);
  console.log(`${text}: ${read.join(", ")}`);
}
JS
seen=$(node read.mjs)
echo "$seen"
wanted=$(
    cat <<'SEEN'
0xff: js-toml 255, fast-toml 255, j-toml 255, with BigInts 255
0o755: js-toml 493, fast-toml 493, j-toml 0, with BigInts 493
0b1010: js-toml 10, fast-toml 10, j-toml 0, with BigInts 10
inf: js-toml Infinity, fast-toml Infinity, j-toml Infinity, with BigInts Infinity
+inf: js-toml Infinity, fast-toml "+inf", j-toml Infinity, with BigInts Infinity
-inf: js-toml -Infinity, fast-toml "-inf", j-toml -Infinity, with BigInts -Infinity
nan: js-toml NaN, fast-toml false, j-toml NaN, with BigInts NaN
-nan: js-toml NaN, fast-toml "-nan", j-toml NaN, with BigInts NaN
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the numbers otherwise"
