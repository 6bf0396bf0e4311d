#!/usr/bin/env bash
# Behaviour: of a resolv.conf with several `search` and `domain` lines, CNI's host-local plugin
#   reports the domains of all `search` lines as one list, and the `domain` as well; npm resolv too
#   joins the lists. The C library searches those of the last line alone.
# Versions: Debian containernetworking-plugins 1.1.1+ds1-3+b5, glibc 2.36 (getent), npm resolv
#   1.0.0, Node 20.
# Expected: resolv.conf(5), search: "If there are multiple search directives, only the search list
#   from the last instance is used." The plugin's README has it parse that file.
# Seen: domain a, search b c, search d: glibc asks for db.d.example.org and db; host-local: domain
#   a, search b, c, d; resolv: search b, c, d
# Here: pods get their resolv.conf from such a result, and a name is then looked up in domains that
#   the host does not use. The shims' resolver takes the last line.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download containernetworking-plugins=1.1.1+ds1-3+b5
dpkg -x containernetworking-plugins_*.deb debian
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts resolv@1.0.0
cat >resolv.conf <<'CONF'
nameserver 127.0.0.1
domain a.example.org
search b.example.org c.example.org
search d.example.org
CONF
# A name server that knows nothing, and prints what it is asked for.
cat >server.py <<'PY'
import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", flush=True)
seen = []
while True:
    question, client = server.recvfrom(512)
    server.sendto(question[:2] + b"\x81\x83" + question[4:], client)
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode())
        at += 1 + question[at]
    name = ".".join(labels)
    if name not in seen:
        seen.append(name)
        print(f"asked for {name}", flush=True)
PY
cat >ask.sh <<'ASK'
set -euo pipefail
ip link set lo up
printf 'hosts: dns\n' >nsswitch
mount --bind nsswitch /etc/nsswitch.conf
mount --bind resolv.conf /etc/resolv.conf
python3 server.py >asked &
server=$!
trap 'kill $server' EXIT
until [[ -s asked ]]; do kill -0 $server; sleep 0.1; done
getent hosts db || true
node -e 'console.log(`resolv: search ${require("resolv")().search.join(" ")}`)'
ASK
resolv=$(unshare --mount --net bash ask.sh)
cat >network.json <<JSON
{ "cniVersion": "1.0.0", "name": "pods", "type": "ipvlan", "ipam": { "type": "host-local",
  "dataDir": "$dir/addresses", "resolvConf": "$dir/resolv.conf",
  "ranges": [[{ "subnet": "10.4.0.0/24" }]] } }
JSON
CNI_COMMAND=ADD CNI_CONTAINERID=pod CNI_NETNS=/proc/self/ns/net CNI_IFNAME=eth0 CNI_PATH=debian \
    debian/usr/lib/cni/host-local <network.json >result.json
seen="glibc $(tail -n +2 asked | paste -sd, | sed 's/asked for //g')
$resolv
$(python3 -c 'import json
dns = json.load(open("result.json"))["dns"]
print("host-local: domain", dns["domain"], "search", *dns["search"])')"
echo "$seen"
wanted=$(
    cat <<'SEEN'
glibc db.d.example.org,db
resolv: search b.example.org c.example.org d.example.org
host-local: domain a.example.org search b.example.org c.example.org d.example.org
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the file otherwise"
