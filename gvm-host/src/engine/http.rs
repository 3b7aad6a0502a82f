//! A request in an instance of a module that serves HTTP.
//!
//! In: a request as hyper has read it, an instance. Out: the head of the guest's response, whose body arrives while the guest
//! runs; and how the guest ended. Must not know: connections, and how many instances there are.

use std::pin::pin;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::instance::{Body, Instance, Stop, gone};
use crate::base::error::{Effect, Result};
use crate::base::limits::Limits;

/// The body of a response. Its error means that the guest did not finish it.
pub type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The guest's end of one response.
pub struct Answering(oneshot::Sender<Result<Response<HyperOutgoingBody>, ErrorCode>>);

/// The head of a response that a guest will send.
pub struct Answer(oneshot::Receiver<Result<Response<HyperOutgoingBody>, ErrorCode>>);

/// What a guest answered.
pub enum Answered {
    Response(Response<ResponseBody>),
    /// The guest reported an error, here in words.
    Failed(String),
    /// The guest ended without an answer.
    Nothing,
}

/// Creates both ends of a response.
pub fn answer() -> (Answering, Answer) {
    let (to, from) = oneshot::channel();
    (Answering(to), Answer(from))
}

impl Answer {
    /// Waits for the head of the response.
    pub async fn head(self) -> Answered {
        match self.0.await {
            Ok(Ok(response)) => {
                Answered::Response(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Ok(Err(code)) => Answered::Failed(code.to_string()),
            Err(_) => Answered::Nothing,
        }
    }
}

impl Instance {
    /// Runs a request to the end of the guest's function, which may be after the end of the response. The caller must not
    /// use the instance again after an error, or after it dropped the future.
    ///
    /// # Errors
    /// `TRAP`, `GUEST_EXIT` and `LIMIT_EXCEEDED`.
    pub async fn serve(
        &mut self,
        request: Request<Incoming>,
        answering: Answering,
        limits: &Limits,
    ) -> Result<()> {
        let _ticking = self.module.clocked.tick();
        let ran = pin!(self.run_handler(request, answering)).await;
        ran.map_err(|stop| stop.explain(&mut self.store, limits).with_effect(Effect::RanAndFailed))
    }

    async fn run_handler(&mut self, request: Request<Incoming>, answering: Answering) -> Result<(), Stop> {
        let Instance { module, store, body, .. } = self;
        let (Body::Component(instance), Some(index)) = (body, module.handler()) else { return Err(gone()) };
        type Params = (Resource<HostIncomingRequest>, Resource<HostResponseOutparam>);
        let handle = instance.get_typed_func::<Params, ()>(&mut *store, index)?;
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let outparam = http.new_response_outparam(answering.0)?;
        pin!(handle.call_async(&mut *store, (request, outparam))).await?;
        Ok(())
    }
}
