# Networks and servers.

# serve ADDRESS CTR_FLAG...: the server `http_app` in the background.
serve() {
    local address=$1
    shift
    ctr run --detach --runtime="$runtime" --annotation "io.runwasi.http.address=$address" "$@" \
        $guests "$id" /http_app.wasm
}

get() {
    curl --silent --show-error --fail --max-time 30 "$@"
}

host_network_serves_http() {
    serve "127.0.0.1:$port" --net-host
    eventually 120 get --output answer "http://127.0.0.1:$port/hello"
    prints "Hello from wasm!" cat answer
    end_guest
}

new_network_is_not_the_hosts() {
    serve "127.0.0.1:$port"
    local pid
    pid=$(task_pid)
    [[ $(readlink "/proc/$pid/ns/net") != $(readlink /proc/self/ns/net) ]]
    eventually 120 nsenter --net="/proc/$pid/ns/net" curl --silent --output answer "http://127.0.0.1:$port/hello"
    prints "Hello from wasm!" cat answer
    # 7: nothing listens.
    status_is 7 curl --silent --max-time 5 "http://127.0.0.1:$port/hello"
    end_guest
}

cni_gives_an_address() {
    ctr run --rm --cni --runtime="$runtime" $guests "$id" /http_app.wasm &
    eventually 30 has_address
    local address
    address=$(addresses)
    eventually 120 get --output answer "http://$address:8080/hello"
    prints "Hello from wasm!" cat answer
    ctr task kill --signal SIGTERM "$id"
    status_is 0 wait $!
    # What was given was taken back.
    prints "" find /var/lib/cni/networks/smoke -name "$address"
}

addresses() {
    local pid
    pid=$(task_pid)
    [[ -n $pid ]] && nsenter --net="/proc/$pid/ns/net" ip -4 -brief address show eth0 2>/dev/null |
        sed 's/.* \([0-9.]*\)\/24.*/\1/'
}

has_address() {
    [[ $(addresses) == 198.18.7.* ]]
}

is_connected() {
    [[ -n $(ss -Htn state established "dport = :$port") ]]
}

http_server_drains() {
    ctr run --rm --net-host --runtime="$runtime" --annotation "io.runwasi.http.address=127.0.0.1:$port" \
        $guests "$id" /http_app.wasm &
    local server=$!
    eventually 120 get --output answer "http://127.0.0.1:$port/hello"
    get --output late "http://127.0.0.1:$port/slow?ms=8000" &
    local request=$!
    # The emulated machine may take its time to connect.
    eventually 60 is_connected
    sleep 1
    ctr task kill --signal SIGTERM "$id"
    status_is 0 wait $request
    prints late cat late
    status_is 0 wait $server
    status_is 7 curl --silent --max-time 5 "http://127.0.0.1:$port/hello"
}
