#!/usr/bin/env bash
# Behaviour: http-link-header reads the title `say "hi"` of a Link field and writes it as `say %22hi%22`,
#   `C:\x` as `C%3A%5Cx`: its own reader then has the percent signs in the title. A `title*` without a
#   language gets English.
# Versions: npm http-link-header 1.1.4, Node 20.
# Expected: RFC 8288, 3 (a parameter's value is a token or a quoted-string) and RFC 9110, 5.6.4 (in
#   these `"` and `\` have a backslash before them, and `%` no meaning); RFC 8187, 3.2.1 (language may
#   be empty).
# Seen: say "hi" -> say %22hi%22; C:\x -> C%3A%5Cx; UTF-8''%E2%82%AC -> UTF-8'en'%E2%82%AC; "50%" and a
#   registry's `</v2/_catalog?last=b&n=2>; rel=next` stay as they are
# Here: a proxy in front of a registry or of a component writes the fields that it reads.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts http-link-header@1.1.4
cat >again.js <<'JS'
const Link = require("http-link-header");

const fields = [
  "</v2/_catalog?last=b&n=2>; rel=next",
  '</a>; rel=next; title="50%"',
  '</a>; rel=next; title="say \\"hi\\""',
  '</a>; rel=next; title="C:\\\\x"',
  "</a>; rel=next; title*=UTF-8''%E2%82%AC",
];
for (const field of fields) {
  const link = Link.parse(field);
  const written = link.toString();
  const [before, after] = [link, Link.parse(written)].map(({ refs: [{ title }] }) => title);
  console.log(`${field} is written as ${written}: title ${before}, then ${after}`);
}
JS
seen=$(node again.js)
echo "$seen"
[[ $seen == '</v2/_catalog?last=b&n=2>; rel=next is written as </v2/_catalog?last=b&n=2>; rel=next: '\
'title undefined, then undefined
</a>; rel=next; title="50%" is written as </a>; rel=next; title=50%: title 50%, then 50%
</a>; rel=next; title="say \"hi\"" is written as </a>; rel=next; title="say %22hi%22": '\
'title say "hi", then say %22hi%22
</a>; rel=next; title="C:\\x" is written as </a>; rel=next; title="C%3A%5Cx": '\
'title C:\x, then C%3A%5Cx
</a>; rel=next; title*=UTF-8'"''"'%E2%82%AC is written as </a>; rel=next; title*=UTF-8'"'en'"'%E2%82%AC: '\
'title undefined, then undefined' ]] || changed "it writes them otherwise"
