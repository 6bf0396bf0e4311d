# Words of the cases. `runtime` is the runtime in question, `id` a name for the case's container, `port` a free one.

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
    remove_with_status 137
}

# remove_with_status STATUS: removes the case's container, whose task has ended so. `ctr` tells it in a warning.
remove_with_status() {
    local said
    eventually 20 task STOPPED
    said=$(ctr task delete "$id" 2>&1)
    echo "$said"
    [[ $said == *"non-zero exit code $1"* ]]
    ctr container delete "$id"
}

# prints TEXT COMMAND...: it succeeds and prints exactly this.
prints() {
    local wanted=$1 got status=0
    shift
    got=$("$@") || status=$?
    got=${got//[$'\r\0']/}
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

# Containers of the case's runtime.
containers_left() {
    ctr container ls | awk -v runtime="$runtime" '$NF == runtime { print $1 }'
}

# Tasks of the case's runtime, whose names end with it: by their bundles, since `ctr` takes a second to start here.
nothing_is_left() {
    if [[ -z $runtime ]]; then return; fi
    prints "" find /run/containerd/io.containerd.runtime.v2.task/default -mindepth 1 -maxdepth 1 \
        -name "*-${runtime#io.containerd.}"
    # A shim ends soon after its last container.
    if [[ $runtime == io.containerd.wasmtime.v1 ]]; then eventually 20 no_shim_is_left; fi
}

no_shim_is_left() {
    ! pgrep -fa '^/usr/local/bin/containerd-shim-wasmtime-v1'
}

# After a failure, so that the next case finds the machine as it should.
remove_containers() {
    local name
    for name in $(containers_left); do
        timeout -s KILL 20 ctr task kill --signal SIGKILL "$name"
        timeout -s KILL 20 ctr task delete --force "$name"
        timeout -s KILL 20 ctr container delete "$name"
    done
    systemctl start $unit
}
