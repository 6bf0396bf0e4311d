#!/usr/bin/env bash
# Behaviour: docker-parse-image takes a digest for a tag, and puts the name together with `:` where
#   `@` was, which is no reference any more. With a port and more than two parts it takes the port
#   and the path for a tag.
# Versions: npm docker-parse-image 3.0.1, PyPI docker-image-py 0.2.0.
# Expected: the grammar of references (`name [":" tag] ["@" digest]`, a name of any number of
#   parts), as docker-image-py has it; what is taken apart is put together as the same.
# Seen: alpine@sha256:4413… is the tag "sha256:4413…" and the name "alpine:sha256:4413…";
#   localhost:5000/a/b/c:1 is the repository "localhost" with the tag "5000/a/b/c:1"
# Here: a guest's image that is pinned by its digest has, for a tool with this parser, a name that
#   is none; one of a registry with a port and folders has another registry.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py docker-image-py==0.2.0
npm install --silent --no-audit --no-fund --ignore-scripts docker-parse-image@3.0.1

digest=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a
pinned=alpine@$digest
deep=localhost:5000/a/b/c:1
cat >read.js <<'JS'
const parse = require("docker-parse-image");
for (const reference of process.argv.slice(2)) {
  const { registry, namespace, repository, tag, name } = parse(reference);
  console.log(registry, namespace, repository, tag, name);
}
JS
cat >read.py <<'PY'
import sys
from docker_image.reference import Reference

for text in sys.argv[1:]:
    reference = Reference.parse(text)
    print(*reference.split_hostname(), reference["tag"], reference["digest"], reference.string())
PY
of_node=$(node read.js "$pinned" "$deep")
of_python=$(PYTHONPATH=py python3 read.py "$pinned" "$deep")
printf '%s\n' "docker-parse-image:" "$of_node" "docker-image-py:" "$of_python"
[[ $of_node == "null null alpine $digest alpine:$digest
null null localhost 5000/a/b/c:1 $deep" ]] || changed "docker-parse-image reads something else"
[[ $of_python == "None alpine None $digest $pinned
localhost:5000 a/b/c 1 None $deep" ]] || changed "docker-image-py reads something else"
# The name that was put together is no reference to the other.
if said=$(PYTHONPATH=py python3 read.py "alpine:$digest" 2>&1); then changed "it is one: $said"; fi
