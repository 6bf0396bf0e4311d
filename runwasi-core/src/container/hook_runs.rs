//! Runs of a container's hooks, on the blocking pool.
//!
//! ```text
//! begin ── succeeded ─▶ the container exists ── deleted ─▶ `poststop` hooks
//!     └─ a hook failed, or the caller has gone: `poststop` hooks at once
//! ```
//!
//! The cgroup is removed before them: `poststop` hooks expect that the container is gone.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use crate::{
    blocking::{self, blocking},
    bundle::hooks::{self, ContainerState, HookError, HooksConfig},
    cgroups::KernelLimits,
};

/// Effects of a creation whose hooks have begun. Dropping it undoes them, as after a call whose
/// caller has gone.
pub(super) struct Begun(Option<Effects>);

struct Effects {
    bundle: PathBuf,
    kernel_limits: Option<Arc<KernelLimits>>,
}

impl Effects {
    /// Blocks. Each hook is limited by its own timeout only, as the hooks before it.
    fn undo(self) {
        if let Some(kernel_limits) = self.kernel_limits {
            kernel_limits.release();
        }
        hooks::stopped(&self.bundle, None);
    }
}

impl Begun {
    /// Leaves the effects to the container, which now exists.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Some(effects) = self.0.take() else { return };
        match Handle::try_current() {
            // Hooks may take long: not on a worker of the runtime.
            Ok(runtime) => blocking::eventually(&runtime, move || effects.undo()),
            Err(_) => effects.undo(),
        }
    }
}

/// Runs the hooks before the start. If one fails, what they have begun is ended before the answer.
// If the caller is cancelled, the hooks still run to their end.
pub(super) async fn begin(
    hooks: Arc<HooksConfig>,
    state: ContainerState,
    bundle: PathBuf,
    kernel_limits: Option<Arc<KernelLimits>>,
) -> Result<Begun, HookError> {
    let effects = Effects { bundle, kernel_limits };
    let work = move || match hooks.create(state) {
        Ok(()) => Ok(Begun(Some(effects))),
        Err(error) => {
            effects.undo();
            Err(error)
        }
    };
    run(work).await
}

/// Runs the hooks after the start.
pub(super) async fn started(
    hooks: Arc<HooksConfig>,
    state: ContainerState,
) -> Result<(), HookError> {
    run(move || hooks.started(state)).await
}

/// Runs the hooks after the end of a container. They have `patience` together.
pub(super) async fn ended(bundle: PathBuf, patience: Option<Duration>) {
    let deadline = patience.map(|patience| Instant::now() + patience);
    let work = move || {
        hooks::stopped(&bundle, deadline);
        Ok(())
    };
    // An error means that this process is ending. Then `bootstrap::delete` does the same work.
    let _: Result<(), ()> = blocking(work, drop).await;
}

// Not by `blocking`: a panic is no error of a hook.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HookError> + Send + 'static,
) -> Result<T, HookError> {
    let running = blocking::start(&Handle::current(), work)?;
    match running.result().await {
        Ok(result) => result,
        // The caller's request answers the panic with an error (`panics`).
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down and drops this future, too.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs, path::Path};

    use super::*;

    fn hooks(create: &str) -> Arc<HooksConfig> {
        let hook =
            |script: &str| format!(r#"[{{"path":"/bin/sh","args":["sh","-c","{script}"]}}]"#);
        let json = format!(
            r#"{{"createRuntime":{},"poststop":{}}}"#,
            hook(create),
            hook("cat >/dev/null; echo after >>ran")
        );
        Arc::new(HooksConfig::from_spec(&serde_json::from_str(&json).unwrap()).unwrap())
    }

    async fn begun(hooks: Arc<HooksConfig>, bundle: &Path) -> Result<Begun, HookError> {
        let state = ContainerState::new("c", 7, bundle, &HashMap::new());
        begin(hooks, state, bundle.to_owned(), None).await
    }

    fn ran(bundle: &Path) -> String {
        fs::read_to_string(bundle.join("ran")).unwrap_or_default()
    }

    #[tokio::test]
    async fn failed_hook_before_the_start_is_followed_by_those_after_the_end() {
        let bundle = tempfile::tempdir().unwrap();
        assert!(begun(hooks("exit 1"), bundle.path()).await.is_err());
        assert_eq!(ran(bundle.path()), "after\n");
        ended(bundle.path().to_owned(), None).await;
        assert_eq!(ran(bundle.path()), "after\n", "a second time");
    }

    #[tokio::test]
    async fn hooks_after_the_end_wait_for_the_end_of_a_container_that_exists() {
        let bundle = tempfile::tempdir().unwrap();
        begun(hooks("exit 0"), bundle.path()).await.unwrap().keep();
        assert_eq!(ran(bundle.path()), "");
        ended(bundle.path().to_owned(), None).await;
        assert_eq!(ran(bundle.path()), "after\n");
    }

    #[tokio::test]
    async fn hooks_after_the_end_run_for_a_creation_that_is_given_up() {
        let bundle = tempfile::tempdir().unwrap();
        drop(begun(hooks("exit 0"), bundle.path()).await.unwrap());
        while ran(bundle.path()).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
