#!/usr/bin/env bash
# Behaviour: promtext, which adds a metric to a file of metrics, takes the labels of all lines for
#   those of the first one in order: a line that has them in another order gets each value at the
#   other's name. A time that a line has is left out, and with `=` in a label's value it ends with a
#   traceback.
# Versions: PyPI promtext-cli 0.2.0, prometheus-client 0.26.0.
# Expected: Prometheus' text format: labels have names, and no order is given; lines with them in
#   another order, and with the time of the sample, are valid. The README says that the tool merges
#   new metrics into existing files, and that it knows gauges alone.
# Seen: jobs{state="open",queue="b"} 2, after a line with queue first: jobs{queue="open",state="b"}
#   2.0; jobs{…} 1 1700000000000: jobs{…} 1.0; --label a=b=c: ValueError, status 1
# Here: such files are read by node exporters beside the shims' metrics; adding one metric changes
#   the others in the file.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py promtext-cli==0.2.0 prometheus-client==0.26.0
promtext() {
    PYTHONPATH=py python3 -c 'import promtext_cli.promtext as tool
tool.Promtext().cli_entrypoint()' "$@"
}
cat >jobs.prom <<'PROM'
# TYPE jobs gauge
jobs{queue="a",state="done"} 1 1700000000000
jobs{state="open",queue="b"} 2
PROM
promtext jobs.prom other 7
said=$(grep -v '^#' jobs.prom)
echo "$said"
status=0
error=$(promtext jobs.prom other 7 --label a=b=c 2>&1) || status=$?
echo "$status: ${error##*$'\n'}"
[[ $said == 'jobs{queue="a",state="done"} 1.0
jobs{queue="open",state="b"} 2.0
other 7.0' ]] || changed "the file has others"
[[ $status == 1 && $error == *ValueError* ]] || changed "it takes a label's value with ="
