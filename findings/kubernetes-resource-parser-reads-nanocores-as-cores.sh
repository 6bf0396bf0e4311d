#!/usr/bin/env bash
# Behaviour: kubernetes-resource-parser reads the CPU time 59251174n, as Kubernetes' metrics API has
#   it, as 59251174 cores; 1.5Gi of memory is 1 byte and 129e6 are 129 bytes; 1288490188800m is NaN.
#   k8s-resource-parser reads the last three and says that it does not know `n`.
# Versions: npm kubernetes-resource-parser 0.1.0, k8s-resource-parser 0.2.2.
# Expected: 0.059251174 cores, 1610612736, 129000000 and 1288490188.8 bytes: Kubernetes' API
#   reference (Quantity) has n, u, m, decimal fractions and exponents for all quantities, and makes
#   1288490188800m out of 1.2Gi. The package's document asks for strings of the Kubernetes API.
# Seen: 59251174, 1, 129, NaN; error, 1610612736, 129000000, 1288490188.8
# Here: limits of guests that are written so are checked against other numbers than Kubernetes has.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
npm install --silent --no-audit --no-fund --ignore-scripts kubernetes-resource-parser@0.1.0 \
    k8s-resource-parser@0.2.2
cat >quantities.cjs <<'JS'
for (const name of ["kubernetes-resource-parser", "k8s-resource-parser"]) {
  const { cpuParser, memoryParser } = require(name);
  const all = [[cpuParser, "59251174n"]];
  for (const text of ["1.5Gi", "129e6", "1288490188800m"]) all.push([memoryParser, text]);
  const read = all.map(([parse, text]) => {
    try {
      return parse(text);
    } catch (error) {
      return `error: ${error.message}`;
    }
  });
  console.log(`${name}: ${read.join(", ")}`);
}
JS
said=$(node quantities.cjs)
echo "$said"
[[ $said == 'kubernetes-resource-parser: 59251174, 1, 129, NaN
k8s-resource-parser: error: '*', 1610612736, 129000000, 1288490188.8' ]] ||
    changed "they read something else"
