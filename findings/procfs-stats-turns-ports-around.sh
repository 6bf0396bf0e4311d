#!/usr/bin/env bash
# Behaviour: procfs-stats gives the port 8080 of a TCP socket as 36895, with its two bytes swapped, and
#   what follows the queues in other columns: a socket's user is its inode, and its inode an address in
#   the kernel.
# Versions: npm procfs-stats 1.0.2; Node 20.
# Expected: proc(5) and the kernel's Documentation/networking/proc_net_tcp.rst (the port is a hexadecimal
#   number; tx_queue:rx_queue, tr:tm->when, retrnsmt, uid, timeout, inode); the README ("you can lookup
#   the inode in the net.tcp||udp||unix table").
# Seen: a server on 127.0.0.1:8080 of the user 0: local_address 127.0.0.1:36895, uid the inode of
#   /proc/PID/fd, inode not that one
# Here: a tool that looks for the ports of a container's processes finds others, and no process for them.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
changed() {
    echo "changed: $*" >&2
    exit 1
}
echo '{}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts procfs-stats@1.0.2
cat >listen.js <<'JS'
const { readFileSync, readdirSync, readlinkSync } = require("node:fs");
const { createServer } = require("node:net");
const procfs = require("procfs-stats");

// The inodes of this process's sockets.
const inodes = () =>
  readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).match(/^socket:\[(\d+)\]$/)?.[1] ?? [];
    } catch {
      return [];
    }
  });
const server = createServer().listen(8080, "127.0.0.1", () => {
  const line = readFileSync("/proc/net/tcp", "utf8").split("\n")[1].trim();
  const [, local, , , , , , uid, , inode] = line.split(/\s+/);
  console.log(`kernel: ${local.replace("0100007F", "127.0.0.1")}`);
  procfs.tcp((error, [socket]) => {
    const what = (value) => (value === inode ? "the inode" : value === uid ? "the user" : "something else");
    console.log(`procfs-stats: ${socket.local_address}`);
    console.log(`is the inode one of the process: ${inodes().includes(inode)}, ${inodes().includes(socket.inode)}`);
    console.log(`uid: ${what(socket.uid)}, inode: ${what(socket.inode)}`);
    server.close();
  });
});
JS
seen=$(unshare --net bash -c 'ip link set lo up && NODE_NO_WARNINGS=1 node listen.js')
echo "$seen"
[[ $seen == 'kernel: 127.0.0.1:1F90
procfs-stats: 127.0.0.1:36895
is the inode one of the process: true, false
uid: the inode, inode: something else' ]] || changed "it reads the table otherwise"
