#!/usr/bin/env bash
# Behaviour: in the image that oci-squash makes of several layers a file with two names is gone if a
#   later layer deletes the first of them, and so is a file with `.wh.` in the middle of its name, and
#   the one that has its name without this; with a layer left as it is, the file is empty instead. A
#   directory that became a file gives a layer that cannot be unpacked. It ends with 0, without a word.
# Versions: PyPI oci-squash 0.1.0; Debian umoci 0.4.7, skopeo 1.9.3.
# Expected: the image-spec, layer.md: a whiteout is an empty file whose basename begins with `.wh.`, and
#   hides that path alone; the squashed image has the files of the image, as umoci unpacks it.
# Seen: image: notestxt, notes.wh.txt (text), second; squashed: none of the three; its two last layers
#   squashed: notes.wh.txt is empty; with the directory: umoci ends with "not a directory"
# Here: images are squashed to have fewer layers; a program of such an image lacks files.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py oci-squash==0.1.0
apt-get -qq -o APT::Sandbox::User=root download 'umoci=0.4.7*' 'skopeo=1.9.3*' libgpgme11 libassuan0 \
    libdevmapper1.02.1
for package in *.deb; do
    dpkg -x "$package" debian
done
export LD_LIBRARY_PATH=$dir/debian/usr/lib/x86_64-linux-gnu
umoci=$dir/debian/usr/bin/umoci
# make.py DIRECTORY COUNT: a layout of an image with the first COUNT of these layers.
cat >make.py <<'PY'
import hashlib, io, json, os, sys, tarfile

BLOBS = f"{sys.argv[1]}/blobs/sha256"
TYPE = "application/vnd.oci.image.%s.v1+"
LAYERS = [
    {"first": "one", "second": tarfile.LNKTYPE, "notestxt": "two", "was": tarfile.DIRTYPE, "was/in": "three"},
    {".wh.first": "", "notes.wh.txt": "text"},
    {"fourth": "four"},
    {"was": "file"},
]


def blob(data, type):
    digest = hashlib.sha256(data).hexdigest()
    open(f"{BLOBS}/{digest}", "wb").write(data)
    return {"mediaType": type, "digest": "sha256:" + digest, "size": len(data)}


def document(content, type):
    return blob(json.dumps(content).encode(), TYPE % type + "json")


def layer(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content.encode()))
            else:
                entry.type, entry.linkname, entry.mode = content, "first", 0o755
                tar.addfile(entry)
    return blob(out.getvalue(), "application/vnd.oci.image.layer.v1.tar")


os.makedirs(BLOBS)
layers = [layer(files) for files in LAYERS[: int(sys.argv[2])]]
configuration = {
    "architecture": "amd64", "os": "linux", "config": {},
    "rootfs": {"type": "layers", "diff_ids": [each["digest"] for each in layers]},
    "history": [{"created_by": each["digest"]} for each in layers],
}
image = document({
    "schemaVersion": 2, "mediaType": TYPE % "manifest" + "json",
    "config": document(configuration, "config"), "layers": layers,
}, "manifest")
image["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
json.dump({"schemaVersion": 2, "manifests": [image]}, open(f"{sys.argv[1]}/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(f"{sys.argv[1]}/oci-layout", "w"))
PY
# files BUNDLE: the names and lengths of the files of an unpacked image.
files() {
    (cd "$1/rootfs" && find . -type f -printf '%P (%s)\n' | sort | paste -sd ' ')
}
# squashed LAYOUT COUNT: the files of an image whose last COUNT layers are squashed.
squashed() {
    rm -rf squashed squashed.tar unpacked
    tar -cf image.tar -C "$1" .
    PYTHONPATH=py python3 -m oci_squash -f "$2" -t squashed:v1 -o squashed.tar image.tar >log 2>&1 ||
        changed "oci-squash fails"
    debian/usr/bin/skopeo --insecure-policy copy -q docker-archive:squashed.tar oci:squashed:v1
    "$umoci" unpack --image squashed:v1 unpacked >unpack.log 2>&1 || return 1
    files unpacked
}
python3 make.py image 3
python3 make.py replaced 4
"$umoci" unpack --image image:v1 bundle
"$umoci" unpack --image replaced:v1 other
image=$(files bundle)
all=$(squashed image 3)
two=$(squashed image 2)
printf '%s\n' "image: $image" "squashed: $all" "two layers of it squashed: $two" "file for directory: $(files other)"
[[ $image == 'fourth (4) notes.wh.txt (4) notestxt (3) second (3) was/in (5)' ]] || changed "umoci's image"
[[ $all == 'fourth (4) was/in (5)' ]] || changed "other files are left of three layers"
[[ $two == 'fourth (4) notes.wh.txt (0) notestxt (3) second (3) was/in (5)' ]] ||
    changed "other files are left of two layers"
[[ $(files other) == *' was (4)' ]] || changed "umoci's other image"
if squashed replaced 4; then
    changed "the layer with the directory that became a file is unpacked"
fi
grep -o 'mkdir parent.*' unpack.log || changed "umoci says something else"
