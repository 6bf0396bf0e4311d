# Limits, with the kernel behind them, and what is measured. A limit holds for all runtimes; cgroups are of the shim per
# pod, whose process they hold.

cgroups=/sys/fs/cgroup

memory_limit_ends_with_137() {
    status_is 137 guest --memory-limit 33554432 -- alloc 100
    prints done guest --memory-limit 134217728 -- alloc 50
}

# metric NAME: of the case's task.
metric() {
    ctr task metrics "$id" | awk -v name="$1" '$1 == name { print $2 }'
}

metrics_are_those_of_cgroup_v2() {
    guest_in_background -- hold 20
    eventually 20 holds_20_mib
    ctr task metrics "$id"
    # These names are cgroup v2's.
    [[ $(metric cpu.usage_usec) -gt 0 ]]
    end_guest
}

holds_20_mib() {
    [[ $(metric memory.usage) -ge 20971520 ]]
}

cpu_quota_holds() {
    guest_in_background --cpu-quota 20000 --cpu-period 100000 -- spin
    local used start
    used=$(metric cpu.usage_usec)
    start=$(date +%s%6N)
    sleep 5
    used=$(($(metric cpu.usage_usec) - used))
    local percent=$((used * 100 / ($(date +%s%6N) - start)))
    echo "$percent % of a CPU"
    # Both ends of the span are read by a `ctr` that takes some time, so this is not exact.
    ((percent >= 10 && percent <= 30))
    end_guest
}

kernel_backs_the_limits() {
    guest_in_background --memory-limit 67108864 --cpu-quota 20000 --cpu-period 100000 -- spin
    local cgroup=$cgroups/default/$id
    eventually 20 grep --quiet . "$cgroup/guests/cgroup.threads"
    local shim
    eventually 20 grep --quiet --line-regexp "$(task_pid)" "$cgroup/cgroup.procs"
    shim=$(grep --invert-match --line-regexp "$(task_pid)" "$cgroup/cgroup.procs")
    prints "wasmtime serve" cat "/proc/$shim/comm"
    # Ours and a quarter, since our own meter acts first.
    prints "30000 100000" cat "$cgroup/guests/cpu.max"
    eventually 20 limits_memory "$cgroup"
    local thread
    for thread in $(<"$cgroup/guests/cgroup.threads"); do
        # One that has ended meanwhile was the shim's, too.
        if [[ -e /proc/$shim/task/$thread || -e /proc/$thread ]]; then
            prints guest cat "/proc/$shim/task/$thread/comm"
        fi
    done
    end_guest
    eventually 20 test ! -e "$cgroup"
}

limits_memory() {
    local limit
    limit=$(<"$1/memory.max")
    echo "memory.max $limit"
    [[ $limit != max && $limit -gt 67108864 ]]
}

relative_cgroup_path_runs_and_leaves_nothing() {
    prints "in a scope" guest --cgroup "system.slice/$id.scope" --memory-limit 67108864 -- echo in a scope
    prints "" find $cgroups -name "$id.scope"
}

# cgroup_of PID: below which cgroup, from the root of the hierarchy.
cgroup_of() {
    sed -n 's/^0:://p' "/proc/$1/cgroup"
}

# runc shows it in the same breath.
relative_cgroup_path_is_placed_as_runc_places_it() {
    local scope=system.slice/$id.scope runcs ours
    ctr run --detach --runtime=io.containerd.runc.v2 --cgroup "$scope" --memory-limit 67108864 \
        docker.io/library/wasmtest-native:latest "$id" /wasmtest sleep 1000
    runcs=$(cgroup_of "$(task_pid)")
    end_guest
    guest_in_background --cgroup "$scope" --memory-limit 67108864 -- sleep 1000
    eventually 20 is_below "$runcs"
    ours=$(cgroup_of "$(task_pid)")
    end_guest
    echo "runc: $runcs, ours: $ours"
    [[ $ours == "$runcs" ]]
}

is_below() {
    [[ $(cgroup_of "$(task_pid)") == *"$1" ]]
}
