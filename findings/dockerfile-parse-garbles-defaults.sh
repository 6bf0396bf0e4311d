#!/usr/bin/env bash
# Behaviour: dockerfile-parse takes the modifiers of a variable for text behind it: `${A:-none}` is
#   the value of A followed by ":-none}", with one brace.
# Version: PyPI dockerfile-parse 2.0.1.
# Expected: Dockerfile reference, "Environment replacement": `${variable:-word}` is the variable, or
#   the word if it is not set, `${variable:+word}` the word if it is set.
# Seen: `${A:-none}` "1:-none}", `${B:-none}` ":-none}", `${A:+some}` "1:+some}", `${A}` "1"; a base
#   image `alpine:${TAG:-3}` is "alpine:3.20:-3}"; no error
# Here: what a tool of this kind reports of a guest's environment or base is no value that its build
#   gives.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py dockerfile-parse==2.0.1

cat >Dockerfile <<'DOCKERFILE'
ARG TAG=3.20
FROM alpine:${TAG:-3}
ENV A=1
ENV PLAIN=${A} SET=${A:-none} UNSET=${B:-none} INSTEAD=${A:+some}
DOCKERFILE
cat >read.py <<'PY'
from dockerfile_parse import DockerfileParser

parser = DockerfileParser(path="Dockerfile")
print("base", parser.baseimage)
for item in parser.envs.items():
    print(*item)
PY
said=$(PYTHONPATH=py python3 read.py)
echo "$said"
wanted=$(
    cat <<'SAID'
base alpine:3.20:-3}
A 1
PLAIN 1
SET 1:-none}
UNSET :-none}
INSTEAD 1:+some}
SAID
)
[[ $said == "$wanted" ]] || changed "other values"
