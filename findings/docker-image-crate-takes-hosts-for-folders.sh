#!/usr/bin/env bash
# Behaviour: the crate docker-image takes a registry that is `localhost` or an IP address for a part
#   of the image's name, with no registry. With a port, or as a name without a dot, it refuses the
#   whole reference, and so it does capitals of a host's name and `__` in a name.
# Versions: Rust crate docker-image 0.2.1, npm @swimlane/docker-reference 2.0.1, Node 20.
# Expected: distribution's grammar of references (package reference): a domain is made of components
#   of letters and digits with an optional port, or an IP address; it is one where it has a `.` or a
#   `:` or is localhost. The crate's description: "strict adherence to Docker's naming rules".
# Seen: 10.4.0.7/app: name 10.4.0.7/app without a registry; registry:5000/app: refused;
#   @swimlane/docker-reference has the registries 10.4.0.7 and registry:5000
# Here: clusters have their registries at such addresses; a tool asks Docker Hub for the image
#   10.4.0.7/app then, or refuses it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @swimlane/docker-reference@2.0.1
mkdir -p app/src
cat >app/Cargo.toml <<'TOML'
[package]
name = "references"
version = "0.0.0"
edition = "2021"

[dependencies]
docker-image = "=0.2.1"
TOML
cat >app/src/main.rs <<'RS'
use docker_image::DockerImage;

fn main() {
    for text in std::env::args().skip(1) {
        match DockerImage::parse(&text) {
            Ok(image) => {
                let registry = image.registry.unwrap_or_else(|| "(none)".to_string());
                println!("{text}: {registry} {}", image.name);
            }
            Err(error) => println!("{text}: {error}"),
        }
    }
}
RS
cat >reference.js <<'JS'
const { parseFamiliarName } = require("@swimlane/docker-reference");

for (const text of process.argv.slice(2)) {
  const { domain, repository } = parseFamiliarName(text);
  console.log(`${text}: ${domain} ${repository}`);
}
JS
export CARGO_TARGET_DIR=$dir/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo build -q --manifest-path app/Cargo.toml
references=(example.org:5000/app user/app localhost/app 10.4.0.7/app 10.4.0.7:5000/app
    registry:5000/app Registry.example.org/app user/my__app)
seen="docker-image
$(target/debug/references "${references[@]}")
docker-reference
$(node reference.js "${references[@]}")"
echo "$seen"
wanted=$(
    cat <<'SEEN'
docker-image
example.org:5000/app: example.org:5000 app
user/app: (none) user/app
localhost/app: (none) localhost/app
10.4.0.7/app: (none) 10.4.0.7/app
10.4.0.7:5000/app: Invalid Docker image format
registry:5000/app: Invalid Docker image format
Registry.example.org/app: Invalid Docker image format
user/my__app: Invalid Docker image format
docker-reference
example.org:5000/app: example.org:5000 app
user/app: docker.io user/app
localhost/app: localhost app
10.4.0.7/app: 10.4.0.7 app
10.4.0.7:5000/app: 10.4.0.7:5000 app
registry:5000/app: registry:5000 app
Registry.example.org/app: Registry.example.org app
user/my__app: docker.io user/my__app
SEEN
)
[[ $seen == "$wanted" ]] || changed "they read the references otherwise"
