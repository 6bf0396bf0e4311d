#!/usr/bin/env bash
# Behaviour: justnow, which reads systemd's calendar events, has no hour 23 for `*`: after 22:30 an
#   hourly event is at midnight. An event on the 31st, or on the 29th or 30th and in February, is an
#   error when it comes to a month without that day.
# Versions: PyPI justnow 0.1.4 with lark 1.3.1, Debian systemd 252 (systemd-analyze calendar).
# Expected: systemd.time(7), calendar events: `*` is any value, and each date and time that matches
#   is one of the event; a month without the day has no such date.
# Seen: *:00:00 after 21:30: systemd 22:00, 23:00, 00:00, justnow 22:00, 00:00, 01:00; the 31st from
#   January on: systemd January, March, May, justnow ValueError
# Here: programs that run once are started by such timers; what computes from them when to expect
#   the next run takes one of 24 for an unexpected one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py justnow==0.1.4 lark==1.3.1
apt-get -qq -o APT::Sandbox::User=root download 'systemd=252*' 'libsystemd-shared=252*' \
    libapparmor1 libip4tc2 libkmod2 libseccomp2
for package in *.deb; do
    dpkg -x "$package" debian
done
cat >next.py <<'PY'
import datetime, sys
from justnow.parser import EventParser

event, after = sys.argv[1:]
# systemd gives what comes after the time.
after = datetime.datetime.fromisoformat(after) + datetime.timedelta(seconds=1)
try:
    for date in EventParser(event=event, reference_date=after).get_next_n(limit=3):
        print(f"{date:%m-%d %H:%M}")
except ValueError as error:
    print(f"{type(error).__name__} ({error})")
PY
# The next three times: of systemd-analyze the lines that say when.
systemd() {
    TZ=UTC LD_LIBRARY_PATH=debian/usr/lib/x86_64-linux-gnu/systemd:debian/usr/lib/x86_64-linux-gnu \
        debian/usr/bin/systemd-analyze calendar --iterations=3 --base-time="$2 UTC" "$1" |
        sed -nE 's/^ *(Next elapse|Iter\. #[0-9]+): ... ....-(.....) (..:..):.*/\2 \3/p'
}
seen=$(
    while IFS='|' read -r event after; do
        echo "$event after $after"
        echo "  systemd: $(systemd "$event" "$after" | paste -sd, )"
        echo "  justnow: $(PYTHONPATH=py python3 -W ignore next.py "$event" "$after" | paste -sd, )"
    done <<'EVENTS'
*-*-* 03,23:00:00|2026-11-01 12:30:00
*-*-* *:00:00|2026-11-01 21:30:00
*-*-15 06:00:00|2026-01-01 12:30:00
*-*-31 06:00:00|2026-01-01 12:30:00
EVENTS
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
*-*-* 03,23:00:00 after 2026-11-01 12:30:00
  systemd: 11-01 23:00,11-02 03:00,11-02 23:00
  justnow: 11-01 23:00,11-02 03:00,11-02 23:00
*-*-* *:00:00 after 2026-11-01 21:30:00
  systemd: 11-01 22:00,11-01 23:00,11-02 00:00
  justnow: 11-01 22:00,11-02 00:00,11-02 01:00
*-*-15 06:00:00 after 2026-01-01 12:30:00
  systemd: 01-15 06:00,02-15 06:00,03-15 06:00
  justnow: 01-15 06:00,02-15 06:00,03-15 06:00
*-*-31 06:00:00 after 2026-01-01 12:30:00
  systemd: 01-31 06:00,03-31 06:00,05-31 06:00
  justnow: 01-31 06:00,ValueError (day is out of range for month)
SEEN
)
[[ $seen == "$wanted" ]] || changed "they give other times"
