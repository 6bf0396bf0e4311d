#!/usr/bin/env bash
# Behaviour: after json8-patch copies a value, what a later operation does to the copy it does to
#   the original, too. An added value is not copied either: documents that one patch is applied to
#   share it with each other and with the patch, and the second one gets what the first got, and
#   more.
# Versions: npm json8-patch 1.0.6, jsonpatch 3.1.0, rfc6902 5.4.0, Node 20.
# Expected: RFC 6902, section 4.5: copy is an "add" at the target location with the value that is
#   at "from", which stays as it was; its operations have no other effects. The package's own
#   README: "JSON8 Patch never mutates patches."
# Seen: a copied to b, b/image replaced by 2: json8-patch a 2, b 2, the others a 1, b 2; [] added
#   and 1 appended in two empty documents: json8-patch [1,1] twice, the others [1]
# Here: admission webhooks of Kubernetes answer with such patches, which copy and change
#   containers.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts json8-patch@1.0.6 jsonpatch@3.1.0 \
    rfc6902@5.4.0
cat >apply.js <<'JS'
const json8 = require("json8-patch");
const jsonpatch = require("jsonpatch");
const rfc6902 = require("rfc6902");

const libraries = {
  "json8-patch": (document, patch) => json8.apply(document, patch).doc,
  jsonpatch: (document, patch) => jsonpatch.apply_patch(document, patch),
  rfc6902: (document, patch) => (rfc6902.applyPatch(document, patch), document),
};
for (const [name, apply] of Object.entries(libraries)) {
  const copy = [
    { op: "copy", from: "/a", path: "/b" },
    { op: "replace", path: "/b/image", value: 2 },
  ];
  console.log(`${name}: copied: ${JSON.stringify(apply({ a: { image: 1 } }, copy))}`);
  const add = [
    { op: "add", path: "/list", value: [] },
    { op: "add", path: "/list/-", value: 1 },
  ];
  const results = [apply({}, add), apply({}, add)].map(({ list }) => JSON.stringify(list));
  console.log(`${name}: two documents: ${results.join(" and ")}`);
}
JS
seen=$(node apply.js)
echo "$seen"
wanted=$(
    cat <<'SEEN'
json8-patch: copied: {"a":{"image":2},"b":{"image":2}}
json8-patch: two documents: [1,1] and [1,1]
jsonpatch: copied: {"a":{"image":1},"b":{"image":2}}
jsonpatch: two documents: [1] and [1]
rfc6902: copied: {"a":{"image":1},"b":{"image":2}}
rfc6902: two documents: [1] and [1]
SEEN
)
[[ $seen == "$wanted" ]] || changed "they apply the patches otherwise"
