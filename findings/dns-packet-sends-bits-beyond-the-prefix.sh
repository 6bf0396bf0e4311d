#!/usr/bin/env bash
# Behaviour: the EDNS option by which a resolver tells the client's network has from dns-packet
#   whole bytes of the client's address: with a prefix of 20 bits 24, with one of 57 bits 64.
#   dnspython refuses such a message. Only prefixes that end with a byte are right.
# Versions: npm dns-packet 5.6.1, PyPI dnspython 2.9.2, Node 20.
# Expected: RFC 7871, section 6: ADDRESS is truncated to the number of bits of SOURCE
#   PREFIX-LENGTH, padding with 0 bits to the end of the last octet; a server that gets non-zero
#   bits beyond it answers FORMERR.
# Seen: 192.0.47.77/20: 192.0.47, dnspython writes 192.0.32 and refuses the other;
#   2001:db8:1:2ff::1/57: ends with 02ff, dnspython 0280
# Here: a resolver of a pod or node that keeps 20 bits gets no answers, and tells more than it
#   says.
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
npm install --silent --no-audit --no-fund --ignore-scripts dns-packet@5.6.1
cat >write.js <<'JS'
const packet = require("dns-packet");

for (const network of process.argv.slice(2)) {
  const [ip, length] = network.split("/");
  const options = [{ code: "CLIENT_SUBNET", ip, sourcePrefixLength: Number(length) }];
  const query = packet.encode({
    type: "query",
    questions: [{ type: "A", name: "www.example" }],
    additionals: [{ type: "OPT", name: ".", udpPayloadSize: 1232, options }],
  });
  console.log(`${network} ${query.toString("hex")}`);
}
JS
cat >read.py <<'PY'
import sys
import dns.edns
import dns.exception
import dns.message

for line in sys.stdin:
    network, query = line.split()
    address, length = network.split("/")
    wanted = dns.edns.ECSOption(address, int(length)).to_wire().hex()
    written = query[-len(wanted):]
    print(f"{network}: dns-packet {written[8:]}, dnspython {wanted[8:]}")
    try:
        message = dns.message.from_wire(bytes.fromhex(query))
        print(f"  read as {message.options[0].to_text()}")
    except dns.exception.DNSException as error:
        print(f"  read as an error: {error}")
PY
seen=$(node write.js 192.0.47.77/24 192.0.47.77/20 2001:db8:1:2ff::1/56 2001:db8:1:2ff::1/57 |
    PYTHONPATH=py python3 read.py)
echo "$seen"
wanted=$(
    cat <<'SEEN'
192.0.47.77/24: dns-packet c0002f, dnspython c0002f
  read as ECS 192.0.47.0/24 scope/0
192.0.47.77/20: dns-packet c0002f, dnspython c00020
  read as an error: non-zero ECS address padding bits
2001:db8:1:2ff::1/56: dns-packet 20010db8000102, dnspython 20010db8000102
  read as ECS 2001:db8:1:200::/56 scope/0
2001:db8:1:2ff::1/57: dns-packet 20010db8000102ff, dnspython 20010db800010280
  read as an error: non-zero ECS address padding bits
SEEN
)
[[ $seen == "$wanted" ]] || changed "it is written otherwise"
