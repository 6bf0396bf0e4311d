#!/usr/bin/env bash
# Behaviour: dockerode-compose drops the last two characters of a duration: `interval: 10s` of a health
#   check is one second, 5s and 500ms are no number, and of a `stop_grace_period` of 90s nine seconds
#   are left. A port "127.0.0.1:53:53/udp" is of the protocol "udp/tcp", and a label ends at the second
#   equals sign.
# Versions: npm dockerode-compose 1.4.0, Node 20.
# Expected: Compose specification, Specifying durations: the units are us, ms, s, m and h, as in its
#   examples 40s and 1m30s; Ports, short syntax: an address before, and "/udp" behind; Labels: a list of
#   names and values. Docker's API: Interval is the time "in nanoseconds".
# Seen: 1m30s: 90000000000; 10s: 1000000000 instead of 10000000000; 5s and 500ms: null in JSON; a stop
#   after 90s: "9"; "53/udp/tcp"; the label rule=Host(`a`)=x: "Host(`a`)"
# Here: containers beside those of the shims are checked ten times as often or not at all, and killed
#   before they have ended; with Docker Compose, or nerdctl on containerd, the same file does neither.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts dockerode-compose@1.4.0
# Stands for the client of Docker: prints what it is to create.
cat >up.cjs <<'JS'
const { writeFileSync } = require("node:fs");
const Compose = require("dockerode-compose");

const docker = {
    createNetwork: async () => ({}),
    createContainer: async (container) => {
        const asked = JSON.parse(JSON.stringify(container));
        const health = asked.Healthcheck;
        console.log(`  interval ${health.Interval}, stop after ${asked.StopTimeout}, port`,
            `${Object.keys(asked.HostConfig.PortBindings)}; timeout of 5s: ${health.Timeout}, label`,
            asked.Labels.rule);
        return { start: async () => {} };
    },
};

(async () => {
    for (const line of ["1m30s 1m30s 53:53/udp", "10s 90s 127.0.0.1:53:53/udp", "500ms 5s 8000"]) {
        const [interval, stop_grace_period, port] = line.split(" ");
        const healthcheck = { test: ["CMD", "true"], interval, timeout: "5s", start_period: "1m30s" };
        const [labels, ports] = [["rule=Host(`a`)=x"], [port]];
        const web = { image: "web", restart: "no", stop_grace_period, ports, healthcheck, labels };
        // What is JSON is YAML.
        writeFileSync("compose.yaml", JSON.stringify({ services: { web } }));
        console.log(`interval ${interval}, stop after ${stop_grace_period}, port ${port}:`);
        await new Compose(docker, "compose.yaml", "app").up();
    }
})();
JS
node up.cjs | tee seen
cmp seen - <<'SEEN' || changed "it asks for other things"
interval 1m30s, stop after 1m30s, port 53:53/udp:
  interval 90000000000, stop after 90, port 53/udp; timeout of 5s: null, label Host(`a`)
interval 10s, stop after 90s, port 127.0.0.1:53:53/udp:
  interval 1000000000, stop after 9, port 53/udp/tcp; timeout of 5s: null, label Host(`a`)
interval 500ms, stop after 5s, port 8000:
  interval null, stop after , port 8000/tcp; timeout of 5s: null, label Host(`a`)
SEEN
