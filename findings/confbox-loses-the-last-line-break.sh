#!/usr/bin/env bash
# Behaviour: confbox writes YAML without a line break at its end. If the last value is a text of
#   several lines, the text's own last line break is gone for PyYAML and ruamel.yaml; confbox, yaml
#   and js-yaml read one that is not there.
# Versions: npm confbox 0.3.2, yaml 2.9.1, js-yaml 5.5.0, PyPI PyYAML 6.0.4, ruamel.yaml 0.19.1.
# Expected: the text as it was; js-yaml, by which confbox writes, ends the file with a line break,
#   and all five read that alike. By the grammar of YAML 1.2.2 (8.1.1.2, b-chomped-last) a block may
#   end with the end of the input in place of a line break.
# Seen: confbox's file ends with "exec app"; read by PyYAML and ruamel.yaml as "exec app", by
#   confbox, yaml and js-yaml as "exec app\n"
# Here: a manifest often ends with a ConfigMap's file: a guest that has it mounted gets it without
#   its last line break, or with it if another value comes after.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py PyYAML==6.0.4 ruamel.yaml==0.19.1
npm install --silent --no-audit --no-fund --ignore-scripts confbox@0.3.2 yaml@2.9.1 js-yaml@5.5.0
cat >write.mjs <<'JS'
import { writeFileSync } from "node:fs";
import { stringifyYAML } from "confbox";
import { dump } from "js-yaml";
const map = { kind: "ConfigMap", data: { first: "exec app\n", last: "exec app\n" } };
writeFileSync("of-confbox.yaml", stringifyYAML(map));
writeFileSync("of-js-yaml.yaml", dump(map));
JS
cat >read.mjs <<'JS'
import { readFileSync } from "node:fs";
import { parseYAML } from "confbox";
import { load } from "js-yaml";
import { parse } from "yaml";
const text = readFileSync(process.argv[2], "utf8");
const readers = { confbox: parseYAML, "js-yaml": load, yaml: parse };
for (const [name, read] of Object.entries(readers)) {
  const { first, last } = read(text).data;
  console.log(name, JSON.stringify([first, last]));
}
JS
cat >read.py <<'PY'
import json, sys
import yaml
from ruamel.yaml import YAML

text = open(sys.argv[1]).read()
for name, read in (("PyYAML", yaml.safe_load), ("ruamel", YAML(typ="safe", pure=True).load)):
    data = read(text)["data"]
    print(name, json.dumps([data["first"], data["last"]], separators=(",", ":")))
PY
node write.mjs
for writer in js-yaml confbox; do
    file=of-$writer.yaml
    { node read.mjs "$file" && PYTHONPATH=$dir/py python3 read.py "$file"; } >"by-$writer"
    sed "s/^/written by $writer, read by /" "by-$writer"
done
whole='["exec app\n","exec app\n"]'
cut='["exec app\n","exec app"]'
readers=(confbox js-yaml yaml PyYAML ruamel)
[[ $(<by-js-yaml) == "$(printf "%s ${whole//\\/\\\\}\n" "${readers[@]}")" ]] ||
    changed "js-yaml's file is read otherwise"
[[ $(tail -c 3 of-confbox.yaml) == app ]] || changed "confbox ends the file with a line break"
[[ $(<by-confbox) == "$(printf "%s ${whole//\\/\\\\}\n" "${readers[@]:0:3}"
    printf "%s ${cut//\\/\\\\}\n" "${readers[@]:3}")" ]] || changed "confbox's file is read otherwise"
