#!/usr/bin/env bash
# Behaviour: dockerfile-parse and docker-file-parser take the lines of a here-document for
#   instructions of the Dockerfile: a `USER` that a COPY writes into a file is the image's user.
# Versions: PyPI dockerfile-parse 2.0.1, npm docker-file-parser 1.0.7, npm dockerfile-ast 0.7.1.
# Expected: Dockerfile reference, "Here-documents": the lines up to the delimiter are the input of
#   the RUN or COPY before them; dockerfile-ast reads them so.
# Seen: FROM COPY ENTRYPOINT by dockerfile-ast; FROM COPY USER CMD END ENTRYPOINT by both others,
#   and a command `/of-the-file` for the image by dockerfile-parse; no warning
# Here: an image of a guest has few instructions, and tools that look for its entrypoint, command
#   and user by these parsers find those of a file.
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
npm install --silent --no-audit --no-fund --ignore-scripts docker-file-parser@1.0.7 \
    dockerfile-ast@0.7.1

cat >Dockerfile <<'DOCKERFILE'
FROM scratch
COPY <<END /template
USER 7
CMD ["/of-the-file"]
END
ENTRYPOINT ["/hello.wasm"]
DOCKERFILE
cat >read.py <<'PY'
from dockerfile_parse import DockerfileParser

parser = DockerfileParser(path="Dockerfile")
print(*(part["instruction"] for part in parser.structure))
print(parser.cmd)
PY
cat >read.js <<'JS'
const { readFileSync } = require("node:fs");
const { parse } = require("docker-file-parser");
const { DockerfileParser } = require("dockerfile-ast");

const text = readFileSync("Dockerfile", "utf8");
console.log("docker-file-parser:", ...parse(text).map(({ name }) => name));
const instructions = DockerfileParser.parse(text).getInstructions();
console.log("dockerfile-ast:", ...instructions.map((one) => one.getKeyword()));
JS
of_python=$(PYTHONPATH=py python3 read.py)
of_node=$(node read.js)
printf '%s\n' "dockerfile-parse: $of_python" "$of_node"
[[ $of_python == $'FROM COPY USER CMD END ENTRYPOINT\n["/of-the-file"]' ]] ||
    changed "dockerfile-parse reads something else"
wanted=$(
    cat <<'SAID'
docker-file-parser: FROM COPY USER CMD END ENTRYPOINT
dockerfile-ast: FROM COPY ENTRYPOINT
SAID
)
[[ $of_node == "$wanted" ]] || changed "the parsers for Node read something else"
