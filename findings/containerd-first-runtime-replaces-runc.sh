#!/usr/bin/env bash
# Behaviour: a configuration of containerd 1 that adds its first runtime to the CRI plugin takes the
#   built-in runc away, which stays the default: the plugin does not load. A second table that only
#   repeats runc's type brings both.
# Versions: Debian containerd 1.6.20~ds1-1+deb12u3 (bookworm).
# Expected: a file is laid over the defaults key by key, as it is for the tables above this one: the
#   default snapshotter, the CNI directories and `default_runtime_name` of the same plugin stay.
# Seen: without a table: runc, default runc, plugin ok; with the table of another: other, default
#   runc, plugin error; with the tables of both: other runc, default runc, plugin ok
# Here: the tables that docs/kubernetes.md shows and the installer writes have runc's beside their own.
set -euo pipefail
dir=$(mktemp -d)
pid=
finish() {
    if [[ -n $pid ]]; then kill "$pid" && wait "$pid"; fi 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download containerd='1.6.20~ds1-1+deb12u3'
dpkg -x containerd_*.deb debian

# configuration NAME [RUNTIME...]: as it is, but for places of its own and a snapshotter that works anywhere.
configuration() {
    local name=$1 runtime
    shift
    cat <<TOML
version = 2
root = "$dir/$name/root"
state = "$dir/$name/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "$dir/$name/grpc"
[ttrpc]
address = "$dir/$name/ttrpc"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
TOML
    for runtime in "$@"; do
        echo "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.$runtime]"
        echo 'runtime_type = "io.containerd.runc.v2"'
    done
}

# try NAME [RUNTIME...]: the runtimes in force, the default, and the state of the plugin.
try() {
    local name=$1 dump runtimes default plugin
    mkdir "$name"
    configuration "$@" >"$name.toml"
    dump=$(debian/usr/bin/containerd --config "$name.toml" config dump)
    runtimes=$(sed -n 's/^ *\[plugins.*\.containerd\.runtimes\.\([a-z]*\)\]$/\1/p' <<<"$dump" | xargs)
    default=$(sed -n 's/^ *default_runtime_name = "\(.*\)"/\1/p' <<<"$dump")
    debian/usr/bin/containerd --config "$name.toml" >"$name.log" 2>&1 &
    pid=$!
    for _ in {1..100}; do
        plugin=$(debian/usr/bin/ctr --address "$dir/$name/grpc" plugins ls 2>/dev/null |
            awk '$2 == "cri" { print $NF }') || plugin=
        if [[ -n $plugin ]]; then break; fi
        sleep 0.1
    done
    kill "$pid"
    wait "$pid" || true
    pid=
    seen="$runtimes, default $default, plugin $plugin"
    echo "$name: $seen"
}
try nothing
[[ $seen == 'runc, default runc, plugin ok' ]] || changed "other defaults: $(tail -n 3 nothing.log)"
try one other
[[ $seen == 'other, default runc, plugin error' ]] || changed "a table is added to the defaults"
grep -o 'no corresponding runtime configured.*' one.log | head -n 1
try both other runc
[[ $seen == 'other runc, default runc, plugin ok' ]] || changed "both tables are no help"
