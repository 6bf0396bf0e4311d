#!/usr/bin/env bash
# Behaviour: syslog-pro writes hours by the clock of twelve: 15:04 is 03:04, in both forms of
#   syslog. Each message of RFC 5424 begins with the letters "BOM", a program without a name is no
#   field at all, the element that it adds about its time has no quotation marks, facility 0
#   becomes 23, and only the first line break is taken out.
# Versions: npm syslog-pro 1.0.0, PyPI syslog-rfc5424-parser 0.3.2, lark-parser 0.12.0; Node 20.
# Expected: RFC 5424, 6.2.3: hours are 00 to 23; 6.4: the byte order mark is EF BB BF; 6.2.5: a
#   field without a value is "-"; 6.3.3: values are in quotation marks; RFC 3164, 4.1.2: hh is 00
#   to 23.
# Seen: 15:04:05: 03:04:05 and 03:04:05; the text of "x": BOMx; without a name, and with
#   structured data: messages that the parser refuses; facility 0: <190> instead of <6>
# Here: log drivers and collectors sort the messages of containers by this time.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py syslog-rfc5424-parser==0.3.2 lark-parser==0.12.0
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts syslog-pro@1.0.0
cat >write.js <<'JS'
const { RFC3164, RFC5424 } = require("syslog-pro");
// Its moment, of which the time can be set.
require("moment").now = () => Date.UTC(2026, 0, 2, 15, 4, 5);

const named = { hostname: "host", applacationName: "app" };
(async () => {
  const messages = [
    await new RFC3164(named).buildMessage("x"),
    await new RFC5424(named).buildMessage("x"),
    await new RFC5424({ hostname: "host" }).buildMessage("x"),
    await new RFC5424({ ...named, encludeStructuredData: true }).buildMessage("x"),
    await new RFC5424(named).buildMessage("x", { facility: 0 }),
    await new RFC5424(named).buildMessage("x\ny\nz"),
  ];
  console.log(JSON.stringify(messages));
})();
JS
cat >read.py <<'PY'
import json
import sys
from syslog_rfc5424_parser import ParseError, SyslogMessage

for text in json.load(sys.stdin):
    print(json.dumps(text))
    try:
        if ">1 " in text:
            message = SyslogMessage.parse(text.removesuffix("\n"))
            print(f"  {message.facility.name} at {message.timestamp[11:]}: {message.msg!r}")
    except ParseError:
        print("  refused")
PY
seen=$(TZ=UTC node write.js | PYTHONPATH=py python3 read.py)
echo "$seen"
wanted=$(
    cat <<'SEEN'
"<190>Jan  2 03:04:05 host app x\n"
"<190>1 2026-01-02T03:04:05+00:00 host app - - - BOMx\n"
  local7 at 03:04:05+00:00: 'BOMx'
"<190>1 2026-01-02T03:04:05+00:00 host  - - - BOMx\n"
  refused
"<190>1 2026-01-02T03:04:05+00:00 host app - - [timeQuality tzKnown=1] BOMx\n"
  refused
"<190>1 2026-01-02T03:04:05+00:00 host app - - - BOMx\n"
  local7 at 03:04:05+00:00: 'BOMx'
"<190>1 2026-01-02T03:04:05+00:00 host app - - - BOMxy\nz\n"
  local7 at 03:04:05+00:00: 'BOMxy\nz'
SEEN
)
[[ $seen == "$wanted" ]] || changed "it writes otherwise"
