#!/usr/bin/env bash
# Behaviour: systemd's manual defines a month as 30.44 days, and systemd takes it for 30.4375, a
#   twelfth of its year: 216 seconds less. A parser that follows the manual gets another time, by
#   43 minutes for 12 months.
# Versions: Debian systemd 252 (systemd.time(7), systemd-analyze timespan), npm timespan-parser
#   1.2.0, Node 20.
# Expected: systemd.time(7), Parsing Time Spans: "defined as 30.44 days" and "365.25 days", which
#   are 2630016 s and 31557600 s.
# Seen: 1month: systemd 2629800 s, timespan-parser 2630016 s; 12month: 31557600 and 31560192 s;
#   1year: 31557600 s each
# Here: a tool that checks the spans of a unit by the manual disagrees with systemd about them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts timespan-parser@1.2.0
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    libapparmor1 libip4tc2 libkmod2 libseccomp2
for package in *.deb; do
    dpkg -x "$package" debian
done
systemd() {
    LD_LIBRARY_PATH=debian/usr/lib/x86_64-linux-gnu/systemd:debian/usr/lib/x86_64-linux-gnu \
        debian/usr/bin/systemd-analyze timespan "$1" |
        sed -nE 's/^ *(μs|us): ([0-9]+)000000$/\2/p'
}
seen=$(
    zcat debian/usr/share/man/man7/systemd.time.7.gz | sed 's/\\&//g' |
        grep -oE '(months|years), .* \(defined as .* days\)'
    for span in 1month 12month 1year; do
        parser=$(node -p "require('timespan-parser').parse('$span')")
        echo "$span: systemd $(systemd $span), timespan-parser $parser"
    done
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
months, month, M (defined as 30.44 days)
years, year, y (defined as 365.25 days)
1month: systemd 2629800, timespan-parser 2630016
12month: systemd 31557600, timespan-parser 31560192
1year: systemd 31557600, timespan-parser 31557600
SEEN
)
[[ $seen == "$wanted" ]] || changed "a month is another time"
