#!/usr/bin/env bash
# Behaviour: to @balena/dockerignore the signs `+`, `(`, `)`, `|`, `{`, `}` and `^` of a pattern are
#   those of a regular expression. The line `a+b` leaves the file a+b in the context and takes aab
#   out; `lib(old)` takes libold out, `a|b` all that begins with a, and `c++` is an error.
# Versions: npm @balena/dockerignore 1.0.2, PyPI e2b-dockerfile-utils 0.1.1, Node 20.
# Expected: Docker's Dockerfile reference, .dockerignore file: patterns match by the rules of Go's
#   filepath.Match, which has as special signs only `*`, `?`, `[`, `]` and `\`.
# Seen: a+b: balena takes aab, e2b-dockerfile-utils takes a+b; so for the others
# Here: what has to stay out of an image gets into it, and a source folder like c++ or a file that
#   the program needs is not in it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py e2b-dockerfile-utils==0.1.1
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @balena/dockerignore@1.0.2
cat >cases.json <<'JSON'
[
  ["docs/*.txt", ["docs/a.txt", "docs/a.md"]],
  ["a+b", ["a+b", "aab"]],
  ["lib(old)", ["lib(old)", "libold"]],
  ["a|b", ["a|b", "a", "ax"]],
  ["x{2}", ["x{2}", "xx"]],
  ["v1^2", ["v1^2"]],
  ["c++", ["c++", "ccc"]]
]
JSON
cat >balena.js <<'JS'
const dockerignore = require("@balena/dockerignore");

for (const [pattern, paths] of require("./cases.json")) {
  try {
    const ignore = dockerignore({ ignorecase: false }).add(pattern);
    const taken = paths.filter((path) => ignore.ignores(path));
    console.log(`${pattern}: ${taken.join(", ") || "(none)"}`);
  } catch (error) {
    console.log(`${pattern}: ${error.name}`);
  }
}
JS
cat >e2b.py <<'PY'
import json
from e2b_dockerfile_utils.dockerignore import PatternMatcher

for pattern, paths in json.load(open("cases.json")):
    matcher = PatternMatcher([pattern])
    taken = [path for path in paths if matcher.matches(path)]
    print(f"{pattern}: {', '.join(taken) or '(none)'}")
PY
seen="balena takes
$(node balena.js)
e2b-dockerfile-utils takes
$(PYTHONPATH=py python3 e2b.py)"
echo "$seen"
wanted=$(
    cat <<'SEEN'
balena takes
docs/*.txt: docs/a.txt
a+b: aab
lib(old): libold
a|b: a|b, a, ax
x{2}: xx
v1^2: (none)
c++: SyntaxError
e2b-dockerfile-utils takes
docs/*.txt: docs/a.txt
a+b: a+b
lib(old): lib(old)
a|b: a|b
x{2}: x{2}
v1^2: v1^2
c++: c++
SEEN
)
[[ $seen == "$wanted" ]] || changed "they take out other files"
