#!/usr/bin/env bash
# Behaviour: where a cgroup has no limit of processor time, PyPI's cgroup-parser says that one
#   processor may be used, on any machine; so it does with the second version of cgroups, whatever
#   the limit. Limits of the first version are read right.
# Versions: PyPI cgroup-parser 0.0.2, Python 3.11.
# Expected: the kernel's sched-bwc.rst: "The default values are: … cpu.cfs_quota_us=-1", and "A
#   value of -1 … indicates that the group does not have any bandwidth restriction". The package's
#   own comment says that without a quota the number of processors is taken.
# Seen: quota -1: 1 processor of 8; 400000 of 100000: 4; of the second version "max" and "400000
#   100000": 1 and 1
# Here: most containers have no such limit; a program that starts as many workers starts one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py cgroup-parser==0.0.2
cat >count.py <<'PY'
import os
from pathlib import Path

import cgroup_parser
from cgroup_parser import utils
from cgroup_parser.cgroups import new_cgroups
from cgroup_parser.runtime import runtime

# A machine of eight processors, and a process in /pod.
utils.cpu_count = lambda: 8
pod = Path("cgroup/pod")
pod.mkdir(parents=True)
mount = f"30 29 0:26 / {os.getcwd()}/cgroup rw,nosuid - "


def processors(mounted, group):
    Path("mountinfo").write_text(f"{mount}{mounted}\n")
    Path("group").write_text(f"{group}:/pod\n")
    runtime.GLOBAL_CGROUP = new_cgroups("mountinfo", "group")
    return cgroup_parser.get_max_procs()


(pod / "cpu.cfs_period_us").write_text("100000\n")
for quota in "-1", "400000", "250000":
    (pod / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    print(f"quota {quota}: {processors('cgroup cgroup rw,cpu,cpuacct', '4:cpu,cpuacct')}")
for limit in "max 100000", "400000 100000":
    (pod / "cpu.max").write_text(f"{limit}\n")
    print(f"cpu.max {limit}: {processors('cgroup2 cgroup rw', '0:')}")
PY
said=$(PYTHONPATH=py python3 count.py)
echo "$said"
[[ $said == 'quota -1: 1
quota 400000: 4
quota 250000: 2
cpu.max max 100000: 1
cpu.max 400000 100000: 1' ]] || changed "it counts otherwise"
