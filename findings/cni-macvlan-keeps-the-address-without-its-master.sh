#!/usr/bin/env bash
# Behaviour: when the host's interface that a macvlan one is on has gone, which takes the macvlan
#   one with it, the plugin's DEL fails for good, and the address stays allocated. host-device
#   fails when its interface is gone, and at a second DEL. bridge and ptp do not.
# Versions: Debian containernetworking-plugins 1.1.1+ds1-3+b5.
# Expected: CNI specification 1.0.0, DEL: plugins should generally complete a DEL without error
#   even if some resources are missing, and must accept several DELs for one interface, and return
#   success if the interface, or any modification, is missing.
# Seen: interface gone, two DELs: macvlan 1 and 1 "Link not found", 10.9.0.2 allocated;
#   host-device 1 and 1, nothing allocated; bridge and ptp 0 and 0, nothing allocated
# Here: a pod's removal is tried until DEL succeeds: a pod of such a network stays, and so does
#   its address.
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
# Both namespaces, the host's and the pod's, are of this script.
mount -t tmpfs tmpfs /run
touch /run/pod
unshare --net=/run/pod true
trap 'umount /run/pod' EXIT
export CNI_PATH=debian/usr/lib/cni CNI_NETNS=/run/pod CNI_IFNAME=eth0 CNI_CONTAINERID=a
# call COMMAND TYPE OPTIONS: one call of the plugin, with the result of the last one, if any.
call() {
    local status=0
    CNI_COMMAND=$1 $CNI_PATH/"$2" >answer <<JSON || status=$?
{ "cniVersion": "1.0.0", "name": "net", "type": "$2", $3
  "ipam": { "type": "host-local", "dataDir": "$PWD/ipam",
            "ranges": [[{ "subnet": "10.9.0.0/24" }]] }
  $(if [[ -s result ]]; then echo ', "prevResult":' && cat result; fi) }
JSON
    echo "$2 $1: $status $(sed -n 's/.*"msg": "\(.*\)".*/\1/p' answer)"
}
while read -r type options; do
    rm -rf result ipam
    ip link add d0 type veth peer name d1
    ip link set d0 up
    call ADD "$type" "$options"
    mv answer result
    # The interface goes with its master or with its other end.
    ip link del d1
    nsenter --net=/run/pod ip link del eth0 2>/dev/null || true
    call DEL "$type" "$options"
    call DEL "$type" "$options"
    echo "$type: allocated: $(cd ipam/net && find . -name '10.*' -printf '%f')"
done <<'NETWORKS'
bridge
ptp
host-device "device": "d0",
macvlan "master": "d0",
NETWORKS
PLAY
seen=$(unshare --net --mount bash -euo pipefail play.sh | sed 's/ $//')
echo "$seen"
wanted=$(
    cat <<'SEEN'
bridge ADD: 0
bridge DEL: 0
bridge DEL: 0
bridge: allocated:
ptp ADD: 0
ptp DEL: 0
ptp DEL: 0
ptp: allocated:
host-device ADD: 0
host-device DEL: 1 failed to find \"eth0\": Link not found
host-device DEL: 1 failed to find \"eth0\": Link not found
host-device: allocated:
macvlan ADD: 0
macvlan DEL: 1 Link not found
macvlan DEL: 1 Link not found
macvlan: allocated: 10.9.0.2
SEEN
)
[[ $seen == "$wanted" ]] || changed "other answers"
