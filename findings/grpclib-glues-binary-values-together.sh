#!/usr/bin/env bash
# Behaviour: of a binary field of metadata with two values in one header, grpclib makes one value:
#   it decodes the text with the comma in it, which Python's decoder skips. 00 and 01 are 00 00 10,
#   and of values with padding the first one is left.
# Versions: PyPI grpclib 0.4.9 with multidict 7.2.1, npm @grpc/grpc-js 1.14.7, Node 20.
# Expected: gRPC over HTTP2, Requests: values of one name may be joined with "," and be equivalent,
#   binary headers have to be split there before they are decoded, and padding is optional.
# Seen: AA,AQ: @grpc/grpc-js 00 and 01, grpclib 000010; AA==,AQ==: 00 and 01, and 00; AAEC,AwQF:
#   000102 and 030405, and 000102030405
# Here: a proxy may join fields of one name (RFC 9110, section 5.3); traces and signatures are sent
#   in such fields, and a server has other bytes then, without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py grpclib==0.4.9 multidict==7.2.1
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @grpc/grpc-js@1.14.7
cat >read.py <<'PY'
import sys
from grpclib.metadata import decode_metadata

for text in sys.argv[1:]:
    values = decode_metadata([("id-bin", text)]).getall("id-bin")
    print(f"{text}: {', '.join(value.hex() for value in values)}")
PY
cat >read.js <<'JS'
const { Metadata } = require("@grpc/grpc-js");

for (const text of process.argv.slice(2)) {
  const values = Metadata.fromHttp2Headers({ "id-bin": text }).get("id-bin");
  console.log(`${text}: ${values.map((value) => value.toString("hex")).join(", ")}`);
}
JS
given=(AA AA== 'AA,AQ' 'AA==,AQ==' 'AAEC,AwQF')
seen="@grpc/grpc-js
$(node read.js "${given[@]}")
grpclib
$(PYTHONPATH=py python3 read.py "${given[@]}")"
echo "$seen"
wanted=$(
    cat <<'SEEN'
@grpc/grpc-js
AA: 00
AA==: 00
AA,AQ: 00, 01
AA==,AQ==: 00, 01
AAEC,AwQF: 000102, 030405
grpclib
AA: 00
AA==: 00
AA,AQ: 000010
AA==,AQ==: 00
AAEC,AwQF: 000102030405
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read other values"
