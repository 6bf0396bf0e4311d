#!/usr/bin/env bash
# Behaviour: a message of two lines that sd-journald sends is not in the journal, nor are its other
#   fields: the second line is sent as it is, journald takes it for the name of a field and what is
#   after it for the field's length, and drops the entry without a word. Another field may have
#   several lines; of these a byte is cut off at the end for each letter like ü.
# Versions: npm sd-journald 0.3.3 with immutable 4.3.9, Debian systemd, libsystemd-shared and
#   libsystemd0 252, Node 20.
# Expected: systemd's Native Journal Protocol, Data Format: a value with a line break is sent as the
#   name, a line break, the value's size in bytes as 64 bits, and the value; so MESSAGE, too.
# Seen: of four entries the one with a message of two lines is missing; the field "Grüße\nan alle"
#   is "Grüße\nan al", and "first\nsecond" is right
# Here: services beside containerd log to the journal; a backtrace or an error with its cause has
#   more than one line, and it is just these messages that are missing.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts sd-journald@0.3.3 immutable@4.3.9
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    'libsystemd0=252*' libapparmor1 libip4tc2 libkmod2 libseccomp2
for package in *.deb; do dpkg -x "$package" debian; done
# The datagrams that the package sends; its own sender of datagrams has to be compiled.
cat >write.js <<'JS'
const { createBuffer } = require("./node_modules/sd-journald/dist/internal/internal.js");
const { Map } = require("immutable");

[
  ["one line", "a field"],
  ["first line\nsecond line", "a field"],
  ["its field has two", "first\nsecond"],
  ["its field has letters", "Grüße\nan alle"],
].forEach(([message, DETAIL], at) => {
  require("fs").writeFileSync(`${at}.datagram`, createBuffer(6, message, Map({ DETAIL })));
});
JS
node write.js
cat >send.py <<'PY'
import glob, socket

journald = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journald.connect("/run/systemd/journal/socket")
for name in sorted(glob.glob("*.datagram")):
    journald.send(open(name, "rb").read())
journald.send(b"MESSAGE=the end\nDETAIL=\n")
PY
cat >show.py <<'PY'
import json, sys

for line in sys.stdin:
    entry = json.loads(line)
    if "DETAIL" in entry or entry["MESSAGE"].startswith("first"):
        print(f"{entry['MESSAGE']!r}: {entry.get('DETAIL')!r}")
PY
# A journald of its own, with an empty /run.
cat >journal.sh <<'JOURNAL'
set -euo pipefail
lib=$PWD/debian
libraries=$lib/lib/x86_64-linux-gnu:$lib/usr/lib/x86_64-linux-gnu:$lib/lib/systemd
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nForwardToWall=no\nAudit=\n' \
    >/run/systemd/journald.conf.d/own.conf
LD_LIBRARY_PATH=$libraries debian/lib/systemd/systemd-journald 2>/dev/null &
journald=$!
trap 'kill $journald' EXIT
until [[ -S /run/systemd/journal/socket ]]; do kill -0 $journald; sleep 0.1; done
python3 send.py
until LD_LIBRARY_PATH=$libraries debian/bin/journalctl -D /run/log/journal/* -o json >entries &&
    grep -q 'the end' entries; do
    kill -0 $journald
    sleep 0.1
done
JOURNAL
unshare --mount --net timeout 60 bash journal.sh
seen=$(python3 show.py <entries)
echo "$seen"
wanted=$(
    cat <<'SEEN'
'one line': 'a field'
'its field has two': 'first\nsecond'
'its field has letters': 'Grüße\nan al'
'the end': ''
SEEN
)
[[ $seen == "$wanted" ]] || changed "journald gets other entries"
