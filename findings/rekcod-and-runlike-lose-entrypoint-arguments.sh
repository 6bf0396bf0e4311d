#!/usr/bin/env bash
# Behaviour: of the words of the entrypoint that `docker inspect` shows of a container, rekcod makes
#   one word, and runlike drops all but the first. Of two addresses that one port is published at,
#   rekcod keeps the last.
# Versions: npm rekcod 3.0.0, PyPI runlike 1.5.4 with click 8.5.1, Node 20.
# Expected: Docker's reference (container run): --entrypoint is the program alone, and its arguments
#   come after the image; the Engine's API (ContainerInspect): Config.Entrypoint is a list, and
#   HostConfig.PortBindings a map of lists.
# Seen: of tini -- /bin/serve two, rekcod: "tini -- /bin/serve" two, and one address; runlike: tini
#   two, and both addresses
# Here: what a container was started with is got back so before it is started with another runtime;
#   it starts another program or does not start, and is not reached at one of its addresses.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts rekcod@3.0.0
python3 -m pip -q install --no-deps --target py runlike==1.5.4 click==8.5.1
cat >inspect.py <<'PY'
import json, sys


def container(folder):
    return [{
        "Id": "0" * 64, "Name": "/web", "Image": "sha256:" + "0" * 64,
        "HostConfig": {
            "Binds": [f"{folder}:/data"], "NetworkMode": "default", "Runtime": "runc",
            "CpusetCpus": "", "CpusetMems": "", "PidMode": "",
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {}},
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"},
                                        {"HostIp": "10.4.0.7", "HostPort": "8081"}]},
        },
        "Mounts": [{"Type": "bind", "Source": folder, "Destination": "/data", "Mode": "",
                    "RW": True}],
        "Config": {
            "Image": "app:1", "Hostname": "web", "User": "", "Labels": {}, "Env": ["A=b"],
            "Entrypoint": ["tini", "--", "/bin/serve"], "Cmd": ["two"],
            "ExposedPorts": {"80/tcp": {}},
        },
        "NetworkSettings": {"Networks": {"bridge": {}}},
    }]


with open("plain.json", "w") as file:
    json.dump(container("/srv/data"), file)
PY
python3 inspect.py
# What a shell gives the command `docker`.
cat >docker.py <<'PY'
import json, sys

words = sys.argv[1:]
shown = [word for word in words if word.startswith("/srv/")]
for name in "--entrypoint", "-p":
    shown += [words[at + 1] for at, word in enumerate(words) if word == name]
print(json.dumps(shown + words[words.index("app:1"):]))
PY
cat >shell.sh <<'SH'
docker() { python3 docker.py "$@"; }
. "./$1"
SH
node node_modules/rekcod/cli.js plain.json >rekcod.plain
PYTHONPATH=py python3 -W ignore py/bin/runlike --stdin <plain.json >runlike.plain
cat rekcod.plain runlike.plain
seen=$(for tool in rekcod runlike; do echo "$tool: $(bash shell.sh "$tool.plain")"; done)
echo "$seen"
wanted=$(
    cat <<'SEEN'
rekcod: ["/srv/data:/data", "tini -- /bin/serve", "10.4.0.7:8081:80/tcp", "app:1", "two"]
runlike: ["/srv/data:/data", "tini", "127.0.0.1:8080:80", "10.4.0.7:8081:80", "app:1", "two"]
SEEN
)
[[ $seen == "$wanted" ]] || changed "they write other commands"
