#!/usr/bin/env bash
# Behaviour: structured-headers writes numbers that have no digit left of three after the point
#   with the point and nothing after it: 12.0003 is "12." and 0.0004 is "0.", which no reader
#   takes, its own neither. Halves are rounded up. structured-field-values writes "12.0", "0.0"
#   and to even.
# Versions: npm structured-headers 2.1.0, structured-field-values 2.0.4, Node 20.
# Expected: RFC 9651, section 4.1.5: round to three digits after the point, halves to the even
#   one; if the fractional component is zero, append "0" after the point; section 4.2.4: fail
#   parsing if the last character is ".".
# Seen: 12.0003: structured-headers "12." and an error to read it, structured-field-values "12.0";
#   0.0625: "0.063" and "0.062"
# Here: a Server-Timing or priority that an HTTP service computes is valid for most values, and
#   for some of them the whole field is lost.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts structured-headers@2.1.0 \
    structured-field-values@2.0.4
cat >write.mjs <<'JS'
import { parseItem, serializeItem } from "structured-headers";
import { encodeItem } from "structured-field-values";

const read = (text) => {
  try {
    return `is read as ${parseItem(text)[0]}`;
  } catch {
    return "is not read";
  }
};
for (const value of [1.5, 12.0003, 0.0004, -0.0004, 0.0626, 0.0625]) {
  const text = serializeItem([value, new Map()]);
  console.log(`${value}: "${text}" ${read(text)}; the other one writes "${encodeItem(value)}"`);
}
JS
seen=$(node write.mjs)
echo "$seen"
wanted=$(
    cat <<'SEEN'
1.5: "1.5" is read as 1.5; the other one writes "1.5"
12.0003: "12." is not read; the other one writes "12.0"
0.0004: "0." is not read; the other one writes "0.0"
-0.0004: "-0." is not read; the other one writes "0.0"
0.0626: "0.063" is read as 0.063; the other one writes "0.063"
0.0625: "0.063" is read as 0.063; the other one writes "0.062"
SEEN
)
[[ $seen == "$wanted" ]] || changed "they are written otherwise"
