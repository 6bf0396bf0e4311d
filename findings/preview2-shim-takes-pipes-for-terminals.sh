#!/usr/bin/env bash
# Behaviour: jco's preview2-shim says of standard input, output and error that they are terminals,
#   whatever they are: a program that looks takes a pipe or a file for one.
# Versions: npm @bytecodealliance/preview2-shim 0.26.1, Node 20, Python 3.11.
# Expected: wasi:cli/terminal-stdout: "If stdout is connected to a terminal, return a
#   `terminal-output` handle", which is an option for that; so terminal-stdin and -stderr. Node's
#   `isTTY` knows the difference.
# Seen: at a terminal: Node true, the shim a handle; with a pipe, a file and /dev/null: Node false, the
#   shim three handles
# Here: programs that colour what they write for a terminal do so in a log under jco, and wait for
#   answers of nobody; under the shims a program is told what its streams are.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @bytecodealliance/preview2-shim@0.26.1
cat >streams.mjs <<'JS'
import { writeFileSync } from "node:fs";
import { stderr, stdin, stdout } from "node:process";
import { cli } from "@bytecodealliance/preview2-shim";

const handles = [
    cli.terminalStdin.getTerminalStdin(),
    cli.terminalStdout.getTerminalStdout(),
    cli.terminalStderr.getTerminalStderr(),
];
const of_node = [stdin, stdout, stderr].map((stream) => Boolean(stream.isTTY)).join(" ");
const of_shim = handles.map((handle) => handle !== undefined).join(" ");
writeFileSync("said", `Node ${of_node}, preview2-shim ${of_shim}\n`);
process.exit(0);
JS
node streams.mjs </dev/null 2>errors | cat
without=$(<said)
python3 -c 'import pty; pty.spawn(["node", "streams.mjs"])' >terminal </dev/null
with=$(<said)
printf '%s\n' "pipes: $without" "a terminal: $with"
[[ $with == "Node true true true, preview2-shim true true true" ]] || changed "no terminal"
[[ $without == "Node false false false, preview2-shim true true true" ]] ||
    changed "it does not take pipes for terminals"
