#!/usr/bin/env bash
# Behaviour: the loopback plugin's DEL turns the namespace's `lo` off, also when another network of
#   the same namespace has added it and still holds it.
# Version: Debian containernetworking-plugins 1.1.1+ds1-3+b5 (bookworm).
# Expected: DEL undoes what its own ADD did. This ADD did nothing, `lo` was up already.
# Seen: ADD a: up, ADD b: up, DEL b: down
# Here: guests of one pod share its namespace; a single container's end must not call this DEL.
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
plugin=debian/usr/lib/cni/loopback
export CNI_PATH=debian/usr/lib/cni CNI_NETNS=/proc/self/ns/net CNI_IFNAME=lo
# call COMMAND NETWORK: one call of the plugin.
call() {
    echo "{ \"cniVersion\": \"1.0.0\", \"name\": \"$2\", \"type\": \"loopback\" }" |
        CNI_COMMAND=$1 CNI_CONTAINERID=$2 "$plugin" >answer
    echo "$1 $2: $(ip -o link show lo | grep -q '[<,]UP[,>]' && echo up || echo down)"
}
call ADD a
call ADD b
call DEL b
PLAY
said=$(unshare --net bash play.sh) || changed "a call fails: $said"
echo "$said"
[[ $said == $'ADD a: up\nADD b: up\nDEL b: down' ]] || changed "other states"
