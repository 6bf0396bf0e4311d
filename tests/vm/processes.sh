# A container's processes: terminal, exec, signals, pause, and who may come and go meanwhile.

terminal_is_a_terminal() {
    # `ctr` complains if the guest has gone before it says how large the terminal is.
    local line="ctr run --rm --tty --runtime=$runtime $image $id /wasmtest.wasm tty 2>/dev/null"
    # An input that ends would be echoed as ^@.
    prints "stdin true, stdout true, stderr true" \
        script --quiet --return --command "$line" /dev/null < <(exec sleep $limit)
}

exec_runs_beside_the_init() {
    guest_in_background -- sleep 1000
    prints "beside it" ctr task exec --exec-id beside "$id" /wasmtest.wasm echo beside it
    status_is 9 ctr task exec --exec-id status "$id" /wasmtest.wasm exit 9
    end_guest
}

sigterm_ends_with_143() {
    guest_in_background -- sleep 1000
    ctr task kill --signal SIGTERM "$id"
    remove_with_status 143
}

paused_container_prints_nothing() {
    guest -- daemon >ticks &
    eventually 30 grep -q "tick 2" ticks
    ctr task pause "$id"
    task PAUSED
    local before
    before=$(wc -l <ticks)
    sleep 3
    prints "$before" wc -l <ticks
    ctr task resume "$id"
    eventually 20 grep -q "tick $((before + 1))" ticks
    ctr task kill --signal SIGKILL "$id"
    status_is 137 wait $!
}

containerd_restart_disturbs_no_container() {
    guest_in_background -- sleep 1000
    local before
    before=$(task_pid)
    systemctl restart containerd
    task RUNNING
    prints "$before" task_pid
    end_guest
}

no_container_is_left() {
    prints "" ctr container ls --quiet
}
