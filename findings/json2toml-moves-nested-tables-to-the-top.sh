#!/usr/bin/env bash
# Behaviour: json2toml writes the tables of a table of an array with their last name alone: what
#   is plugins[0].limits is limits in the file, and of two such tables the file is an error. An
#   empty table is left out, a table in a mixed array and infinity are written as JSON.
# Versions: npm json2toml 6.1.2, smol-toml 1.9.1, Node 20.
# Expected: TOML 1.0.0, Array of Tables: a sub-table of the last element is named by the whole
#   path, [plugins.limits]; Table: empty tables are allowed; Float: inf. smol-toml writes them so.
# Seen: one plugin with a table limits: {"plugins":[{"name":"a"}],"limits":{"cpu":1}}; two: an
#   error; {"env":{}}: nothing; [1,{"a":2}] and Infinity: errors
# Here: settings of containerd and of the daemon are TOML; ones that a tool writes so set nothing
#   where they look complete.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts json2toml@6.1.2 smol-toml@1.9.1
cat >write.mjs <<'JS'
import json2toml from "json2toml";
import { parse, stringify } from "smol-toml";

const show = (text) => {
  try {
    return JSON.stringify(parse(text), (_, value) => (value === Infinity ? "inf" : value));
  } catch {
    return "an error";
  }
};
for (const value of [
  { limits: { cpu: { share: 1 } } },
  { plugins: [{ name: "a", limits: { cpu: 1 } }] },
  { plugins: [{ limits: { cpu: 1 } }, { limits: { cpu: 2 } }] },
  { plugins: [{ rules: [{ port: 1 }] }, { rules: [{ port: 2 }] }] },
  { env: {} },
  { list: [1, { a: 2 }] },
  { ratio: Infinity },
]) {
  console.log(`json2toml ${show(json2toml(value))}`);
  console.log(`smol-toml ${show(stringify(value))}`);
}
JS
seen=$(node write.mjs)
echo "$seen"
wanted=$(
    cat <<'SEEN'
json2toml {"limits":{"cpu":{"share":1}}}
smol-toml {"limits":{"cpu":{"share":1}}}
json2toml {"plugins":[{"name":"a"}],"limits":{"cpu":1}}
smol-toml {"plugins":[{"name":"a","limits":{"cpu":1}}]}
json2toml an error
smol-toml {"plugins":[{"limits":{"cpu":1}},{"limits":{"cpu":2}}]}
json2toml {"plugins":[{},{}],"rules":[{"port":1},{"port":2}]}
smol-toml {"plugins":[{"rules":[{"port":1}]},{"rules":[{"port":2}]}]}
json2toml {}
smol-toml {"env":{}}
json2toml an error
smol-toml {"list":[1,{"a":2}]}
json2toml an error
smol-toml {"ratio":"inf"}
SEEN
)
[[ $seen == "$wanted" ]] || changed "it is written otherwise"
