# Native programs, which containerd's own shim runs for both runtimes: the daemon's by systemd, outside of its service.

native=docker.io/library/wasmtest-native:latest

native_program_runs_and_is_killed_with_its_delegate() {
    prints "by runc" ctr run --rm --runtime="$runtime" $native "$id" /wasmtest echo by runc
    status_is 7 ctr run --rm --runtime="$runtime" $native "$id" /wasmtest exit 7
    ctr run --detach --runtime="$runtime" --memory-limit 67108864 $native "$id" /wasmtest sleep 1000
    prints "beside it" ctr task exec --exec-id beside "$id" /wasmtest echo beside it
    # An OS process of its own, which the kernel limits.
    local cgroup
    cgroup=$(sed 's/^0:://' "/proc/$(task_pid)/cgroup")
    prints 67108864 cat "/sys/fs/cgroup$cgroup/memory.max"
    # As of the shims that containerd starts.
    prints -998 cat "/proc/$(pgrep --full -- "-id $id--native")/oom_score_adj"
    end_guest
    eventually 20 no_delegate
}

# The delegate of the case's container has ended, and nothing of it is left.
no_delegate() {
    if pgrep --full -- "-id $id--native"; then return 1; fi
    [[ -z $(find /run/runwasi/native -name "*$id*") ]]
}
