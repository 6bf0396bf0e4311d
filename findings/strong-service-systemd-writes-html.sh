#!/usr/bin/env bash
# Behaviour: strong-service-systemd writes the variables of a unit as for a page of HTML, and without
#   quotes: `x=1&y=2` becomes `x=1&amp;y=2`, an apostrophe `&#39;`, and of a value with blanks the first
#   word is left.
# Versions: npm strong-service-systemd 1.2.3, Node 20, Debian systemd 252 (systemd-analyze).
# Expected: systemd.exec(5), Environment=: "If you need to assign a value containing spaces or the
#   equals sign to a variable, put quotes around the whole assignment", and characters as they are. The
#   package's README: `env` is for the variables of the service.
# Seen: "Environment=QUERY=x=1&amp;y=2", "Environment=TEXT=it&#39;s on", "Environment=WORDS=a b";
#   systemd-analyze verify: "Invalid environment assignment, ignoring: on" and "... b"
# Here: a daemon's settings that are a query or a text, such as the attributes of a trace, arrive
#   changed or cut, and the unit starts without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts strong-service-systemd@1.2.3
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    libapparmor1 libip4tc2 libkmod2 libseccomp2
for package in *.deb; do dpkg -x "$package" debian; done
lib=$dir/debian/usr/lib/x86_64-linux-gnu
cat >unit.cjs <<'JS'
const render = require("strong-service-systemd");

const env = { PLAIN: "one", QUERY: "x=1&y=2", TEXT: "it's on", WORDS: "a b" };
process.stdout.write(render({ name: "app", script: "/srv/app.js", execpath: "/bin/true", env }));
JS
node unit.cjs >app.service
grep '^Environment=' app.service | tee seen
LD_LIBRARY_PATH=$lib/systemd:$lib:$dir/debian/lib/x86_64-linux-gnu \
    debian/usr/bin/systemd-analyze verify --man=no ./app.service 2>&1 |
    grep -o 'Invalid environment.*' | tee -a seen
cmp seen - <<'SEEN' || changed "other variables"
Environment=PLAIN=one
Environment=QUERY=x=1&amp;y=2
Environment=TEXT=it&#39;s on
Environment=WORDS=a b
Invalid environment assignment, ignoring: on
Invalid environment assignment, ignoring: b
SEEN
