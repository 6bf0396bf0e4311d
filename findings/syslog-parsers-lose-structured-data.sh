#!/usr/bin/env bash
# Behaviour: of a message of RFC 5424 glossy drops the words of the text up to the last `]`, and
#   an element of structured data without parameters; nsyslog-parser takes such an element for
#   text, and one with an escaped quotation mark; it and syslog-rfc5424-parser leave other
#   backslashes in values.
# Versions: npm glossy 0.1.7, nsyslog-parser 0.10.1; PyPI syslog-rfc5424-parser 0.3.2, lark-parser
#   0.12.0; Node 20.
# Expected: RFC 5424, section 6: STRUCTURED-DATA is one or more SD-ELEMENTs without anything
#   between them, MSG is all that follows the blank after them; 6.3.1: an element may have only
#   its name; 6.3.3: `"`, `\` and `]` in a value are escaped by a backslash.
# Seen: "from [1] on": glossy "on"; [a@1]: glossy nothing, nsyslog-parser a text; k="say \"hi\"":
#   nsyslog-parser a text, syslog-rfc5424-parser with backslashes; k="a\]b": with the backslash
# Here: log drivers like Docker's syslog hand on what containers write in this form.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py syslog-rfc5424-parser==0.3.2 lark-parser==0.12.0
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts glossy@0.1.7 nsyslog-parser@0.10.1
cat >messages <<'MESSAGES'
<165>1 2026-01-02T03:04:05Z host app 7 ID [a@1 k="v"] text
<165>1 2026-01-02T03:04:05Z host app 7 ID [a@1 k="v"][b@2 l="w"] text
<165>1 2026-01-02T03:04:05Z host app 7 ID [a@1 k="v"] from [1] on
<165>1 2026-01-02T03:04:05Z host app 7 ID [a@1] text
<165>1 2026-01-02T03:04:05Z host app 7 ID [a@1 k="say \"hi\""] text
<165>1 2026-01-02T03:04:05Z host app 7 ID [a@1 k="a\]b"][b@2 l="w"] text
MESSAGES
cat >read.js <<'JS'
const glossy = require("glossy").Parse;
const nsyslog = require("nsyslog-parser");

const lines = require("fs").readFileSync("messages", "utf8").trim().split("\n");
console.log("glossy");
for (const line of lines) {
  const { structuredData, message } = glossy.parse(line);
  console.log(`${JSON.stringify(structuredData)} ${message}`);
}
console.log("nsyslog-parser");
for (const line of lines) {
  const { structuredData, message } = nsyslog(line);
  const elements = structuredData.map(({ $id, ...rest }) => [$id, rest]);
  console.log(`${JSON.stringify(Object.fromEntries(elements))} ${message}`);
}
JS
cat >read.py <<'PY'
import json
from syslog_rfc5424_parser import SyslogMessage

print("syslog-rfc5424-parser")
for line in open("messages"):
    message = SyslogMessage.parse(line.rstrip("\n"))
    print(json.dumps(message.sd, separators=(",", ":")), message.msg)
PY
seen="$(node read.js)
$(PYTHONPATH=py python3 read.py)"
echo "$seen"
wanted=$(
    cat <<'SEEN'
glossy
{"a@1":{"k":"v"}} text
{"a@1":{"k":"v"},"b@2":{"l":"w"}} text
{"a@1":{"k":"v"}} on
{} text
{"a@1":{"k":"say \"hi\""}} text
{"a@1":{"k":"a]b"},"b@2":{"l":"w"}} text
nsyslog-parser
{"a@1":{"k":"v"}} text
{"a@1":{"k":"v"},"b@2":{"l":"w"}} text
{"a@1":{"k":"v"}} from [1] on
{} [a@1] text
{} [a@1 k="say \"hi\""] text
{"a@1":{"k":"a\\]b"},"b@2":{"l":"w"}} text
syslog-rfc5424-parser
{"a@1":{"k":"v"}} text
{"a@1":{"k":"v"},"b@2":{"l":"w"}} text
{"a@1":{"k":"v"}} from [1] on
{"a@1":{}} text
{"a@1":{"k":"say \\\"hi\\\""}} text
{"a@1":{"k":"a\\]b"},"b@2":{"l":"w"}} text
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the messages otherwise"
