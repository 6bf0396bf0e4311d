# The Debian package of the daemon under systemd. What scripts/test-packages shows without it is not repeated here: the
# machine is emulated, and unpacking a package costs it ten seconds.

packages=$here/../../target/packages

# Of both versions of scripts/test-packages.
install_package() {
    dpkg --force-unsafe-io --install "$packages/$1"/containerd-wasmtimed_*.deb
}

package_enables_and_starts_the_daemon() {
    install_package 1.0.0
    # containerd remembers where it has found a shim, and that of `make install` is gone.
    systemctl restart containerd
    prints active systemctl is-active $unit
    prints enabled systemctl is-enabled $unit
    prints 1048576 cat /proc/sys/vm/max_map_count
}

upgrade_of_the_package_disturbs_no_container() {
    local main
    main=$(systemctl show --property MainPID --value $unit)
    guest_in_background -- sleep 600
    install_package 1.0.1
    prints active systemctl is-active $unit
    prints "$main" systemctl show --property MainPID --value $unit
    prints here ctr task exec --exec-id one "$id" /wasmtest.wasm echo here
    end_guest
    prints hello guest -- echo hello
}

purge_of_the_package_leaves_nothing() {
    dpkg --purge containerd-wasmtimed
    status_is 4 systemctl status $unit
    prints "" find /etc /usr /var/cache /var/lib/systemd /run -name '*wasmtime*' -not -path '/run/containerd/*'
}
