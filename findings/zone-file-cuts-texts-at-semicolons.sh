#!/usr/bin/env bash
# Behaviour: zone-file takes a `;` within quotation marks for the start of a comment: the record
#   "v=DMARC1; p=none" is read as "v=DMARC1", and written so. A text with `\"` becomes several,
#   and a TTL that comes after the class is lost.
# Versions: npm zone-file 1.0.0, PyPI dnspython 2.9.2, Node 20.
# Expected: RFC 1035, section 5.1: a string in quotation marks may have any character but `"`, which
#   is written `\"`; the TTL and the class of a record may come in either order.
# Seen: _dmarc: zone-file "v=DMARC1", dnspython "v=DMARC1; p=none"; quoted: three texts and one;
#   www: the TTL of the zone and 300
# Here: clusters' zones are kept in such files for CoreDNS; what a tool reads and writes so loses
#   policies and keys without an error.
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
npm install --silent --no-audit --no-fund --ignore-scripts zone-file@1.0.0
cat >zone <<'ZONE'
$ORIGIN example.org.
$TTL 3600
@ IN SOA ns1 hostmaster 2026010101 10800 900 604800 3600
@ IN NS ns1
ns1 IN A 192.0.2.1
plain IN TXT "v=spf1 -all"
_dmarc IN TXT "v=DMARC1; p=none"
quoted IN TXT "a \"b\" c"
www IN 300 A 192.0.2.2
ZONE
cat >read.js <<'JS'
const { makeZoneFile, parseZoneFile } = require("zone-file");

const zone = parseZoneFile(require("fs").readFileSync("zone", "utf8"));
for (const { name, txt } of zone.txt) console.log(`${name}: ${JSON.stringify([txt].flat())}`);
for (const { name, ttl } of zone.a) console.log(`${name}: TTL ${ttl ?? zone.$ttl}`);
console.log(`written: ${makeZoneFile(zone).match(/.*DMARC.*/)[0].replaceAll("\t", " ")}`);
JS
cat >read.py <<'PY'
import json
import dns.zone

zone = dns.zone.from_file("zone")
for name in "plain", "_dmarc", "quoted":
    texts = [text.decode() for text in zone.get_rdataset(name, "TXT")[0].strings]
    print(f"{name}: {json.dumps(texts)}")
for name in "ns1", "www":
    print(f"{name}: TTL {zone.get_rdataset(name, 'A').ttl}")
PY
seen="zone-file
$(node read.js)
dnspython
$(PYTHONPATH=py python3 read.py)"
echo "$seen"
wanted=$(
    cat <<'SEEN'
zone-file
plain: ["v=spf1 -all"]
_dmarc: ["v=DMARC1"]
quoted: ["a \\","b\\"," c"]
ns1: TTL 3600
www: TTL 3600
written: _dmarc IN TXT "v=DMARC1"
dnspython
plain: ["v=spf1 -all"]
_dmarc: ["v=DMARC1; p=none"]
quoted: ["a \"b\" c"]
ns1: TTL 3600
www: TTL 300
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the zone otherwise"
