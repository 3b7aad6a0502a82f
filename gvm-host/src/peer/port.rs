//! The streams of a peer's calls, for any thread of this node.
//!
//! In: output to send and input to request, by call id, from the thread on which a call runs. Out: the peer's answers.
//! The capability of the peer belongs to the node's thread, which serves the requests. Must not know: what runs.

use std::rc::Rc;

use gvm_wire::node_capnp::streams;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::base::limits;
use crate::call::{Broken, Chunk};
use crate::wire;

/// The most requests that wait for the node's thread. Beyond it, guests wait.
const WAITING: usize = 256;

/// The connection was lost, and with it the output that was not consumed yet.
pub struct Lost;

enum Asked {
    Output(Uuid, Chunk, oneshot::Sender<Result<Option<Broken>, Lost>>),
    Input(Uuid, oneshot::Sender<Result<Vec<u8>, Broken>>),
}

/// Reaches the streams of one peer. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Port(mpsc::Sender<Asked>);

impl Port {
    /// Serves requests with these streams, until the last clone is dropped. Must be called on the node's thread.
    pub fn open(streams: streams::Client) -> Port {
        let (ask, mut asked) = mpsc::channel(WAITING);
        let streams = Rc::new(streams);
        tokio::task::spawn_local(async move {
            while let Some(asked) = asked.recv().await {
                let streams = streams.clone();
                tokio::task::spawn_local(async move { answer(&streams, asked).await });
            }
        });
        Port(ask)
    }

    /// Sends what the guest wrote. Returns when the other side has consumed it, or why it takes no more of that stream.
    ///
    /// # Errors
    /// [`Lost`]: the outcome must not say that all is well, although it may still cross on a channel.
    pub async fn output(&self, call: Uuid, chunk: Chunk) -> Result<Option<Broken>, Lost> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Asked::Output(call, chunk, reply)).await.map_err(|_| Lost)?;
        answer.await.unwrap_or(Err(Lost))
    }

    /// Requests input; no bytes mean its end.
    ///
    /// # Errors
    /// Why there is no more.
    pub async fn input(&self, call: Uuid) -> Result<Vec<u8>, Broken> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Asked::Input(call, reply)).await.map_err(|_| Broken::Io)?;
        answer.await.unwrap_or(Err(Broken::Io))
    }
}

/// Asks the peer, unless the guest stops first.
async fn answer(streams: &streams::Client, asked: Asked) {
    match asked {
        Asked::Output(call, chunk, mut reply) => {
            let sent = tokio::select! {
                sent = send_output(streams, call, chunk) => sent,
                () = reply.closed() => return,
            };
            let _ = reply.send(sent.or_else(|error| match error.kind {
                capnp::ErrorKind::Disconnected => Err(Lost),
                _ => Ok(Some(Broken::Pipe)),
            }));
        }
        Asked::Input(call, mut reply) => {
            let input = tokio::select! {
                input = ask_input(streams, call) => input,
                () = reply.closed() => return,
            };
            let _ = reply.send(input.unwrap_or(Err(Broken::Io)));
        }
    }
}

async fn send_output(
    streams: &streams::Client,
    call: Uuid,
    chunk: Chunk,
) -> Result<Option<Broken>, capnp::Error> {
    for part in chunk.data.chunks(limits::OUTPUT_IN_FLIGHT) {
        let mut request = streams.output_request();
        request.get().set_call(call.as_bytes());
        let part = Chunk { stream: chunk.stream, data: part.to_vec() };
        wire::call::write_chunk(&part, request.get().init_chunk());
        let response = request.send().promise.await?;
        if let Some(broken) = wire::call::read_broken(response.get()?.get_broken()) {
            return Ok(Some(broken));
        }
    }
    Ok(None)
}

async fn ask_input(streams: &streams::Client, call: Uuid) -> Result<Result<Vec<u8>, Broken>, capnp::Error> {
    let mut request = streams.input_request();
    request.get().set_call(call.as_bytes());
    request.get().set_most(limits::INPUT_CHUNK as u32);
    let response = request.send().promise.await?;
    let response = response.get()?;
    Ok(match wire::call::read_broken(response.get_broken()) {
        Some(broken) => Err(broken),
        None => Ok(response.get_data()?.to_vec()),
    })
}
