#!/usr/bin/env bash
# Behaviour: of a field that an entry of systemd's journal has several times, Python's journalparse
#   keeps the last value; the others are lost without a word. journalctl gives a list of all of
#   them.
# Versions: PyPI journalparse 0.1.1; Debian systemd, libsystemd-shared, libsystemd0 and
#   systemd-journal-remote 252.
# Expected: journalctl(1): "Journal entries permit non-unique fields within the same log entry"; in
#   the export format the field is there once for each value.
# Seen: an entry with CONTAINER_TAG one, two and three: journalctl -o json ["one","two","three"],
#   journalctl -o export all three, journalparse of this output "three"
# Here: containerd's and the daemon's lines of log are in such a journal; what is looked for by a
#   value of such a field is not found.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py journalparse==0.1.1
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    'libsystemd0=252*' 'systemd-journal-remote=252*' libapparmor1 libip4tc2 libkmod2 libseccomp2 \
    libmicrohttpd12
for package in *.deb; do dpkg -x "$package" debian; done
lib=$dir/debian
libraries=$lib/lib/x86_64-linux-gnu:$lib/usr/lib/x86_64-linux-gnu:$lib/lib/systemd
# of_systemd COMMAND…: with the downloaded libraries.
of_systemd() {
    LD_LIBRARY_PATH=$libraries "$@"
}
cat >entry <<'ENTRY'
__REALTIME_TIMESTAMP=1700000000000000
__MONOTONIC_TIMESTAMP=1000000
_BOOT_ID=0123456789abcdef0123456789abcdef
MESSAGE=started
CONTAINER_TAG=one
CONTAINER_TAG=two
CONTAINER_TAG=three

ENTRY
of_systemd debian/lib/systemd/systemd-journal-remote -o own.journal - <entry 2>/dev/null
of_systemd debian/bin/journalctl --file own.journal -o export >export
cat >read.py <<'PY'
import json, sys
from journalparse import journalparse

journalctl = json.load(sys.stdin)
with open("export", "rb") as file:
    entry, = journalparse(file)
print("in the export:", sum(line.startswith("CONTAINER_TAG=") for line in open("export")))
for field in "MESSAGE", "CONTAINER_TAG":
    print(f"{field}: journalctl {journalctl[field]}, journalparse {entry[field]}")
PY
said=$(of_systemd debian/bin/journalctl --file own.journal -o json | PYTHONPATH=py python3 read.py)
echo "$said"
[[ $said == "in the export: 3
MESSAGE: journalctl started, journalparse started
CONTAINER_TAG: journalctl ['one', 'two', 'three'], journalparse three" ]] || changed "other values"
