#!/usr/bin/env bash
# Behaviour: jco's preview2-shim refuses requests to IPv6 addresses, to names with an underscore, as
#   services of Compose have, and with a user in the authority; and values of fields that are no text
#   in UTF-8 or have letters beyond the first 256.
# Versions: npm @bytecodealliance/preview2-shim 0.26.1, Node 20.
# Expected: wasi:http/types, set-authority: it fails if the string "is not a syntactically valid uri
#   authority"; RFC 3986, section 3.2: an IP-literal in brackets, a reg-name of unreserved characters,
#   among them "_", and a userinfo are; RFC 9110, section 5.5: bytes from 0x80 on are `obs-text`.
# Seen: [::1]:8080, my_service:8080, user@host:80 and %41.example: errors; the fields ff and c5 81:
#   invalid-syntax
# Here: a component that asks another pod by its IPv6 address does so under the shims, and has an error
#   under jco before anything is sent.
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
cat >ask.mjs <<'JS'
import { http } from "@bytecodealliance/preview2-shim";

const { Fields, OutgoingRequest } = http.types;
for (const authority of ["example.com:80", "[::1]:8080", "my_service:8080", "user@host:80", "%41.example"]) {
    let said = "taken";
    try {
        new OutgoingRequest(new Fields()).setAuthority(authority);
    } catch {
        said = "refused";
    }
    console.log(`${authority}: ${said}`);
}
for (const value of [[0x41], [0xc3, 0xbc], [0xff], [0xc5, 0x81]]) {
    let said = "taken";
    try {
        new Fields().append("name", Uint8Array.from(value));
    } catch (error) {
        said = error.tag;
    }
    console.log(`name: ${Buffer.from(value).toString("hex")}: ${said}`);
}
process.exit(0);
JS
node ask.mjs | tee seen
cmp seen - <<'SEEN' || changed "it takes others"
example.com:80: taken
[::1]:8080: refused
my_service:8080: refused
user@host:80: refused
%41.example: refused
name: 41: taken
name: c3bc: taken
name: ff: invalid-syntax
name: c581: invalid-syntax
SEEN
