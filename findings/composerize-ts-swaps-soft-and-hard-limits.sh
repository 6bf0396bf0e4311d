#!/usr/bin/env bash
# Behaviour: composerize-ts takes the first number of `--ulimit nofile=100:200` for the hard limit
#   and the second for the soft one. `--network host` becomes a network of that name, and so do
#   `none` and `container:…`. It reports options that it cannot translate, but nothing of these.
# Versions: npm composerize-ts 0.6.2, composerize 1.7.6, js-yaml 4.1.0, Node 20.
# Expected: Docker's reference (docker run): "<type>=<soft limit>[:<hard limit>]"; the Compose
#   specification has network_mode for host, none and container. composerize has it so.
# Seen: nofile: composerize soft 100, hard 200; composerize-ts soft 200, hard 100; network:
#   composerize network_mode host, composerize-ts a network "host"
# Here: a soft limit above the hard one is refused when the container is made; the limit of open
#   files is one that the shims hold.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts composerize-ts@0.6.2 composerize@1.7.6 \
    js-yaml@4.1.0
cat >compose.mjs <<'JS'
import composerize from "composerize";
import { composerize as composerizeTs } from "composerize-ts";
import { load } from "js-yaml";

function shown(text) {
  const { services, networks } = load(text);
  const { image, ...service } = services.guest;
  return JSON.stringify(networks ? { service, networks } : { service });
}
for (const options of ["--ulimit nofile=100:200", "--network host", "--network none"]) {
  const command = `docker run ${options} guest`;
  const { yaml, messages } = composerizeTs(command);
  console.log(options);
  console.log(`  composerize: ${shown(composerize(command))}`);
  console.log(`  composerize-ts: ${shown(yaml)}, ${messages.length} messages`);
}
JS
said=$(node compose.mjs)
echo "$said"
wanted=$(
    cat <<'SAID'
--ulimit nofile=100:200
  composerize: {"service":{"ulimits":{"nofile":{"soft":100,"hard":200}}}}
  composerize-ts: {"service":{"ulimits":{"nofile":{"hard":100,"soft":200}}}}, 0 messages
--network host
  composerize: {"service":{"network_mode":"host"}}
  composerize-ts: {"service":{"networks":{"host":{}}},"networks":{"host":{}}}, 0 messages
--network none
  composerize: {"service":{"network_mode":"none"}}
  composerize-ts: {"service":{"networks":{"none":{}}},"networks":{"none":{}}}, 0 messages
SAID
)
[[ $said == "$wanted" ]] || changed "they write them otherwise"
