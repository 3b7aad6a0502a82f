//! The streams of the calls that this node runs on one peer.
//!
//! In: the peer's requests, by call id. Out: reads and writes on the pipes of each call. An id is valid only
//! inside its session, and only while its call runs. Must not know: what the calls do.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capnp::Error as Failure;
use gvm_wire::node_capnp::streams;
use uuid::Uuid;

use crate::base::limits;
use crate::call::streams::{Closed, Input, Output};
use crate::wire;
use crate::wire::bulk::Ticket;

/// The running calls of one session. Clones share them; `Send + Sync`.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<HashMap<Uuid, Pipes>>>);

#[derive(Clone)]
struct Pipes {
    output: Output,
    input: Option<Input>,
}

/// The entry of a running call; after it is dropped, requests of the peer for this call fail.
pub struct Open {
    calls: Calls,
    id: Uuid,
}

impl Calls {
    /// Registers the streams of a call until the guard is dropped.
    pub fn open(&self, id: Uuid, output: Output, input: Option<Input>) -> Open {
        self.pipes().insert(id, Pipes { output, input });
        Open { calls: self.clone(), id }
    }

    fn pipes(&self) -> MutexGuard<'_, HashMap<Uuid, Pipes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: Uuid) -> Result<Pipes, Failure> {
        let pipes = self.pipes().get(&id).cloned();
        pipes.ok_or_else(|| Failure::failed(format!("this session has no running call {id}")))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.calls.pipes().remove(&self.id);
    }
}

/// The capability through which the peer reaches the streams.
pub struct StreamsServer {
    pub calls: Calls,
    /// Issues tickets for the contents that this side holds.
    pub ticket: Box<dyn Fn() -> crate::base::error::Result<Ticket>>,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

impl streams::Server for StreamsServer {
    async fn output(
        self: Rc<Self>,
        params: streams::OutputParams,
        mut results: streams::OutputResults,
    ) -> Result<(), Failure> {
        let params = params.get()?;
        let id = wire::call::read_id(params.get_call()).map_err(failed)?;
        let chunk = wire::call::read_chunk(params.get_chunk()?).map_err(failed)?;
        // The late answer is how a slow reader here slows the guest there.
        match self.calls.get(id)?.output.push(chunk).await {
            Ok(()) => Ok(()),
            Err(Closed::Failed(broken)) => {
                results.get().set_broken(wire::call::write_broken(Some(broken)));
                Ok(())
            }
            Err(limit) => Err(failed(limit)),
        }
    }

    async fn input(
        self: Rc<Self>,
        params: streams::InputParams,
        mut results: streams::InputResults,
    ) -> Result<(), Failure> {
        let params = params.get()?;
        let id = wire::call::read_id(params.get_call()).map_err(failed)?;
        let most = (params.get_most() as usize).min(limits::INPUT_CHUNK);
        if let Some(input) = self.calls.get(id)?.input {
            match input.pull(most).await {
                Ok(data) => results.get().set_data(&data),
                Err(broken) => results.get().set_broken(wire::call::write_broken(Some(broken))),
            }
        }
        Ok(())
    }

    async fn bulk(
        self: Rc<Self>,
        _: streams::BulkParams,
        mut results: streams::BulkResults,
    ) -> Result<(), Failure> {
        results.get().set_ticket(&(self.ticket)().map_err(failed)?);
        Ok(())
    }
}
