#!/usr/bin/env bash
# Behaviour: of each negative number of other protobuf libraries npm's protocol-buffers reads another one:
#   the int32 -1 is 18446744069414584000, the int64 -1 is -9223372036854776000. What it writes for the
#   int64 -1 is -127 for others. Nothing is said.
# Versions: npm protocol-buffers 5.0.0, protocol-buffers-encodings 1.2.0; PyPI protobuf 7.36.2.
# Expected: protobuf's encoding ("Signed Integers": int32 and int64 as two's complement in ten bytes);
#   Python's reads and writes them so.
# Seen: int32 -1: read as 18446744069414584000, written as -1; int64 -1: read as -9223372036854776000,
#   written as -127; int64 -62135596800: read and written as -4335910914304; 5: right in all
# Here: containerd gives a task that has not ended the time of ending -62135596800; a tool with this
#   package shows another one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --target py protobuf==7.36.2
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts protocol-buffers@5.0.0 \
    protocol-buffers-encodings@1.2.0
# The messages of both are Int32Value and Int64Value of protobuf's wrappers.
cat >js.js <<'JS'
const { Int32, Int64 } = require("protocol-buffers")(`
  message Int32 { optional int32 value = 1; }
  message Int64 { optional int64 value = 1; }`);

const messages = { Int32, Int64 };
const [action, name, argument] = process.argv.slice(2);
if (action === "write") {
  console.log(Buffer.from(messages[name].encode({ value: Number(argument) })).toString("hex"));
} else {
  console.log(messages[name].decode(Buffer.from(argument, "hex")).value);
}
JS
cat >py.py <<'PY'
import sys
from google.protobuf import wrappers_pb2

action, name, argument = sys.argv[1:]
message = getattr(wrappers_pb2, f"{name}Value")()
if action == "write":
    message.value = int(argument)
    print(message.SerializeToString().hex())
else:
    message.ParseFromString(bytes.fromhex(argument))
    print(message.value)
PY
export PYTHONPATH=py
seen=$(for value in 'Int32 5' 'Int32 -1' 'Int64 5' 'Int64 -1' 'Int64 -62135596800'; do
    read -r name number <<<"$value"
    by_js=$(node js.js read "$name" "$(python3 py.py write "$name" "$number")")
    by_python=$(python3 py.py read "$name" "$(node js.js write "$name" "$number")")
    echo "$value: of Python's read as $by_js, written for Python as $by_python"
done)
echo "$seen"
[[ $seen == "Int32 5: of Python's read as 5, written for Python as 5
Int32 -1: of Python's read as 18446744069414584000, written for Python as -1
Int64 5: of Python's read as 5, written for Python as 5
Int64 -1: of Python's read as -9223372036854776000, written for Python as -127
Int64 -62135596800: of Python's read as -4335910914304, written for Python as -4335910914304" ]] ||
    changed "they are read otherwise"
