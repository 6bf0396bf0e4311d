#!/usr/bin/env bash
# Behaviour: of a line of runc's log whose message has an escaped tab, line break or backslash, PyPI's
#   logfmt gives True instead of the message, and leaves out what comes after it; the two of npm read
#   `\t` and `\n` as the letters t and n. None raises an error.
# Versions: PyPI logfmt 0.4, logfmtkv 0.2.1; npm logfmt 1.4.0, @jclem/logfmt2 2.4.3; Debian runc 1.1.5.
# Expected: the writer, logrus, quotes as Go does (fmt's %q, strconv.Quote), so `\t` is a tab; logfmtkv
#   reads it so, and go-logfmt. All three read `\"` and say of nothing that they do not read it.
# Seen: "chdir a\tb: no such file or directory": True; chdir atb: …; chdir atb: …; a tab; the same with
#   \n, and of `a\\b` True and twice right; a line with `\"` is right in all
# Here: runc, containerd and its shims log so, errors of several lines most of all; a search by what the
#   message says finds nothing.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py logfmt==0.4 logfmtkv==0.2.1
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts logfmt@1.4.0 @jclem/logfmt2@2.4.3
apt-get -qq -o APT::Sandbox::User=root download 'runc=1.1.5*' libseccomp2
for package in *.deb; do
    dpkg -x "$package" debian
done
# The messages are those about directories that do not exist, and have their names.
for name in 'a"b' $'a\tb' $'a\nb' 'a\b'; do
    LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu \
        debian/usr/sbin/runc --log log spec --bundle "$name" 2>/dev/null && changed "runc finds $name"
done
sed -i 's/^time=[^ ]* \(level=error\) \(.*\)/\1 \2 last=1/' log
cat log
cat >read.py <<'PY'
import json
import logfmt.parser
import logfmtkv

for line in open("log").read().splitlines():
    found = logfmt.parser.parse_line(line)
    print("Python:", json.dumps([found["msg"], found.get("last")]), json.dumps(logfmtkv.parse(line)["msg"]))
PY
cat >read.js <<'JS'
const lines = require("node:fs").readFileSync("log", "utf8").trim().split("\n");
const readers = [require("logfmt").parse, require("@jclem/logfmt2").decode];
for (const line of lines) {
  console.log("JavaScript:", ...readers.map((read) => JSON.stringify(read(line).msg)));
}
JS
seen=$(PYTHONPATH=py python3 read.py && node read.js)
echo "$seen"
end=': no such file or directory"'
[[ $seen == 'Python: ["chdir a\"b'"$end"', "1"] "chdir a\"b'"$end"'
Python: [true, null] "chdir a\tb'"$end"'
Python: [true, null] "chdir a\nb'"$end"'
Python: [true, null] "chdir a\\b'"$end"'
JavaScript: "chdir a\"b'"$end"' "chdir a\"b'"$end"'
JavaScript: "chdir atb'"$end"' "chdir atb'"$end"'
JavaScript: "chdir anb'"$end"' "chdir anb'"$end"'
JavaScript: "chdir a\\b'"$end"' "chdir a\\b'"$end" ]] || changed "they read it otherwise"
