#!/usr/bin/env bash
# Behaviour: of a program that does not exist or may not be executed dumb-init ends with 2, and
#   catatonit with 1: statuses that programs use for themselves. tini ends with 127 and 126.
# Versions: Debian dumb-init 1.2.5-2, catatonit 0.1.7-1+b2, tini 0.19.0-1+b3.
# Expected: POSIX.1, the utilities that run another one (sh, env, nice, nohup, xargs): 127 if it
#   is not found, 126 if it is found and cannot be invoked; `docker run` has the same two.
# Seen: /nonexistent: dumb-init 2, catatonit 1, tini and env 127; /etc/passwd: 2, 1, 126 and 126;
#   a program that ends with 2: 2 each
# Here: the status is how a misspelt command of a container shows; behind these inits it looks
#   like a program's own failure, for which a restart may help.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download dumb-init=1.2.5-2 catatonit=0.1.7-1+b2 \
    tini=0.19.0-1+b3
for package in *.deb; do dpkg -x "$package" debian; done
inits=("dumb-init --" "catatonit --" "tini -s --" "env")
seen=$(
    for command in /nonexistent /etc/passwd "sh -c 'exit 2'" "sh -c 'kill -9 \$\$'"; do
        printf '%s:' "$command"
        for init in "${inits[@]}"; do
            status=0
            PATH=$dir/debian/usr/bin:$PATH bash -c "$init $command" 2>messages || status=$?
            printf ' %s %s' "${init%% *}" $status
        done
        echo
    done
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
/nonexistent: dumb-init 2 catatonit 1 tini 127 env 127
/etc/passwd: dumb-init 2 catatonit 1 tini 126 env 126
sh -c 'exit 2': dumb-init 2 catatonit 2 tini 2 env 2
sh -c 'kill -9 $$': dumb-init 137 catatonit 137 tini 137 env 137
SEEN
)
[[ $seen == "$wanted" ]] || changed "they end otherwise"
