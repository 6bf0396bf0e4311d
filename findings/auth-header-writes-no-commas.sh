#!/usr/bin/env bash
# Behaviour: auth-header writes the parameters of a challenge or of credentials with blanks
#   between them instead of commas. www-authenticate then reads nothing, Python one parameter
#   whose value is all the rest. Of a field with blanks around a `=` it reads the parameter as a
#   token.
# Versions: npm auth-header 1.0.0, www-authenticate 0.6.3; Node 20, Python 3.11.
# Expected: RFC 9110, section 11.2: auth-param = token BWS "=" BWS ( token / quoted-string ),
#   where BWS is optional white space that recipients remove; 11.3 and 11.4: parameters are a
#   list, whose elements commas separate (5.6.1).
# Seen: Bearer with realm, service and scope: no comma, www-authenticate an error, Python a realm
#   with all three; realm = "r": the token ["realm","r"]
# Here: in this form registries say where and for what a token is to be had, and who gets the
#   field from a proxy with this library gets no image.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts auth-header@1.0.0 \
    www-authenticate@0.6.3
cat >write.js <<'JS'
const { format, parse } = require("auth-header");
const { parsers } = require("www-authenticate");

const params = { realm: "https://auth.example", service: "reg.example", scope: "repo:app:pull" };
const written = format({ scheme: "Bearer", params });
const commas = 'Bearer realm="https://auth.example", service=reg.example, scope="repo:app:pull"';
for (const field of [written, commas]) {
  const { err, parms } = new parsers.WWW_Authenticate(field);
  console.log(field);
  console.log(`www-authenticate: ${err === undefined ? JSON.stringify(parms) : "an error"}`);
}
for (const field of ['Basic realm="r", charset="UTF-8"', 'Basic realm = "r", charset="UTF-8"']) {
  const { params, token } = parse(field);
  console.log(`${field}: ${JSON.stringify(params)}, token ${JSON.stringify(token)}`);
}
JS
cat >read.py <<'PY'
import json
import sys
from urllib.request import parse_http_list, parse_keqv_list

for line in sys.stdin:
    if line.startswith("Bearer "):
        print("Python:", json.dumps(parse_keqv_list(parse_http_list(line[7:].rstrip()))))
PY
node write.js >written
seen=$(
    cat written
    python3 read.py <written
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
Bearer realm="https://auth.example" service=reg.example scope="repo:app:pull"
www-authenticate: an error
Bearer realm="https://auth.example", service=reg.example, scope="repo:app:pull"
www-authenticate: {"realm":"https://auth.example","service":"reg.example","scope":"repo:app:pull"}
Basic realm="r", charset="UTF-8": {"realm":"r","charset":"UTF-8"}, token null
Basic realm = "r", charset="UTF-8": {"charset":"UTF-8"}, token ["realm","r"]
Python: {"realm": "https://auth.example\" service=reg.example scope=\"repo:app:pull"}
Python: {"realm": "https://auth.example", "service": "reg.example", "scope": "repo:app:pull"}
SEEN
)
[[ $seen == "$wanted" ]] || changed "it is written or read otherwise"
