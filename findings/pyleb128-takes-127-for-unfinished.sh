#!/usr/bin/env bash
# Behaviour: to pyleb128 a byte 0x7f says that more bytes follow. The number 127 is an error, and in
#   a stream the next number is taken into it: 127 is 767, and so is -1. Signed numbers from -64 to
#   -2 are positive: -2 is 126. What it writes is right: it cannot read it.
# Versions: PyPI pyleb128 0.2.4, leb128 1.0.9.
# Expected: WebAssembly's core specification, binary format, integers (LEB128): the last byte of an
#   integer has its highest bit clear (n < 2^7), and of a signed one bit 6 of that byte is the sign.
# Seen: 127 written as 7f, read as an error, and from a stream as 767 with two bytes; -2 written as
#   7e, read as 126; leb128 reads all of them
# Here: sizes, indices and constants of modules are such integers; a section of 127 bytes, or the
#   constant -1, is everywhere.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py pyleb128==0.2.4 leb128==1.0.9
cat >read.py <<'PY'
import io
import leb128
from pyleb128 import sleb128, uleb128


def one(read, *given):
    try:
        return int(read(*given))
    except IndexError as error:
        return f"error ({error})"


def stream(kind, data):
    # A number 5 comes after it.
    source = io.BytesIO(data + b"\x05")
    return f"{one(kind.decode_stream, source)} of {source.tell()} bytes"


for kind, other, numbers in [
    (uleb128, leb128.u, [126, 127, 128, 16256]),
    (sleb128, leb128.i, [63, -1, -2, -64, -65, -200]),
]:
    for number in numbers:
        data = kind(number).encoded
        assert data == other.encode(number) and other.decode(data) == number
        print(f"{kind.__name__} {number}: {data.hex()}, read {one(kind.decode, data)},"
              f" from a stream {stream(kind, data)}")
PY
seen=$(PYTHONPATH=py python3 read.py)
echo "$seen"
wanted=$(
    cat <<'SEEN'
_ULEB 126: 7e, read 126, from a stream 126 of 1 bytes
_ULEB 127: 7f, read error (pop from empty bytearray), from a stream 767 of 2 bytes
_ULEB 128: 8001, read 128, from a stream 128 of 2 bytes
_ULEB 16256: 807f, read 16256, from a stream 98176 of 3 bytes
_SLEB 63: 3f, read 63, from a stream 63 of 1 bytes
_SLEB -1: 7f, read error (pop from empty bytearray), from a stream 767 of 2 bytes
_SLEB -2: 7e, read 126, from a stream 126 of 1 bytes
_SLEB -64: 40, read 64, from a stream 64 of 1 bytes
_SLEB -65: bf7f, read -65, from a stream 98239 of 3 bytes
_SLEB -200: b87e, read -200, from a stream -200 of 2 bytes
SEEN
)
[[ $seen == "$wanted" ]] || changed "it reads them otherwise"
