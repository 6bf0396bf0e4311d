#!/usr/bin/env bash
# Behaviour: zstd-codec's Simple decoder has null for a text in two frames, behind a skippable
#   frame, or in a frame that does not tell its length, and zstddec its whole working memory for
#   the last; @bokuweb/zstd-wasm fails on the first two with a message about compressing. fzstd
#   reads all.
# Versions: npm zstd-codec 0.1.5, zstddec 0.3.4, @bokuweb/zstd-wasm 0.0.27, fzstd 0.1.1, Debian
#   zstd 1.5.4+dfsg2-5+deb12u1, Node 20.
# Expected: RFC 8878, section 3: data are one or more frames, whose contents are joined;
#   3.1.1.1.4: the content size is optional; 3.1.2: skippable frames are skipped.
# Seen: two frames: null, the text, an error; a skippable one before: null, the text, an error;
#   from a pipe, without a length: null, 17 MB, the text
# Here: layers of images are written as a stream (no length) and in chunks with skippable frames
#   (zstd:chunked).
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download zstd=1.5.4+dfsg2-5+deb12u1
dpkg -x zstd_*.deb debian
zstd=debian/usr/bin/zstd
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts zstd-codec@0.1.5 zstddec@0.3.4 \
    @bokuweb/zstd-wasm@0.0.27 fzstd@0.1.1
printf 'one, ' >one
printf 'two' >two
$zstd -q one two
cat one two | $zstd -q >piped
cat one.zst two.zst >frames
# The magic number of a skippable frame, its length, and four bytes.
cat one two >both
{
    printf '\x50\x2a\x4d\x18\x04\x00\x00\x00skip'
    $zstd -q --stdout both
} >skippable
cat >read.js <<'JS'
const fs = require("fs");
const { init, decompress } = require("@bokuweb/zstd-wasm");
const fzstd = require("fzstd");
const { ZstdCodec } = require("zstd-codec");

const shown = async (read) => {
  try {
    const data = await read();
    if (data === null) return "null";
    const text = Buffer.from(data).toString();
    return text.length > 10_000_000 ? "more than 10 MB" : `"${text}"`;
  } catch (error) {
    return `an error (${error.message ?? error})`;
  }
};
(async () => {
  const { ZSTDDecoder } = await import("zstddec");
  const zstddec = new ZSTDDecoder();
  await Promise.all([init(), zstddec.init()]);
  const codec = await new Promise((resolve) => ZstdCodec.run(resolve));
  for (const name of ["both.zst", "frames", "skippable", "piped"]) {
    const data = fs.readFileSync(name);
    console.log(`${name}: fzstd ${await shown(() => fzstd.decompress(data))}`);
    console.log(`  zstd-codec ${await shown(() => new codec.Simple().decompress(data))}`);
    console.log(`  zstddec ${await shown(() => zstddec.decode(data))}`);
    console.log(`  @bokuweb/zstd-wasm ${await shown(() => decompress(data))}`);
  }
})();
JS
$zstd -q both
for file in frames skippable piped; do
    [[ $($zstd -dc <$file) == "one, two" ]] || changed "zstd reads $file otherwise"
done
seen=$(node read.js)
echo "$seen"
wanted=$(
    cat <<'SEEN'
both.zst: fzstd "one, two"
  zstd-codec "one, two"
  zstddec "one, two"
  @bokuweb/zstd-wasm "one, two"
frames: fzstd "one, two"
  zstd-codec null
  zstddec "one, two"
  @bokuweb/zstd-wasm an error (Failed to compress with code -70)
skippable: fzstd "one, two"
  zstd-codec null
  zstddec "one, two"
  @bokuweb/zstd-wasm an error (Failed to compress with code -70)
piped: fzstd "one, two"
  zstd-codec null
  zstddec more than 10 MB
  @bokuweb/zstd-wasm "one, two"
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the files otherwise"
