#!/usr/bin/env bash
# Behaviour: when the time is up BusyBox's timeout ends as the program does: with 143 where the
#   signal ends it, and with 0 where the program catches the signal and ends well. It is not to be
#   told from a program that was in time.
# Versions: Debian busybox-static 1:1.35.0-4+deb12u1+b1, coreutils 9.1 (Debian 12's own).
# Expected: POSIX.1-2024, timeout, and coreutils: 124 if the time limit was reached, whatever the
#   program's status is, unless --preserve-status is given.
# Seen: a sleep: BusyBox 143, coreutils 124; a program that ends with 0 after SIGTERM: 0 and 124;
#   one in time with 143 of its own: 143 and 143
# Here: liveness probes and hooks of containers call it, in images whose only shell is BusyBox: a
#   probe that was stopped has succeeded.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download busybox-static=1:1.35.0-4+deb12u1+b1
dpkg -x busybox-static_*.deb debian
cat >catches.py <<'PY'
import signal, sys, time

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(20)
PY
status() {
    local status=0
    "$@" 2>messages || status=$?
    echo $status
}
all() {
    echo "$1: stopped $(status "${@:2}" 1 sleep 20)," \
        "stopped, ends with 0: $(status "${@:2}" 1 python3 catches.py)," \
        "in time, 0: $(status "${@:2}" 20 true)," \
        "in time, 143: $(status "${@:2}" 20 bash -c 'exit 143')"
}
seen=$(
    all BusyBox debian/bin/busybox timeout
    all coreutils timeout
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
BusyBox: stopped 143, stopped, ends with 0: 0, in time, 0: 0, in time, 143: 143
coreutils: stopped 124, stopped, ends with 0: 124, in time, 0: 0, in time, 143: 143
SEEN
)
[[ $seen == "$wanted" ]] || changed "they end otherwise"
