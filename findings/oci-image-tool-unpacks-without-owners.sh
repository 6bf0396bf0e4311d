#!/usr/bin/env bash
# Behaviour: `oci-image-tool unpack`, run by root, gives all files to root and to the present time,
#   and leaves FIFOs out; the status is 0 and nothing is said. Modes and the times of folders are
#   kept.
# Versions: Debian oci-image-tool 1.0.0~rc2+really.rc1+dfsg-2+b12, umoci 0.4.7+ds-3+b7 (bookworm).
# Expected: the image specification (layer, file attributes): additions have the time of
#   modification, the owner, the mode and the type of the entry. umoci has it so.
# Seen: file of 5:6, 640 and 2001: umoci 640 5:6 978307200, oci-image-tool 640 0:0 and now; folder
#   750 5:6: umoci the same, oci-image-tool 750 0:0; FIFO: umoci has it, oci-image-tool has none
# Here: a guest reads its image's files as the user of the container: user 5 cannot open its own
#   folder in an image that was unpacked so.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
apt-get -qq -o APT::Sandbox::User=root download umoci=0.4.7+ds-3+b7 \
    oci-image-tool=1.0.0~rc2+really.rc1+dfsg-2+b12
for package in *.deb; do dpkg -x "$package" debian; done

umoci() { debian/usr/bin/umoci --log error "$@"; }
umoci init --layout image
umoci new --image image:v1
umoci unpack --image image:v1 bundle
mkdir bundle/rootfs/folder
echo hello >bundle/rootfs/folder/file
mkfifo bundle/rootfs/folder/fifo
chown -R 5:6 bundle/rootfs/folder
chmod 640 bundle/rootfs/folder/file
chmod 750 bundle/rootfs/folder
touch -d @978307200 bundle/rootfs/folder/* bundle/rootfs/folder
umoci repack --image image:v1 bundle

umoci unpack --image image:v1 by-umoci
debian/usr/bin/oci-image-tool unpack --ref name=v1 image by-tool || changed "the tool fails"
# tree FOLDER: type, mode, owner and time of what is in it; a time of today is "now".
tree() {
    (cd "$1" && find folder -printf '%y %m %U:%G %Ts %p\n' | sort -k5) |
        awk -v today="$(date +%s)" '{ if (today - $4 < 86400) $4 = "now"; print }'
}
by_umoci=$(tree by-umoci/rootfs)
by_tool=$(tree by-tool)
printf '%s\n' "by umoci:" "$by_umoci" "by oci-image-tool:" "$by_tool"
[[ $by_umoci == 'd 750 5:6 978307200 folder
p 644 5:6 978307200 folder/fifo
f 640 5:6 978307200 folder/file' ]] || changed "umoci unpacks otherwise"
[[ $by_tool == 'd 750 0:0 978307200 folder
f 640 0:0 now folder/file' ]] || changed "the tool unpacks otherwise"
