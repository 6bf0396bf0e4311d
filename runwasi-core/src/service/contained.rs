//! Containment of panics: a call that panics fails with `INTERNAL`.
//!
//! ttrpc alone would leave the client of such a call without a reply.

use std::collections::HashMap;

use async_trait::async_trait;
use containerd_shim_protos::ttrpc::{
    self, Code, Request, Response,
    r#async::{MethodHandler, Service, TtrpcContext},
};

use crate::{panics, sanitize};

type Handler = Box<dyn MethodHandler + Send + Sync>;

/// Contains the panics of every method of `services`.
pub fn contained(services: HashMap<String, Service>) -> HashMap<String, Service> {
    services.into_iter().map(|(name, service)| (name, contain_all(service))).collect()
}

fn contain_all(service: Service) -> Service {
    let contain = |(name, handler)| (name, Box::new(Contained(handler)) as Handler);
    Service { methods: service.methods.into_iter().map(contain).collect(), ..service }
}

struct Contained(Handler);

#[async_trait]
impl MethodHandler for Contained {
    async fn handler(&self, context: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
        match panics::caught(self.0.handler(context, request)).await {
            Ok(answer) => answer,
            Err(message) => Ok(panicked(&message)),
        }
    }
}

fn panicked(message: &str) -> Response {
    // Sanitized: the message of a panic may quote untrusted input.
    let text = sanitize::text(&format!("the call panicked: {message}"));
    let mut response = Response::default();
    response.set_status(ttrpc::get_status(Code::INTERNAL, text));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    #[async_trait]
    impl MethodHandler for Panics {
        async fn handler(&self, _: TtrpcContext, request: Request) -> ttrpc::Result<Response> {
            tokio::task::yield_now().await;
            assert!(request.payload.is_empty(), "on purpose");
            Ok(Response::default())
        }
    }

    async fn answer(payload: &[u8]) -> Response {
        let methods = HashMap::from([("Method".to_owned(), Box::new(Panics) as Handler)]);
        let service = Service { methods, streams: HashMap::new() };
        let services = contained(HashMap::from([("Service".to_owned(), service)]));
        let context = TtrpcContext::default();
        let request = Request { payload: payload.to_vec(), ..Request::default() };
        services["Service"].methods["Method"].handler(context, request).await.unwrap()
    }

    #[tokio::test]
    async fn call_that_panics_is_answered() {
        assert!(answer(b"").await.status().message().is_empty());
        let response = answer(b"x").await;
        assert_eq!(response.status().code(), Code::INTERNAL);
        assert_eq!(response.status().message(), "the call panicked: on purpose");
    }
}
