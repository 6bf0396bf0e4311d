#!/usr/bin/env bash
# Behaviour: a text that was compressed as a stream, so that the frame does not say how long it is,
#   is read by fzstd as that many zero bytes, without an error. The same text with its length in the
#   frame is right, and so are bytes that were not compressible.
# Versions: PyPI fzstd 0.1.1, zstandard 0.25.0.
# Expected: RFC 8878, sections 3.1.1.1.1.1 and 3.1.1.1.4: Frame_Content_Size is an optional field;
#   the blocks have all that is needed without it.
# Seen: 1250 bytes with the length: the text; without it: 1250 zeros; zstandard reads both
# Here: layers and logs are compressed as streams, and tools hash what they have unpacked; here they
#   unpack nothing but zeros of the right length.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py fzstd==0.1.1 zstandard==0.25.0
cat >read.py <<'PY'
import random
import fzstd
import zstandard

text = b"".join(b"line %d of the layer\n" % number for number in range(60))
noise = random.Random(1).randbytes(1250)


def frame(data, length):
    parts = zstandard.ZstdCompressor(level=3, write_content_size=length).compressobj(
        len(data) if length else -1)
    return parts.compress(data) + parts.flush()


for name, data in ("text", text), ("noise", noise):
    for length in True, False:
        given = frame(data, length)
        assert zstandard.ZstdDecompressor().decompressobj().decompress(given) == data
        read = bytes(fzstd.decompress(given))
        same = "as it was" if read == data else f"{read.count(0)} zeros"
        print(f"{name} {'with' if length else 'without'} its length: {len(read)} bytes, {same}")
PY
seen=$(PYTHONPATH=py python3 read.py)
echo "$seen"
wanted=$(
    cat <<'SEEN'
text with its length: 1250 bytes, as it was
text without its length: 1250 bytes, 1250 zeros
noise with its length: 1250 bytes, as it was
noise without its length: 1250 bytes, as it was
SEEN
)
[[ $seen == "$wanted" ]] || changed "it reads the frames otherwise"
