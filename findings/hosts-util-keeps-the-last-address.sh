#!/usr/bin/env bash
# Behaviour: hosts-util has one address for each name, the last one of the file: of a name with an
#   IPv4 and an IPv6 address the first is lost when the file is written, and so are comments.
#   Names are lines of their own, in which an alias is a canonical name.
# Versions: npm hosts-util 1.0.0, glibc 2.36 (getent), Node 20.
# Expected: hosts(5) and gethostbyname(3): a name may be in several lines, for each kind of
#   address; the first name of a line is the canonical one, the others are aliases.
# Seen: db with 192.0.2.1 and 2001:db8::1: after it is written 2001:db8::1 alone; the alias web of
#   www.example: canonical after it is written
# Here: the shims give a pod a copy of the host's /etc/hosts; names that such a tool has taken out
#   of it the pod does not have either.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts hosts-util@1.0.0
cat >before <<'HOSTS'
192.0.2.1 db.example db
2001:db8::1 db.example db
192.0.2.2 www.example web # The front.
HOSTS
cat >rewrite.js <<'JS'
const { parse, stringify } = require("hosts-util");
const fs = require("fs");

fs.writeFileSync("after", stringify(parse(fs.readFileSync("before", "utf8"))) + "\n");
JS
node rewrite.js
# file database name: what the C library finds in the file.
lookup() {
    # shellcheck disable=SC2016 # The inner shell's.
    unshare --mount sh -c 'mount --bind "$1" /etc/hosts; getent -s files "$2" "$3"' sh "$@" |
        sed -E 's/ +/ /g; s/ STREAM//; /DGRAM|RAW/d' | paste -sd ';'
}
seen=$(
    for file in before after; do
        echo "$file: db $(lookup $file ahostsv4 db), $(lookup $file ahostsv6 db)"
        echo "$file: web $(lookup $file hosts web)"
    done
)
echo "$seen"
wanted=$(
    cat <<'SEEN'
before: db 192.0.2.1 db.example, 2001:db8::1 db.example
before: web 192.0.2.2 www.example web
after: db , 2001:db8::1 db
after: web 192.0.2.2 web
SEEN
)
[[ $seen == "$wanted" ]] || changed "it writes the file otherwise"
