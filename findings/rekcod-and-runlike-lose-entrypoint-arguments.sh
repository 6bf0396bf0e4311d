#!/usr/bin/env bash
# Behaviour: of the words of the entrypoint that `docker inspect` shows of a container, rekcod makes
#   one word, and runlike drops all but the first. Of two addresses that one port is published at,
#   rekcod keeps the last. In the commands that they write, a folder with a blank in its name is two
#   words, and after a label with a `'` (runlike) a quotation mark is left open.
# Versions: npm rekcod 3.0.0, PyPI runlike 1.5.4 with click 8.5.1, Node 20.
# Expected: Docker's reference (container run): --entrypoint is the program alone, and its arguments
#   come after the image; the Engine's API (ContainerInspect): Config.Entrypoint is a list, and
#   HostConfig.PortBindings a map of lists.
# Seen: of tini -- /bin/serve two, rekcod: "tini -- /bin/serve" two, and one address; runlike: tini
#   two, and both addresses; with a blank: two words; with the label (runlike): no command
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


def container(folder, labels):
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
            "Image": "app:1", "Hostname": "web", "User": "", "Labels": labels, "Env": ["A=it's"],
            "Entrypoint": ["tini", "--", "/bin/serve"], "Cmd": ["two"],
            "ExposedPorts": {"80/tcp": {}},
        },
        "NetworkSettings": {"Networks": {"bridge": {}}},
    }]


for name, folder, labels in [
    ("plain", "/srv/data", {}), ("blank", "/srv/my data", {}),
    ("label", "/srv/data", {"note": "it's"}),
]:
    with open(f"{name}.json", "w") as file:
        json.dump(container(folder, labels), file)
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
for name in plain blank label; do
    node node_modules/rekcod/cli.js "$name.json" >"rekcod.$name"
    PYTHONPATH=py python3 -W ignore py/bin/runlike --stdin <"$name.json" >"runlike.$name"
done
cat rekcod.plain runlike.plain
seen=$(
    for tool in rekcod runlike; do
        for name in plain blank label; do
            echo "$tool $name: $(bash shell.sh "$tool.$name" 2>/dev/null || echo "no command")"
        done
    done
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
rekcod plain: ["/srv/data:/data", "tini -- /bin/serve", "10.4.0.7:8081:80/tcp", "app:1", "two"]
rekcod blank: ["/srv/my", "tini -- /bin/serve", "10.4.0.7:8081:80/tcp", "app:1", "two"]
rekcod label: ["/srv/data:/data", "tini -- /bin/serve", "10.4.0.7:8081:80/tcp", "app:1", "two"]
runlike plain: ["/srv/data:/data", "tini", "127.0.0.1:8080:80", "10.4.0.7:8081:80", "app:1", "two"]
runlike blank: ["/srv/my", "tini", "127.0.0.1:8080:80", "10.4.0.7:8081:80", "app:1", "two"]
runlike label: no command
SEEN
)
[[ $seen == "$wanted" ]] || changed "they write other commands"
