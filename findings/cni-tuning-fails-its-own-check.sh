#!/usr/bin/env bash
# Behaviour: the tuning plugin's ADD puts the interface's name in place of IFNAME in the names of
#   sysctls, its CHECK of the same configuration does not: it looks for a file with IFNAME in its
#   path and fails. With the name written out CHECK succeeds.
# Version: Debian containernetworking-plugins 1.1.1+ds1-3+b5 (bookworm).
# Expected: the plugin's page has IFNAME for this, and by the CNI specification CHECK fails if
#   something is not as ADD made it. All is.
# Seen: net.ipv4.conf.IFNAME.arp_filter of lo: ADD 0 and the value is 1, CHECK 1 and "open
#   /proc/sys/net/ipv4/conf/IFNAME/arp_filter: no such file or directory"; with the name: 0 and 0
# Here: a pod's network is checked where the runtime asks for it; a container with such a network is
#   then reported broken for as long as it lives.
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

cat >play.sh <<'PLAY'
set -euo pipefail
plugin=debian/usr/lib/cni/tuning
export CNI_PATH=debian/usr/lib/cni CNI_NETNS=/proc/self/ns/net CNI_IFNAME=lo CNI_CONTAINERID=a
# call COMMAND NAME: one call of the plugin, which sets arp_filter of the interface NAME.
call() {
    local status=0
    CNI_COMMAND=$1 "$plugin" >answer <<JSON || status=$?
{ "cniVersion": "1.0.0", "name": "net", "type": "tuning", "dataDir": "$PWD/data",
  "sysctl": { "net.ipv4.conf.$2.arp_filter": "1" },
  "prevResult": { "cniVersion": "1.0.0", "ips": [],
                  "interfaces": [{ "name": "lo", "sandbox": "/proc/self/ns/net" }] } }
JSON
    echo "$2: $1 $status, arp_filter $(cat /proc/sys/net/ipv4/conf/lo/arp_filter)"
    if ((status)); then sed -n 's/.*"msg": "\(.*\)".*/\1/p' answer; fi
}
call ADD IFNAME
call CHECK IFNAME
call DEL IFNAME
call ADD lo
call CHECK lo
PLAY
said=$(unshare --net bash play.sh)
echo "$said"
wanted=$(
    cat <<'SAID'
IFNAME: ADD 0, arp_filter 1
IFNAME: CHECK 1, arp_filter 1
open /proc/sys/net/ipv4/conf/IFNAME/arp_filter: no such file or directory
IFNAME: DEL 0, arp_filter 1
lo: ADD 0, arp_filter 1
lo: CHECK 0, arp_filter 1
SAID
)
[[ $said == "$wanted" ]] || changed "other answers"
