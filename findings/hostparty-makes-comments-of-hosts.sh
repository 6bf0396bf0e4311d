#!/usr/bin/env bash
# Behaviour: after hostparty has added one address, the names of each line that had a comment at its
#   end are behind a `#`, and the host is gone. The names of each line are in the order of the
#   alphabet: the first one, which is the canonical name, is another. Indented lines are gone.
# Versions: npm hostparty 1.0.15, Debian's libc 2.36 (getent), Node 20.
# Expected: hosts(5): "Text from a '#' character until the end of the line is a comment", and a line
#   is an address, the canonical name, and aliases.
# Seen: before: 10.4.0.7 is web.example.org, and so on; after: 10.4.0.7 has no name, and the
#   canonical name of 10.4.0.8 is db instead of db.example.org; 10.4.0.9 is not in the file
# Here: names that a guest asks for are looked up in its container's hosts file; where that is
#   changed by this package, they are not found, and a host calls itself otherwise.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts hostparty@1.0.15
cat >hosts <<'HOSTS'
127.0.0.1 localhost
10.4.0.7 web.example.org web # the service
10.4.0.8 db.example.org db
	10.4.0.9 mail.example.org mail
HOSTS
cat >add.js <<'JS'
const hostparty = require("hostparty");
hostparty.setup({ path: `${process.cwd()}/hosts` }).add("10.4.0.10", ["cache"]);
JS
# What the C library finds in the file.
cat >names.sh <<'NAMES'
set -euo pipefail
printf 'hosts: files\n' >nsswitch
mount --bind nsswitch /etc/nsswitch.conf
mount --bind hosts /etc/hosts
for address in 10.4.0.7 10.4.0.8 10.4.0.9 10.4.0.10; do
    getent hosts "$address" || echo "$address none"
done
NAMES
before=$(unshare --mount bash names.sh | tr -s ' ' | sed 's/ $//')
node add.js
after=$(unshare --mount bash names.sh | tr -s ' ' | sed 's/ $//')
printf '%s\n' "before:" "$before" "after:" "$after" "the file:" "$(grep '^[0-9]' hosts)"
[[ $before == '10.4.0.7 web.example.org web
10.4.0.8 db.example.org db
10.4.0.9 mail.example.org mail
10.4.0.10 none' ]] || changed "the C library reads the file otherwise"
[[ $after == '10.4.0.7
10.4.0.8 db db.example.org
10.4.0.9 none
10.4.0.10 cache' ]] || changed "it writes the file otherwise"
