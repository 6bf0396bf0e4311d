# The node daemon as a service of systemd.

service_is_ready_and_unit_is_valid() {
    prints active systemctl is-active $unit
    prints active systemctl is-active $unit.socket
    prints "" systemd_complaints
    prints 0 systemctl show --property NRestarts --value $unit
}

systemd_complaints() {
    systemd-analyze verify $unit.service $unit.socket 2>&1
}

# Processes of the service, as systemd has them; guard is the main one.
guard() {
    systemctl show --property MainPID --value $unit
}

host() {
    pgrep --parent "$(guard)" --full containerd-wasmtimed
}

hello() {
    prints "Hello from wasm!" ctr run --rm --runtime="$runtime" $image "hello-$id"
}

# journal SINCE: what systemd and the daemon wrote of the service since then.
journal() {
    journalctl --quiet --no-pager --output cat --unit $unit --since "$1"
}

now() {
    # journalctl takes whole seconds; one that ends before the case begins.
    sleep 1
    date '+%Y-%m-%d %H:%M:%S'
}

# A new host takes over, and the guard stays.
reload_disturbs_no_container_and_leaves_no_complaint() {
    guest_in_background -- sleep 1000
    local guard_before host_before since
    guard_before=$(guard)
    host_before=$(host)
    since=$(now)
    systemctl reload $unit
    prints "$guard_before" guard
    task RUNNING
    hello
    prints "still there" ctr task exec --exec-id later "$id" /wasmtest.wasm echo still there
    [[ $(host | wc -l) -eq 2 ]]
    end_guest
    # The one before leaves with its last container.
    eventually 20 test ! -e "/proc/$host_before"
    journal "$since" >said
    cat said
    status_is 1 grep -i 'left-over process' said
}

restart_disturbs_no_container() {
    guest_in_background -- sleep 1000
    local before host_before
    before=$(guard)
    host_before=$(host)
    systemctl restart $unit
    [[ $(guard) != "$before" ]]
    task RUNNING
    hello
    prints "still there" ctr task exec --exec-id later "$id" /wasmtest.wasm echo still there
    end_guest
    eventually 20 test ! -e "/proc/$host_before"
}

# A start after the last container has a new host, which the socket starts.
drain_keeps_its_containers_and_the_socket() {
    guest_in_background -- sleep 1000
    local host_before
    host_before=$(host)
    status_is 1 containerd-wasmtimed drain --timeout 1 2>said
    cat said
    grep --quiet "the manager socket is systemd's and stays open" said
    task RUNNING
    prints active systemctl is-active $unit.socket
    end_guest
    eventually 20 test ! -e "/proc/$host_before"
    hello
    prints active systemctl is-active $unit
}

# watched_guest: a container, and containerd's events in a file. What a daemon leaves at its end is not there any more for
# `ctr task delete`, and `ctr run` tells no status when it loses its task.
watched_guest() {
    ctr events >events &
    watcher=$!
    guest_in_background -- sleep 1000
    eventually 20 grep --quiet "/tasks/start.*\"$id\"" events
}

# ended_with STATUS: the watched container, as containerd has told all. After the daemon has gone, containerd 1.6 may tell
# an end a second time, on its own account.
ended_with() {
    local end="/tasks/exit.*\"$id\""
    eventually 40 grep --quiet "$end" events
    kill $watcher
    grep "$end" events
    grep --max-count 1 "$end" events | grep --quiet "\"exit_status\":$1[,}]"
    ctr container delete "$id"
}

# restarted GUARD: another one is there, and ready.
restarted() {
    [[ $(systemctl is-active $unit) == active && $(guard) != "$1" ]]
}

killed_host_is_started_again() {
    local before
    before=$(guard)
    watched_guest
    kill -KILL "$(host)"
    ended_with 137
    eventually 30 restarted "$before"
    hello
}

# As at a restart, its host goes on until its last container has ended.
killed_guard_is_started_again_and_disturbs_no_container() {
    local before host_before
    before=$(guard)
    host_before=$(host)
    guest_in_background -- sleep 1000
    kill -KILL "$before"
    eventually 30 restarted "$before"
    task RUNNING
    hello
    prints "still there" ctr task exec --exec-id later "$id" /wasmtest.wasm echo still there
    end_guest
    eventually 20 test ! -e "/proc/$host_before"
}

stopped_process_is_found_by_the_watchdog() {
    [[ $(systemctl show --property WatchdogUSec --value $unit) != 0 ]]
    # Shorter than the unit's, so that this does not take a minute.
    local folder=/run/systemd/system/$unit.service.d since before
    mkdir -p $folder
    printf '[Service]\nWatchdogSec=10\n' >$folder/smoke.conf
    systemctl daemon-reload
    systemctl restart $unit
    since=$(now)
    before=$(guard)
    # One that lives is left alone.
    sleep 12
    prints "$before" guard
    kill -STOP "$(host)"
    eventually 40 restarted "$before"
    journal "$since" >said
    cat said
    grep -i watchdog said
    rm -r $folder
    systemctl daemon-reload
    systemctl restart $unit
    hello
}

stop_ends_its_containers() {
    watched_guest
    local start=$SECONDS
    systemctl stop $unit.socket $unit
    ((SECONDS - start < 20))
    ended_with 143
    # Nothing of it runs any more, and `ctr` is told what to do.
    status_is 1 pgrep --full '^/usr/local/bin/containerd-wasmtimed'
    status_is 1 hello 2>message
    cat message
    grep "daemon not running" message
    systemctl start $unit.socket
}

socket_starts_the_daemon() {
    systemctl stop $unit
    prints inactive is_active
    hello
    prints active is_active
}

is_active() {
    systemctl is-active $unit || true
}
