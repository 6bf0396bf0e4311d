# The project comes and goes as the README says.

make_install_and_enable() {
    make -C "$here/../.." install
    sysctl --system
    systemctl daemon-reload
    systemctl enable --now $unit
    prints active systemctl is-active $unit
}

make_load_imports_the_images() {
    make -C "$here/../.." load
    # Not among them: the tests' own.
    ctr image import "$here/../../target/images/wasmguests.tar"
    ctr image import "$here/../../target/images/wasmtest-native.tar"
}

# For `ctr run --cni`, which looks for both at these places.
network_for_cni_is_configured() {
    mkdir -p /etc/cni/net.d /opt/cni
    ln -sT /usr/lib/cni /opt/cni/bin
    cat >/etc/cni/net.d/10-smoke.conflist <<CNI
{"cniVersion": "0.4.0", "name": "smoke", "plugins": [
    {"type": "bridge", "bridge": "smoke0", "isGateway": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "198.18.7.0/24"}]]}}]}
CNI
}

# The machine can be reached before its last services have started.
hello_after_a_reboot() {
    prints active systemctl is-active $unit.socket
    eventually 60 systemctl is-active $unit
    hello_is_printed
}

make_uninstall_leaves_nothing() {
    systemctl disable --now $unit $unit.socket
    make -C "$here/../.." uninstall
    systemctl daemon-reload
    prints "" find /usr/local -name '*wasmtime*'
    status_is 4 systemctl status $unit
}
