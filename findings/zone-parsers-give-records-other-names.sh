#!/usr/bin/env bash
# Behaviour: of a record with a blank at the start of its line, dns-zonefile takes the zone for the
#   owner, zone-file the class IN or the type, and dnsz leaves it out where it has no class. With a
#   second $ORIGIN dns-zonefile and zone-file have the last origin alone: all names move there.
# Versions: npm dns-zonefile 0.3.2, zone-file 1.0.0, dnsz 4.5.2, PyPI dnspython 2.9.2, Node 20.
# Expected: RFC 1035, section 5.1: a line that begins with a blank is of the last stated owner; TTL
#   and class may be omitted; $ORIGIN sets the origin of the relative names after it.
# Seen: read and written, 192.0.2.1 of www.example.org is of www.sub.example.org in two of them; the
#   next line's address is of sub.example.org, of IN.sub.example.org, and right with dnsz, and that
#   without a class of sub.example.org, of AAAA.sub.example.org, and missing
# Here: clusters' zones are kept in such files for CoreDNS; what a tool reads and writes so gives
#   services' addresses to other names.
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
npm install --silent --no-audit --no-fund --ignore-scripts dns-zonefile@0.3.2 zone-file@1.0.0 \
    dnsz@4.5.2
cat >zone <<'ZONE'
$ORIGIN example.org.
$TTL 3600
@ IN SOA ns1 hostmaster 2026010101 10800 900 604800 3600
@ IN NS ns1
ns1 IN A 192.0.2.9
www IN A 192.0.2.1
    IN AAAA 2001:db8::1
api A 192.0.2.2
    AAAA 2001:db8::2
$ORIGIN sub.example.org.
db IN A 192.0.2.3
ZONE
cat >write.mjs <<'JS'
import { readFileSync, writeFileSync } from "node:fs";
import dnsZonefile from "dns-zonefile";
import { parseZone, stringifyZone } from "dnsz";
import zoneFile from "zone-file";

const text = readFileSync("zone", "utf8");
writeFileSync("dns-zonefile", dnsZonefile.generate(dnsZonefile.parse(text)));
writeFileSync("zone-file", zoneFile.makeZoneFile(zoneFile.parseZoneFile(text)));
writeFileSync("dnsz", stringifyZone(parseZone(text)));
JS
node write.mjs
cat >owners.py <<'PY'
import dns.zone

# As it is, and as each package reads and writes it.
for name in "zone", "dns-zonefile", "zone-file", "dnsz":
    # Two of them move the whole zone.
    try:
        zone = dns.zone.from_file(name, origin="example.org.", relativize=False)
    except ValueError:
        zone = dns.zone.from_file(name, origin="sub.example.org.", relativize=False)
    owners = {record.address: owner for kind in ("A", "AAAA")
              for owner, _, record in zone.iterate_rdatas(kind)}
    print(name)
    for address in "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2", "192.0.2.3":
        print(f"  {address}: {owners.get(address, 'missing')}")
PY
seen=$(PYTHONPATH=py python3 owners.py)
echo "$seen"
wanted=$(
    cat <<'SEEN'
zone
  192.0.2.1: www.example.org.
  2001:db8::1: www.example.org.
  192.0.2.2: api.example.org.
  2001:db8::2: api.example.org.
  192.0.2.3: db.sub.example.org.
dns-zonefile
  192.0.2.1: www.sub.example.org.
  2001:db8::1: sub.example.org.
  192.0.2.2: api.sub.example.org.
  2001:db8::2: sub.example.org.
  192.0.2.3: db.sub.example.org.
zone-file
  192.0.2.1: www.sub.example.org.
  2001:db8::1: IN.sub.example.org.
  192.0.2.2: api.sub.example.org.
  2001:db8::2: AAAA.sub.example.org.
  192.0.2.3: db.sub.example.org.
dnsz
  192.0.2.1: www.example.org.
  2001:db8::1: www.example.org.
  192.0.2.2: api.example.org.
  2001:db8::2: missing
  192.0.2.3: db.sub.example.org.
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the zone otherwise"
