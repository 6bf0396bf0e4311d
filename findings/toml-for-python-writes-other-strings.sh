#!/usr/bin/env bash
# Behaviour: the `toml` package writes control characters as letters, and strings that contain the
#   two characters `\x` as other strings or as text that no TOML reader takes, its own neither.
# Versions: PyPI toml 0.10.2, tomli-w 1.2.0; Python 3.11.
# Expected: what is written is read as what it was; tomli-w and Python's own reader keep all of it.
# Seen: ESC[1m after a letter as x1b[1m; \x41 as A; C:\new and a bell as C:, a line break and ewx07;
#   C:\x86 and r\xe9 as "C:\x86" and "r\xe9", which are no TOML
# Here: installers add a runtime to containerd's and other files of settings; one that goes through
#   this package changes the strings of others, or leaves a file with which nothing starts.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py toml==0.10.2 tomli-w==1.2.0
PYTHONPATH=$dir/py python3 - <<'PY' || changed "other strings are read"
import sys, tomllib
import toml, tomli_w

# The string and what becomes of it; None: no TOML.
EXPECTED = {
    "no escapes": "no escapes",
    "C:\\new": "C:\\new",
    "a\x1b[1m": "ax1b[1m",
    "\\x41": "A",
    "C:\\new\x07": "C:\newx07",
    "C:\\x86": None,
    "r\\xe9": None,
}


def read(loads, text):
    try:
        return loads(text)["value"]
    except ValueError as error:
        return error


same = True
for string, expected in EXPECTED.items():
    settings = {"value": string}
    if read(tomllib.loads, tomli_w.dumps(settings)) != string:
        sys.exit("tomli-w changes it, too")
    text = toml.dumps(settings)
    strings = [read(loads, text) for loads in (tomllib.loads, toml.loads)]
    print(f"{string!r}: {text.strip()}, read as {strings[0]!r}")
    if expected is None:
        same = same and all(isinstance(string, ValueError) for string in strings)
    else:
        same = same and strings == [expected, expected]
sys.exit(not same)
PY
