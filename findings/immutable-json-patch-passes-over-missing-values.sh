#!/usr/bin/env bash
# Behaviour: immutable-json-patch replaces, removes, moves and copies what does not exist without
#   an error and without an effect, appends what is added far behind the end of a list, and finds
#   equal objects different where their members are in another order.
# Versions: npm immutable-json-patch 6.0.3, rfc6902 5.4.0, Node 20.
# Expected: RFC 6902, section 4.1: the index of an added element must not be greater than the
#   number of elements; 4.2 to 4.5: the target or "from" location must exist; 4.6: objects are
#   equal if they have the same members; section 5: otherwise evaluation terminates and the patch
#   is not applied.
# Seen: remove, replace, move and copy of nothing: the document; add at 5 of one element:
#   appended; test of {"x":1,"y":2} with {"y":2,"x":1}: an error; rfc6902: four errors, an error,
#   the document
# Here: patches are how controllers change pods; one that misses its target is taken for done.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts immutable-json-patch@6.0.3 rfc6902@5.4.0
cat >apply.mjs <<'JS'
import { immutableJSONPatch } from "immutable-json-patch";
import { applyPatch } from "rfc6902";

const attempt = (apply) => {
  try {
    return JSON.stringify(apply());
  } catch {
    return "an error";
  }
};
const checked = (document, patch) => {
  const copy = structuredClone(document);
  if (applyPatch(copy, patch).some((result) => result !== null)) throw new Error();
  return copy;
};
const document = { a: 1, l: [1], o: { x: 1, y: 2 } };
for (const operation of [
  { op: "replace", path: "/a", value: 2 },
  { op: "replace", path: "/b", value: 2 },
  { op: "remove", path: "/b" },
  { op: "move", from: "/b", path: "/c" },
  { op: "copy", from: "/b", path: "/c" },
  { op: "add", path: "/l/5", value: 2 },
  { op: "test", path: "/o", value: { x: 1, y: 2 } },
  { op: "test", path: "/o", value: { y: 2, x: 1 } },
]) {
  console.log(JSON.stringify(operation));
  const seen = attempt(() => immutableJSONPatch(document, [operation]));
  console.log(`  immutable-json-patch ${seen}`);
  console.log(`  rfc6902              ${attempt(() => checked(document, [operation]))}`);
}
JS
seen=$(node apply.mjs)
echo "$seen"
same='{"a":1,"l":[1],"o":{"x":1,"y":2}}'
wanted=$(
    cat <<SEEN
{"op":"replace","path":"/a","value":2}
  immutable-json-patch {"a":2,"l":[1],"o":{"x":1,"y":2}}
  rfc6902              {"a":2,"l":[1],"o":{"x":1,"y":2}}
{"op":"replace","path":"/b","value":2}
  immutable-json-patch $same
  rfc6902              an error
{"op":"remove","path":"/b"}
  immutable-json-patch $same
  rfc6902              an error
{"op":"move","from":"/b","path":"/c"}
  immutable-json-patch $same
  rfc6902              an error
{"op":"copy","from":"/b","path":"/c"}
  immutable-json-patch $same
  rfc6902              an error
{"op":"add","path":"/l/5","value":2}
  immutable-json-patch {"a":1,"l":[1,2],"o":{"x":1,"y":2}}
  rfc6902              an error
{"op":"test","path":"/o","value":{"x":1,"y":2}}
  immutable-json-patch $same
  rfc6902              $same
{"op":"test","path":"/o","value":{"y":2,"x":1}}
  immutable-json-patch an error
  rfc6902              $same
SEEN
)
[[ $seen == "$wanted" ]] || changed "they apply the operations otherwise"
