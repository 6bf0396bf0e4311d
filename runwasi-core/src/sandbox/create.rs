//! Creation of a container in a sandbox.

use std::{fmt::Display, path::PathBuf, sync::Arc};

use super::{Reservation, Sandbox, error::SandboxError, forget, native::NativePlan};
use crate::{
    blocking::blocking,
    bundle::{
        allowed_roots,
        config::{Config, annotations},
    },
    container::{Container, Created, error::CreateError, request::CreateRequest},
    id::Id,
    observe::{self, Step, Subject},
    traces::start::StartTrace,
};

/// Result of [`Sandbox::create`].
pub(crate) enum Creation {
    /// The container exists. The pid is that of its init.
    Done(u32),
    /// The container is native, and its delegate is to create it.
    Native(Box<NativePlan>),
}

impl Sandbox {
    /// Creates a container. Dropping the future undoes what was done.
    pub(crate) async fn create(
        &self,
        mut request: CreateRequest,
    ) -> Result<Creation, SandboxError> {
        let id = request.id.clone();
        let thin = self.shared.thin_starts.take(&id);
        let trace = StartTrace::begin(thin, request.parent.as_ref());
        request.trace = trace.clone();
        let bundle = request.bundle.clone();
        let created = self.create_container(request, &trace).await;
        if let Err(error) = &created {
            trace.failed(error);
            self.tell_refused(&id, bundle, error).await;
        }
        created
    }

    async fn create_container(
        &self,
        request: CreateRequest,
        trace: &StartTrace,
    ) -> Result<Creation, SandboxError> {
        let id = request.id.clone();
        self.check_ready(&request).await?;
        // Before the creation: of two concurrent calls for one id, one must fail. An error or a
        // drop frees the id again.
        let reservation = Reservation::take(&self.shared, &id)?;
        // Weak: the driver holds this callback and lives as long as the process's handles, which
        // are in `shared`. A strong reference would close a cycle.
        let shared = Arc::downgrade(&self.shared);
        let deleted = id.clone();
        let on_deleted = Box::new(move || forget(&shared, &deleted));
        let files = self.pod_files();
        let bundle = request.bundle.clone();
        let options = request.runc_options.clone();
        match Container::create(&self.shared.host, request, files, on_deleted).await {
            Ok(Created::Guest(container)) => {
                let pid = container.init.info().pid;
                reservation.fill(container);
                Ok(Creation::Done(pid))
            }
            Ok(Created::Native(program)) => {
                let sandbox = self.clone();
                let trace = trace.clone();
                let plan = NativePlan { sandbox, id, reservation, trace, bundle, program, options };
                Ok(Creation::Native(Box::new(plan)))
            }
            Err(source) => Err(SandboxError::Create { id, source }),
        }
    }

    /// Logs a creation that has failed.
    pub(crate) async fn tell_refused(
        &self,
        id: &Id,
        bundle: PathBuf,
        error: &(dyn Display + Sync),
    ) {
        let host = &self.shared.host;
        let roots = host.bundle_roots.clone();
        // Read anew: the creation may have failed before its annotations were known. Not outside of
        // the allowed directories.
        let read = move || match roots.is_empty() || allowed_roots::check(&bundle, &roots).is_ok() {
            true => Ok(annotations(&bundle)),
            false => Err(()),
        };
        let annotations = blocking(read, drop).await.unwrap_or_default();
        let subject = Subject::new((&host.namespace, &host.sandbox), id, &annotations);
        observe::refused(&subject, None, Step::Create, error);
    }

    /// Checks that the sandbox takes containers.
    async fn check_ready(&self, request: &CreateRequest) -> Result<(), SandboxError> {
        let Err(refusal) = self.is_ready_for(&request.id) else { return Ok(()) };
        // A bundle that has lost its `config.json` makes `start` serve a managed sandbox, which no
        // client has created. The error of the configuration is then the one to report.
        let bundle = request.bundle.clone();
        let load = move || Config::load(&bundle).map_err(Some);
        match blocking(load, |_lost| None).await {
            Err(Some(wrong)) => Err(SandboxError::Create {
                id: request.id.clone(),
                source: CreateError::Config(wrong),
            }),
            Ok(_) | Err(None) => Err(refusal),
        }
    }
}
