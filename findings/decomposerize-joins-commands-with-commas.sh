#!/usr/bin/env bash
# Behaviour: decomposerize joins the words of a command's list with commas, unquoted, and those of a
#   health check with CMD before them. An entrypoint of three words becomes three --entrypoint, of
#   which Docker takes the last. A stop_grace_period of 1m30s becomes a --stop-timeout that Docker
#   refuses.
# Versions: npm decomposerize 1.4.4, Node 20.
# Expected: the Compose specification: command and entrypoint are lists as in a Dockerfile, and
#   stop_grace_period is a duration; Docker's reference (container run): --stop-timeout is a number
#   of seconds, and COMMAND and ARG are words of their own.
# Seen: the image's arguments: "serve,--name,two", "words"; entrypoint: tini, --, /bin/serve;
#   health-cmd: CMD,curl,-f,http://localhost; stop-timeout: 1m30s
# Here: a service that is tried by hand with the printed command runs another program, with other
#   arguments, or does not start.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts decomposerize@1.4.4
cat >compose.yaml <<'YAML'
services:
  web:
    image: app:1
    entrypoint: ["tini", "--", "/bin/serve"]
    command: ["serve", "--name", "two words"]
    environment:
      A: one
      B: two words
    stop_grace_period: 1m30s
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost"]
YAML
cat >convert.js <<'JS'
const convert = require("decomposerize");
console.log(convert(require("fs").readFileSync("compose.yaml", "utf8"), { "long-args": true }));
JS
# What a shell gives the command `docker`.
cat >docker.py <<'PY'
import json, sys

words = sys.argv[2:]
image = words.index("app:1")
options = {}
for name, value in zip(words[:image:2], words[1:image:2]):
    options.setdefault(name, []).append(value)
for name in sorted(options):
    print(name, json.dumps(options[name]))
print("image's arguments", json.dumps(words[image + 1:]))
PY
node convert.js >run.sh
cat run.sh
cat >shell.sh <<'SH'
docker() { python3 docker.py "$@"; }
. ./run.sh
SH
seen=$(bash shell.sh)
echo "$seen"
wanted=$(
    cat <<'SEEN'
--entrypoint ["tini", "--", "/bin/serve"]
--env ["A=one", "B=two words"]
--health-cmd ["CMD,curl,-f,http://localhost"]
--stop-timeout ["1m30s"]
image's arguments ["serve,--name,two", "words"]
SEEN
)
[[ $seen == "$wanted" ]] || changed "it writes another command"
