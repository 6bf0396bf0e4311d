//! Which shim, image and guest program a case runs with; named by tests and benches, read by `containerd` and `containers`.

use std::path::PathBuf;

/// A containerd runtime under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The product: `containerd-shim-wasmtime-v1`.
    Wasmtime,
    /// The product's node daemon, `containerd-wasmtimed`, by its thin shim.
    Wasmtimed,
    /// The first of them with a guest that is a component: the same program under the same name.
    WasmtimeComponent,
    /// The second with that guest.
    WasmtimedComponent,
    /// The first of them with a native program, which runc's shim runs for it.
    WasmtimeLinux,
    /// The second with that program.
    WasmtimedLinux,
    /// The example engine whose guest is a plain async Rust function, with the same commands as the wasm guest.
    Native,
    /// The example shim with an interpreter as its engine, and the same wasm guest.
    Wasmi,
    /// The example node daemon with that engine, by its thin shim.
    Wasmid,
    /// runc with the guest compiled natively: it shows that the tests are right.
    Runc,
    /// The benches' shim that does nothing.
    Floor,
}

/// An image the fixture can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// A plain Linux image with the wasm guest in its rootfs.
    Wasmtest,
    /// The same image with the guest as a component.
    WasmtestComponent,
    /// The same guest in a wasm OCI image.
    Wasm(WasmImage),
    /// The guest as a static Linux program.
    WasmtestNative,
    /// A plain Linux image with the other guests, most of them components.
    Wasmguests,
    /// The same with the large ones, among them a program that nobody here wrote, as a module and as a component.
    Resvg,
}

/// A wasm OCI image: what its config and its layers are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasmImage {
    /// The standard config, `application/wasm`.
    Oci,
    /// The same within an index.
    OciIndex,
    /// The standard config, `application/vnd.wasm.content.layer.v1+wasm`.
    OciContent,
    /// The standard config, `application/vnd.bytecodealliance.wasm.component.layer.v0+wasm`.
    OciComponent,
    /// `application/vnd.wasm.config.v0+json`, `application/wasm`.
    Artifact,
    /// `application/vnd.wasm.config.v0+json`, `application/vnd.wasm.content.layer.v1+wasm`.
    ArtifactContent,
    /// `application/vnd.wasm.config.v0+json`, `application/vnd.bytecodealliance.wasm.component.layer.v0+wasm`.
    ArtifactComponent,
    /// The standard config, several layers: `wasmtest.wasm` and `other.wasm`.
    Several,
}

impl WasmImage {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Oci,
        Self::OciIndex,
        Self::OciContent,
        Self::OciComponent,
        Self::Artifact,
        Self::ArtifactContent,
        Self::ArtifactComponent,
        Self::Several,
    ];

    /// Whether its config is of the type that containerd's own clients read.
    pub fn has_standard_config(self) -> bool {
        !matches!(self, Self::Artifact | Self::ArtifactContent | Self::ArtifactComponent)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Oci => "docker.io/library/wasmtest-oci:latest",
            Self::OciIndex => "docker.io/library/wasmtest-oci-index:latest",
            Self::OciContent => "docker.io/library/wasmtest-oci-content:latest",
            Self::OciComponent => "docker.io/library/wasmtest-oci-component:latest",
            Self::Artifact => "docker.io/library/wasmtest-artifact:latest",
            Self::ArtifactContent => "docker.io/library/wasmtest-artifact-content:latest",
            Self::ArtifactComponent => "docker.io/library/wasmtest-artifact-component:latest",
            Self::Several => "docker.io/library/wasmtest-several:latest",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Oci => "wasmtest-oci.tar",
            Self::OciIndex => "wasmtest-oci-index.tar",
            Self::OciContent => "wasmtest-oci-content.tar",
            Self::OciComponent => "wasmtest-oci-component.tar",
            Self::Artifact => "wasmtest-artifact.tar",
            Self::ArtifactContent => "wasmtest-artifact-content.tar",
            Self::ArtifactComponent => "wasmtest-artifact-component.tar",
            Self::Several => "wasmtest-several.tar",
        }
    }
}

impl Runtime {
    /// The name for `ctr --runtime`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasmtime | Self::WasmtimeComponent | Self::WasmtimeLinux => {
                "io.containerd.wasmtime.v1"
            }
            Self::Wasmtimed | Self::WasmtimedComponent | Self::WasmtimedLinux => {
                "io.containerd.wasmtimed.v1"
            }
            Self::Native => "io.containerd.native.v1",
            Self::Wasmi => "io.containerd.wasmi.v1",
            Self::Wasmid => "io.containerd.wasmid.v1",
            Self::Runc => "io.containerd.runc.v2",
            Self::Floor => "io.containerd.floor.v1",
        }
    }

    /// The shim's file name, as containerd derives it from the runtime's name.
    pub fn shim(self) -> &'static str {
        match self {
            Self::Wasmtime | Self::WasmtimeComponent | Self::WasmtimeLinux => {
                "containerd-shim-wasmtime-v1"
            }
            Self::Wasmtimed | Self::WasmtimedComponent | Self::WasmtimedLinux => {
                "containerd-shim-wasmtimed-v1"
            }
            Self::Native => "containerd-shim-native-v1",
            Self::Wasmi => "containerd-shim-wasmi-v1",
            Self::Wasmid => "containerd-shim-wasmid-v1",
            Self::Runc => "containerd-shim-runc-v2",
            Self::Floor => "containerd-shim-floor-v1",
        }
    }

    /// The program of the workspace that is this shim; none for runc, which the system brings.
    pub fn program_file(self) -> Option<PathBuf> {
        let name = match self {
            Self::Runc => return None,
            Self::Native => "engine-native",
            _ => self.shim(),
        };
        Some(target_dir().join("release").join(name))
    }

    /// The image with a guest this runtime can run.
    pub fn image(self) -> Image {
        match self {
            Self::Runc | Self::WasmtimeLinux | Self::WasmtimedLinux => Image::WasmtestNative,
            Self::WasmtimeComponent | Self::WasmtimedComponent => Image::WasmtestComponent,
            Self::Wasmtime
            | Self::Wasmtimed
            | Self::Native
            | Self::Wasmi
            | Self::Wasmid
            | Self::Floor => Image::Wasmtest,
        }
    }

    /// Where the guest lies in that image.
    pub fn guest(self) -> &'static str {
        match self.image() {
            Image::WasmtestNative => "/wasmtest",
            _ => "/wasmtest.wasm",
        }
    }

    /// A second program of that image.
    pub fn other_guest(self) -> &'static str {
        match self.image() {
            Image::WasmtestNative => "/other",
            _ => "/other.wasm",
        }
    }

    /// The file that is the guest in that image.
    pub fn guest_file(self) -> PathBuf {
        let name = match self.image() {
            Image::WasmtestNative => "wasmtest-native",
            Image::WasmtestComponent => "wasmtest.component.wasm",
            _ => "wasmtest.wasm",
        };
        target_dir().join("guests").join(name)
    }

    /// Whether guests are wasm.
    pub fn is_wasm(self) -> bool {
        let shims = [Self::Wasmtime, Self::WasmtimeComponent, Self::Wasmi];
        let by_daemon = [Self::Wasmtimed, Self::WasmtimedComponent, Self::Wasmid];
        shims.contains(&self) || by_daemon.contains(&self)
    }

    /// Whether guests have the files of their container. The interpreter's example leaves them out.
    pub fn has_files(self) -> bool {
        !matches!(self, Self::Wasmi | Self::Wasmid)
    }

    /// Whether guests are OS processes that runc runs.
    pub fn runs_by_runc(self) -> bool {
        matches!(self, Self::Runc | Self::WasmtimeLinux | Self::WasmtimedLinux)
    }

    /// Whether all its sandboxes are served by a daemon that must run before.
    pub fn needs_daemon(self) -> bool {
        matches!(
            self,
            Self::Wasmtimed | Self::WasmtimedComponent | Self::WasmtimedLinux | Self::Wasmid
        )
    }

    /// Whether the socket file goes when the shim was killed. runc's `delete` leaves it to the next start.
    pub fn removes_socket_of_killed_shim(self) -> bool {
        self != Self::Runc
    }

    /// Whether the shim leaves when several clients delete its last container at once. runc's takes a `Shutdown` that overtakes its
    /// own delete for one that came too early, and stays for ever: <https://github.com/containerd/containerd/pull/12393>.
    pub fn leaves_when_deleted_by_several(self) -> bool {
        self != Self::Runc
    }

    /// Signals the guest program itself handles or ignores. Rust's startup code, which a wasm guest
    /// has no use for, ignores PIPE and looks for stack overflows at BUS and SEGV.
    pub fn handled_signals(self) -> &'static [i32] {
        match self {
            _ if self.runs_by_runc() => &[7, 11, 13],
            _ => &[],
        }
    }

    /// Flags for `ctr run` that give a program without handlers the default action of every signal.
    pub fn default_signal_flags(self) -> &'static [&'static str] {
        match self {
            // The first process of a pid namespace is deaf to signals it has no handler for, so it must not
            // be the first. runc resolves the path: its own namespace is the host's.
            _ if self.runs_by_runc() => &["--with-ns", "pid:/proc/self/ns/pid"],
            _ => &[],
        }
    }
}

impl Image {
    /// The name the image has in containerd.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasmtest => "docker.io/library/wasmtest:latest",
            Self::WasmtestComponent => "docker.io/library/wasmtest-component:latest",
            Self::Wasm(image) => image.name(),
            Self::WasmtestNative => "docker.io/library/wasmtest-native:latest",
            Self::Wasmguests => "docker.io/library/wasmguests:latest",
            Self::Resvg => "docker.io/library/resvg:latest",
        }
    }

    /// Whether its layers are bare wasm.
    pub fn is_wasm_image(self) -> bool {
        matches!(self, Self::Wasm(_))
    }

    /// The tar that `make images` writes.
    pub fn tar(self) -> PathBuf {
        let file = match self {
            Self::Wasmtest => "wasmtest.tar",
            Self::WasmtestComponent => "wasmtest-component.tar",
            Self::Wasm(image) => image.file(),
            Self::WasmtestNative => "wasmtest-native.tar",
            Self::Wasmguests => "wasmguests.tar",
            Self::Resvg => "resvg.tar",
        };
        target_dir().join("images").join(file)
    }
}

/// The program of the node daemon with an interpreter.
pub fn interpreter_daemon_file() -> PathBuf {
    target_dir().join("release/containerd-wasmid")
}

/// The node daemon's program.
pub fn daemon_file() -> PathBuf {
    target_dir().join("release/containerd-wasmtimed")
}

/// The folder of the guests' sources.
pub fn guest_sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guests")
}

/// The workspace's target folder: `CARGO_TARGET_DIR`, or `target` beside the workspace's manifest.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}
