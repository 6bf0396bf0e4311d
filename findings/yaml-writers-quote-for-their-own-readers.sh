#!/usr/bin/env bash
# Behaviour: YAML libraries leave out the quotes of the strings that they would read as strings
#   themselves; another library reads numbers, truth values and times of day there.
# Versions: PyPI PyYAML 6.0.4, ruamel.yaml 0.19.1, npm yaml 2.9.1, js-yaml 5.5.0.
# Expected: a file without a %YAML line gives the strings that were written. js-yaml quotes all but
#   one of them for YAML 1.1 and 1.2, and yaml does if it is told `compat: "yaml-1.1"`.
# Seen: PyYAML's 1e3, 0899, 0o17 and 123e4567 are 1000, 899, 15 and infinity for the other three
#   (js-yaml reads the last as a string); on and 12:30:45 of ruamel.yaml and yaml, and yaml's 1_000,
#   are true, 45045 and 1000 for PyYAML
# Here: labels, annotations and variables of a pod are strings, and short commit names such as
#   123e4567 are among them. A manifest that one tool wrote and another one edits has other types.
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
npm install --silent --no-audit --no-fund --ignore-scripts yaml@2.9.1 js-yaml@5.5.0
echo '["plain", "on", "12:30:45", "1_000", "1e3", "0899", "0o17", "123e4567"]' >strings.json

# Either program writes the strings by its libraries, or reads the files of all: one line for each
# string that comes back as something else.
cat >yaml.mjs <<'JS'
import { readFileSync, writeFileSync } from "node:fs";
import * as jsYaml from "js-yaml";
import * as yaml from "yaml";
const strings = JSON.parse(readFileSync("strings.json"));
const writers = { yaml: yaml.stringify, "js-yaml": jsYaml.dump };
const readers = { yaml: yaml.parse, "js-yaml": jsYaml.load };
if (process.argv[2] === "write") {
  for (const name in writers) writeFileSync(`of-${name}`, writers[name](strings));
} else {
  for (const writer of ["PyYAML", "ruamel", "yaml", "js-yaml"])
    for (const name in readers)
      readers[name](readFileSync(`of-${writer}`, "utf8")).forEach((value, at) => {
        if (value !== strings[at]) console.log(`${writer} ${name} ${strings[at]} ${value}`);
      });
}
JS
cat >by.py <<'PY'
import json, sys
import yaml
from ruamel.yaml import YAML

strings = json.load(open("strings.json"))
ruamel = YAML(typ="safe", pure=True)
if sys.argv[1] == "write":
    yaml.safe_dump(strings, open("of-PyYAML", "w"))
    ruamel.dump(strings, open("of-ruamel", "w"))
else:
    for writer in ("PyYAML", "ruamel", "yaml", "js-yaml"):
        for name, read in (("PyYAML", yaml.safe_load), ("ruamel", ruamel.load)):
            for string, value in zip(strings, read(open("of-" + writer).read())):
                if value != string:
                    print(writer, name, string, value)
PY
export PYTHONPATH=$dir/py
python3 by.py write
node yaml.mjs write
{ python3 by.py read && node yaml.mjs read; } | LC_ALL=C sort >seen
sed -E 's/(.*) (.*) (.*) (.*)/written by \1, read by \2: "\3" as \4/' seen
LC_ALL=C sort >expected <<'LIST'
PyYAML ruamel 1e3 1000.0
PyYAML ruamel 0899 899
PyYAML ruamel 0o17 15
PyYAML ruamel 123e4567 inf
PyYAML yaml 1e3 1000
PyYAML yaml 0899 899
PyYAML yaml 0o17 15
PyYAML yaml 123e4567 Infinity
PyYAML js-yaml 1e3 1000
PyYAML js-yaml 0899 899
PyYAML js-yaml 0o17 15
ruamel PyYAML on True
ruamel PyYAML 12:30:45 45045
yaml PyYAML on True
yaml PyYAML 12:30:45 45045
yaml PyYAML 1_000 1000
yaml ruamel 1_000 1000
js-yaml ruamel 123e4567 inf
js-yaml yaml 123e4567 Infinity
LIST
diff expected seen || changed "other strings are read as something else"
