#!/usr/bin/env bash
# Behaviour: native-dns-packet reads numbers of 32 bits and writes only those of 31: a zone whose serial
#   is 2^31 or more is an error on the way out, and so is a message that does not fit its buffer. A
#   question for the host `constructor` becomes one for the root.
# Versions: npm native-dns-packet 0.1.1; PyPI dnspython 2.9.2.
# Expected: RFC 1035, 3.3.13 (SERIAL: "The unsigned 32 bit version number") and 4.1.1 (TC for what does
#   not fit, which the package means to set); any letters may be a name. dnspython writes all three.
# Seen: serials to 2147483647 written as read; 2147483648 and 4294967295 RangeError; 20 addresses in
#   100 bytes: ReferenceError, "count is not defined"; the name constructor: ""
# Here: guests ask for names by `wasi:sockets`; a server or a proxy written with this package has no
#   answer for them where the number or the name is such a one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py dnspython==2.9.2
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts native-dns-packet@0.1.1
cat >answers.py <<'PY'
import dns.message
import dns.rrset

for serial in 1, 2147483647, 2147483648, 4294967295:
    answer = dns.message.from_text(
        f"id 7\nopcode QUERY\nflags QR\n;QUESTION\nexample. IN SOA\n;ANSWER\n"
        f"example. 60 IN SOA ns.example. me.example. {serial} 1 2 3 4\n"
    )
    open(f"serial-{serial}", "wb").write(answer.to_wire())
many = dns.message.make_response(dns.message.make_query("many.example.", "A", id=7))
addresses = [f"192.0.2.{number}" for number in range(1, 21)]
many.answer.append(dns.rrset.from_text("many.example.", 60, "IN", "A", *addresses))
open("many", "wb").write(many.to_wire())
open("constructor", "wb").write(dns.message.make_query("constructor.", "A", id=7).to_wire())
PY
cat >again.js <<'JS'
const { readFileSync } = require("node:fs");
const Packet = require("native-dns-packet");

// The message that the package writes of the one that it reads, read again.
function again(name, length) {
  const packet = Packet.parse(readFileSync(name));
  const buffer = Buffer.alloc(length);
  try {
    return Packet.parse(buffer.subarray(0, Packet.write(buffer, packet)));
  } catch (error) {
    return `${error.name}: ${error.message}`.replace(/ It must.*/, "");
  }
}
function show(name, length, part) {
  const message = again(name, length);
  console.log(`${name}: ${typeof message === "string" ? message : part(message)}`);
}
for (const serial of [1, 2147483647, 2147483648, 4294967295]) {
  show(`serial-${serial}`, 512, (message) => message.answer[0].serial);
}
show("many", 512, (message) => `${message.answer.length} answers`);
show("many", 100, (message) => `${message.answer.length} answers, TC ${message.header.tc}`);
show("constructor", 512, (message) => JSON.stringify(message.question[0].name));
JS
PYTHONPATH=py python3 answers.py
said=$(node again.js)
echo "$said"
[[ $said == 'serial-1: 1
serial-2147483647: 2147483647
serial-2147483648: RangeError: The value of "value" is out of range.
serial-4294967295: RangeError: The value of "value" is out of range.
many: 20 answers
many: ReferenceError: count is not defined
constructor: ""' ]] || changed "it writes them otherwise"
