#!/usr/bin/env bash
# Behaviour: cache-control-parser and cache-parser leave out a max-age in quotation marks, and
#   read private="set-cookie" as private. parse-cache-control has names as they are written, so
#   that Max-Age is not max-age. @tusbar/cache-control finds a directive no-store inside a quoted
#   text.
# Versions: npm cache-control-parser 2.2.0, cache-parser 1.2.6, parse-cache-control 1.0.1,
#   @tusbar/cache-control 3.0.1, Node 20.
# Expected: RFC 9111, section 5.2: directives are identified by a token compared without case, and
#   recipients ought to accept both forms of an argument, with and without quotation marks;
#   5.2.2.7: private with field names limits those fields, the rest may be stored; RFC 9110,
#   section 5.6.4: a quoted-string is a single value.
# Seen: max-age="600": two have no max-age; private="set-cookie": two private alone; Max-Age=600:
#   one Max-Age; note="see \"no-store, no-cache\"": one has no-store
# Here: answers of HTTP services are kept, or not, by caches that read such a field.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts cache-control-parser@2.2.0 \
    cache-parser@1.2.6 parse-cache-control@1.0.1 @tusbar/cache-control@3.0.1
cat >read.js <<'JS'
const libraries = {
  "cache-control-parser": require("cache-control-parser").parse,
  "cache-parser": require("cache-parser").parse,
  "parse-cache-control": require("parse-cache-control"),
  "@tusbar/cache-control": require("@tusbar/cache-control").parse,
};
for (const field of [
  "max-age=600, private",
  'max-age="600"',
  'private="set-cookie"',
  "Max-Age=600",
  'max-age=600, note="see \\"no-store, no-cache\\""',
]) {
  console.log(field);
  for (const [name, parse] of Object.entries(libraries)) {
    const set = Object.entries(parse(field)).filter(([, value]) => ![null, false].includes(value));
    console.log(`  ${name}: ${JSON.stringify(Object.fromEntries(set))}`);
  }
}
JS
seen=$(node read.js)
echo "$seen"
wanted=$(
    cat <<'SEEN'
max-age=600, private
  cache-control-parser: {"max-age":600,"private":true}
  cache-parser: {"maxAge":600,"private":true}
  parse-cache-control: {"max-age":600,"private":true}
  @tusbar/cache-control: {"maxAge":600,"private":true}
max-age="600"
  cache-control-parser: {}
  cache-parser: {}
  parse-cache-control: {"max-age":600}
  @tusbar/cache-control: {"maxAge":600}
private="set-cookie"
  cache-control-parser: {"private":true}
  cache-parser: {"private":true}
  parse-cache-control: {"private":"set-cookie"}
  @tusbar/cache-control: {"private":true,"privateFields":["set-cookie"]}
Max-Age=600
  cache-control-parser: {"max-age":600}
  cache-parser: {"maxAge":600}
  parse-cache-control: {"Max-Age":"600"}
  @tusbar/cache-control: {"maxAge":600}
max-age=600, note="see \"no-store, no-cache\""
  cache-control-parser: {"max-age":600}
  cache-parser: {"maxAge":600}
  parse-cache-control: {"max-age":600,"note":"see \\\"no-store, no-cache\\\""}
  @tusbar/cache-control: {"maxAge":600,"noCache":true,"noStore":true}
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the fields otherwise"
