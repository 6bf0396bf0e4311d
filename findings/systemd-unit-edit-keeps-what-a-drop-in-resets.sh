#!/usr/bin/env bash
# Behaviour: what systemd-unit-edit makes of a unit and its drop-in keeps the lists that the drop-in
#   empties, and the line that empties them is gone. Of CapabilityBoundingSet, AmbientCapabilities and
#   IPAddressAllow only the last line is left, where systemd takes all of them together.
# Versions: PyPI systemd-unit-edit 0.1.0; Debian systemd-analyze 252.
# Expected: the package ("According to systemd behavior") and systemd.exec(5): "If the empty string is
#   assigned …, all prior assignments have no effect"; capabilities given several times "are merged".
# Seen: systemd: no internet sockets, CAP_CHOWN and CAP_KILL; the merged unit: internet sockets, CAP_KILL
#   alone; Environment=A=1 stays beside B=2 after Environment=
# Here: containerd and the shims' daemon are services whose limits are set in drop-ins; a merged unit
#   allows what the drop-in takes away, and takes away what it adds to.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py systemd-unit-edit==0.1.0
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' libapparmor1 \
    libip4tc2 libkmod2 libseccomp2
for package in *.deb; do
    dpkg -x "$package" debian
done
mkdir -p own/demo.service.d merged
cat >own/demo.service <<'UNIT'
[Service]
Type=exec
ExecStart=/bin/true
Environment=A=1
RestrictAddressFamilies=AF_INET AF_UNIX
CapabilityBoundingSet=CAP_CHOWN
UNIT
cat >own/demo.service.d/local.conf <<'UNIT'
[Service]
Environment=
Environment=B=2
RestrictAddressFamilies=
RestrictAddressFamilies=AF_UNIX
CapabilityBoundingSet=CAP_KILL
UNIT
cat >merge.py <<'PY'
from systemd_unit_edit import SystemdUnit

unit = SystemdUnit(open("own/demo.service").read())
unit.merge_dropin(SystemdUnit(open("own/demo.service.d/local.conf").read()))
open("merged/demo.service", "w").write(unit.text())
PY
PYTHONPATH=py python3 merge.py
# allowed DIRECTORY: what systemd says that the service may do, of the three that are looked at.
libraries=$dir/debian/usr/lib/x86_64-linux-gnu/systemd:$dir/debian/usr/lib/x86_64-linux-gnu
allowed() {
    LC_ALL=C.UTF-8 LD_LIBRARY_PATH=$libraries:$dir/debian/lib/x86_64-linux-gnu \
        SYSTEMD_UNIT_PATH=$dir/$1: debian/usr/bin/systemd-analyze security --no-pager --offline=true \
        demo.service | grep -oE '^✗ [^ ]*(INET6|~CAP_KILL|CHOWN)' | sed 's/.*=~//' | sort | paste -sd ' '
}
by_systemd=$(allowed own)
merged=$(allowed merged)
echo "systemd: $by_systemd"
echo "merged: $merged"
environment=$(grep '^Environment' merged/demo.service | paste -sd ' ')
echo "$environment"
[[ $by_systemd == 'CAP_(CHOWN CAP_KILL' ]] || changed "systemd allows otherwise"
[[ $merged == 'AF_(INET|INET6 CAP_KILL' ]] || changed "the merged unit allows otherwise"
[[ $environment == 'Environment=A=1 Environment=B=2' ]] || changed "the merged unit has other variables"
