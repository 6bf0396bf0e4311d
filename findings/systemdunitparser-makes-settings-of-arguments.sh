#!/usr/bin/env bash
# Behaviour: SystemdUnitParser takes the continued line of an ExecStart for a setting of its own, named
#   `--config`, and the command keeps the backslash. A setting that is indented becomes a part of the
#   value before it. Nothing is said.
# Versions: PyPI systemdunitparser 0.4; Debian systemd-analyze 252.
# Expected: systemd.syntax(7) ("Lines ending in a backslash are concatenated with the following
#   non-comment line"); systemd reads indented settings like others. The package is there "to properly
#   parse systemd unit files".
# Seen: ExecStart: "/bin/true \", a setting --config: "/etc/a.toml" and the line of the capabilities, no
#   CapabilityBoundingSet; systemd: CAP_KILL alone is allowed; without continuation and indentation both
#   agree
# Here: containerd's unit and the shims' daemon's are read by tools that look for such settings.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py systemdunitparser==0.4
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' libapparmor1 \
    libip4tc2 libkmod2 libseccomp2
for package in *.deb; do
    dpkg -x "$package" debian
done
mkdir plain continued
cat >plain/demo.service <<'UNIT'
[Service]
ExecStart=/bin/true --config=/etc/a.toml
CapabilityBoundingSet=CAP_KILL
UNIT
cat >continued/demo.service <<'UNIT'
[Service]
ExecStart=/bin/true \
--config=/etc/a.toml
  CapabilityBoundingSet=CAP_KILL
UNIT
cat >read.py <<'PY'
import json
from SystemdUnitParser import SystemdUnitParser

for name in "plain", "continued":
    unit = SystemdUnitParser()
    unit.read(f"{name}/demo.service")
    print(f"{name}: {json.dumps(dict(unit.items('Service')))}")
PY
# capabilities DIRECTORY: how many of its lines about capabilities systemd says to be allowed.
libraries=$dir/debian/usr/lib/x86_64-linux-gnu/systemd:$dir/debian/usr/lib/x86_64-linux-gnu
capabilities() {
    LC_ALL=C.UTF-8 LD_LIBRARY_PATH=$libraries:$dir/debian/lib/x86_64-linux-gnu \
        SYSTEMD_UNIT_PATH=$dir/$1: debian/usr/bin/systemd-analyze security --no-pager --offline=true \
        demo.service | grep -oE '^✗ CapabilityBoundingSet=[^ ]*' | sed 's/.*=//' | paste -sd ' '
}
seen=$(PYTHONPATH=py python3 read.py)
echo "$seen"
plain=$(capabilities plain)
continued=$(capabilities continued)
echo "systemd: $plain, $continued"
[[ $seen == 'plain: {"ExecStart": "/bin/true --config=/etc/a.toml", "CapabilityBoundingSet": "CAP_KILL"}
continued: {"ExecStart": "/bin/true \\", "--config": "/etc/a.toml\nCapabilityBoundingSet=CAP_KILL"}' ]] ||
    changed "it reads other settings"
[[ $plain == '~CAP_KILL' && $continued == '~CAP_KILL' ]] || changed "systemd allows other capabilities"
