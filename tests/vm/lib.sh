# Words of the cases. `runtime` is the runtime in question, `id` a name for the case's container.

image=docker.io/library/wasmtest:latest
# Components: servers, and what else is no command of wasmtest.
guests=docker.io/library/wasmguests:latest
unit=containerd-wasmtimed

# A guest of the image wasmtest: guest CTR_FLAG... -- WORD...
# Its output and its status are `ctr run`'s.
guest() {
    local flags=()
    while [[ $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    shift
    ctr run --rm --runtime="$runtime" "${flags[@]}" $image "$id" /wasmtest.wasm "$@"
}

# The same, left running. `ctr` prints nothing then.
guest_in_background() {
    local flags=()
    while [[ $1 != -- ]]; do
        flags+=("$1")
        shift
    done
    shift
    ctr run --detach --runtime="$runtime" "${flags[@]}" $image "$id" /wasmtest.wasm "$@"
}

# Ends the container with SIGKILL and removes it. Its status must be 137.
end_guest() {
    ctr task kill --signal SIGKILL "$id"
    status_is 137 ctr task delete "$id"
    ctr container delete "$id"
}

# prints TEXT COMMAND...: it succeeds and prints exactly this.
prints() {
    local wanted=$1 got status=0
    shift
    got=$("$@") || status=$?
    got=${got//$'\r'/}
    echo "status $status, printed: $got" >&2
    if [[ $status -ne 0 || $got != "$wanted" ]]; then
        echo "wanted status 0 and: $wanted" >&2
        return 1
    fi
}

# status_is STATUS COMMAND...
status_is() {
    local wanted=$1 status=0
    shift
    "$@" || status=$?
    if [[ $status -ne $wanted ]]; then
        echo "status $status instead of $wanted: $*" >&2
        return 1
    fi
}

# eventually SECONDS COMMAND...: it succeeds before that long.
eventually() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        if ((SECONDS > deadline)); then
            echo "it did not come true: $*" >&2
            return 1
        fi
        sleep 0.2
    done
}

# task STATUS: the case's task has it.
task() {
    [[ $(ctr task ls | awk -v id="$id" '$1 == id { print $3 }') == "$1" ]]
}

task_pid() {
    ctr task ls | awk -v id="$id" '$1 == id { print $2 }'
}

no_container_is_left() {
    prints "" ctr container ls --quiet
    local left
    left=$(pgrep -fa '^/usr/local/bin/containerd-shim-wasmtime-v1' || true)
    # A shim ends soon after its last container.
    if [[ -n $left ]]; then eventually 10 no_shim_is_left; fi
}

no_shim_is_left() {
    ! pgrep -fa '^/usr/local/bin/containerd-shim-wasmtime-v1'
}

# After a failure, so that the next case finds the machine as it should.
remove_containers() {
    local name
    for name in $(ctr container ls --quiet); do
        timeout -s KILL 20 ctr task kill --signal SIGKILL "$name"
        timeout -s KILL 20 ctr task delete --force "$name"
        timeout -s KILL 20 ctr container delete "$name"
    done
    systemctl start $unit
}
