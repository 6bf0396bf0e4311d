# What a container sees of files, and what the host sees of the container's.

hello_is_printed() {
    # The README's line.
    prints "Hello from wasm!" ctr run --rm --runtime="$runtime" $image "$id"
}

exit_status_is_the_guests() {
    status_is 7 guest -- exit 7
    status_is 134 guest -- trap
}

directory_is_bound() {
    mkdir data
    guest --mount "type=bind,src=$PWD/data,dst=/data,options=rbind:rw" -- write /data/note "from the guest"
    prints "from the guest" cat data/note
}

single_file_is_bound() {
    echo "192.0.2.7 smoke" >hosts
    local volume="type=bind,src=$PWD/hosts,dst=/etc/hosts,options=rbind:ro"
    prints "192.0.2.7 smoke" guest --mount "$volume" -- cat /etc/hosts
}

read_only_volume_refuses_writes() {
    mkdir data
    echo before >data/note
    local volume="type=bind,src=$PWD/data,dst=/data,options=rbind:ro"
    prints before guest --mount "$volume" -- cat /data/note
    status_is 1 guest --mount "$volume" -- write /data/other after
    prints note ls data
}

nested_volumes_are_seen_in_their_parent() {
    mkdir -p outer inner
    echo o >outer/of-the-outer
    echo i >inner/of-the-inner
    echo f >file
    local volumes=(--mount "type=bind,src=$PWD/outer,dst=/data,options=rbind:rw"
        --mount "type=bind,src=$PWD/inner,dst=/data/deep/inner,options=rbind:rw"
        --mount "type=bind,src=$PWD/file,dst=/data/file,options=rbind:ro")
    prints $'deep\nfile\nof-the-outer' guest "${volumes[@]}" -- ls /data
    prints i guest "${volumes[@]}" -- cat /data/deep/inner/of-the-inner
    prints f guest "${volumes[@]}" -- cat /data/file
}

# Overlayfs of this kernel ignores the flag of a single write: it would go to the begin.
appends_to_the_root_file_system_go_to_the_end() {
    prints abc guest -- append /file a b c
    prints abc ctr run --rm --runtime="$runtime" $guests "$id" /wasmtest.component.wasm append /file a b c
}

tmpfs_is_empty_and_writable() {
    local volume="type=tmpfs,dst=/scratch,options=size=4m"
    prints "" guest --mount "$volume" -- ls /scratch
    prints "" guest --mount "$volume" -- fill /scratch/some 1024
    # It is as large as it says.
    status_is 1 guest --mount "$volume" -- fill /scratch/more 8192
}

# `ctr run` of containerd 1.6 has no option for the user, so it is the image's.
file_of_user_1000_belongs_to_it() {
    mkdir -m 777 shared
    mkdir -m 700 roots
    local tree=$here/../.. image_of_user=docker.io/library/user-$id:latest
    "$tree/target/release/oci-image" linux --name "$image_of_user" --user 1000:1000 --entrypoint /wasmtest.wasm \
        --file "$tree/target/guests/wasmtest.wasm:/wasmtest.wasm:755" --output image.tar
    ctr image import image.tar
    local run=(ctr run --rm --runtime="$runtime" --mount "type=bind,src=$PWD/shared,dst=/shared,options=rbind:rw"
        --mount "type=bind,src=$PWD/roots,dst=/roots,options=rbind:rw" "$image_of_user" "$id" /wasmtest.wasm)
    "${run[@]}" write /shared/note mine
    prints 1000:1000 stat --format %u:%g shared/note
    status_is 1 "${run[@]}" write /roots/note mine
    prints "" ls roots
    ctr image delete "$image_of_user"
}
