#!/usr/bin/env bash
# Behaviour: composerize, which makes a Compose file of a `docker run`, writes the options of
#   --mount under their own names, which Compose does not have, and leaves out those without a
#   value: a mount with `readonly` is writable, and its `dst` is no target. Of `-e 'HOST=$NAME'`
#   Compose will replace the variable. Nothing is said of it.
# Versions: npm composerize 1.7.6, js-yaml 4.1.0, Node 20.
# Expected: the Compose specification (services, volumes, long syntax): the keys are type, source,
#   target, read_only, bind.propagation, tmpfs.size; interpolation: "$$" where a dollar sign is
#   meant. Docker's reference has dst and destination for target, and readonly.
# Seen: readonly: type, source, target; dst: type, source, dst; tmpfs-size=1000000: tmpfs-size
#   beside the type; HOST=$NAME as it is; of -v /a:/b:ro: /a:/b:ro, right
# Here: docs/docker.md has containers of the shims for both; a volume that a guest may only read is
#   one that it may write.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts composerize@1.7.6 js-yaml@4.1.0
cat >compose.mjs <<'JS'
import composerize from "composerize";
import { load } from "js-yaml";

const commands = [
  "-v /a:/b:ro",
  "--mount type=bind,source=/a,target=/b,readonly",
  "--mount type=bind,source=/a,dst=/b",
  "--mount type=tmpfs,target=/b,tmpfs-size=1000000",
  "--mount type=bind,source=/a,target=/b,bind-propagation=rslave",
  "-e 'HOST=$NAME'",
];
for (const options of commands) {
  const { image, ...service } = load(composerize(`docker run ${options} guest`)).services.guest;
  console.log(options);
  console.log(`  ${JSON.stringify(service)}`);
}
JS
said=$(node compose.mjs)
echo "$said"
wanted=$(
    cat <<'SAID'
-v /a:/b:ro
  {"volumes":["/a:/b:ro"]}
--mount type=bind,source=/a,target=/b,readonly
  {"volumes":[{"type":"bind","source":"/a","target":"/b"}]}
--mount type=bind,source=/a,dst=/b
  {"volumes":[{"type":"bind","source":"/a","dst":"/b"}]}
--mount type=tmpfs,target=/b,tmpfs-size=1000000
  {"volumes":[{"type":"tmpfs","target":"/b","tmpfs-size":1000000}]}
--mount type=bind,source=/a,target=/b,bind-propagation=rslave
  {"volumes":[{"type":"bind","source":"/a","target":"/b","bind-propagation":"rslave"}]}
-e 'HOST=$NAME'
  {"environment":["HOST=$NAME"]}
SAID
)
[[ $said == "$wanted" ]] || changed "it writes them otherwise"
