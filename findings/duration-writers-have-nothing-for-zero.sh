#!/usr/bin/env bash
# Behaviour: @0dep/piso writes a duration of zero as "P", and timespan-parser as the empty string;
#   neither reads what it wrote. timespan-parser also refuses the number 0, the unit M, which it
#   writes values in, and 1.5h.
# Versions: npm @0dep/piso 5.1.2, timespan-parser 1.2.0; PyPI isodate 0.7.2; Debian systemd 252
#   (systemd-analyze timespan); Node 20.
# Expected: ISO 8601: at least one element follows the P; a zero is P0D or PT0S, as isodate writes
#   it. systemd.time(7), Parsing Time Spans, which timespan-parser says that it follows: M is for
#   months; systemd reads 1M, 1.5h and 0, and writes the last as 0.
# Seen: PT0S: piso "P" and an error, isodate "P0D"; 0: timespan-parser "" and an error, systemd 0;
#   1M and 1.5h: timespan-parser errors
# Here: "at once" is a usual value of restart delays and timeouts in units and pods.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py isodate==0.7.2
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @0dep/piso@5.1.2 timespan-parser@1.2.0
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    libapparmor1 libip4tc2 libkmod2 libseccomp2
for package in *.deb; do
    dpkg -x "$package" debian
done
cat >write.mjs <<'JS'
import { parseDuration } from "@0dep/piso";
import timespan from "timespan-parser";

const attempt = (read) => {
  try {
    return read();
  } catch {
    return "an error";
  }
};
for (const text of ["PT1M", "PT0S"]) {
  const written = parseDuration(text).toString();
  const back = attempt(() => `${parseDuration(written).toMilliseconds()} ms`);
  console.log(`${text}: piso "${written}", read again: ${back}`);
}
for (const seconds of [90, 0]) {
  const written = timespan.getString(seconds);
  const back = attempt(() => `${timespan.parse(written)} s`);
  console.log(`${seconds} s: timespan-parser "${written}", read again: ${back}`);
}
for (const value of [0, "0", "1month", "1M", "90m", "1.5h"]) {
  console.log(`${JSON.stringify(value)}: timespan-parser ${attempt(() => timespan.parse(value))}`);
}
JS
cat >write.py <<'PY'
import isodate

for text in "PT1M", "PT0S":
    print(f'{text}: isodate "{isodate.duration_isoformat(isodate.parse_duration(text))}"')
PY
systemd() {
    LD_LIBRARY_PATH=debian/usr/lib/x86_64-linux-gnu/systemd:debian/usr/lib/x86_64-linux-gnu \
        debian/usr/bin/systemd-analyze timespan "$1" | sed -n 's/^ *Human: //p'
}
seen=$(
    node write.mjs
    PYTHONPATH=py python3 write.py
    for text in 0 1M 1.5h; do echo "$text: systemd $(systemd "$text")"; done
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
PT1M: piso "PT1M", read again: 60000 ms
PT0S: piso "P", read again: an error
90 s: timespan-parser "1m 30s", read again: 90 s
0 s: timespan-parser "", read again: an error
0: timespan-parser an error
"0": timespan-parser 0
"1month": timespan-parser 2630016
"1M": timespan-parser an error
"90m": timespan-parser 5400
"1.5h": timespan-parser an error
PT1M: isodate "PT1M"
PT0S: isodate "P0D"
0: systemd 0
1M: systemd 1month
1.5h: systemd 1h 30min
SEEN
)
[[ $seen == "$wanted" ]] || changed "they write or read otherwise"
