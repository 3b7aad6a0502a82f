//! A connected peer, as callers on any thread see it.
//!
//! In: calls of this node. Out: channels to the peer, and the streams of the calls. Must not know: how calls run there.
//! `Send + Sync`; only the tickets for new channels come from the node's thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gvm_wire::node_capnp::session;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::answers;
use super::calls::Calls;
use super::channel::Channel;
use super::dialling::reach;
use crate::base::error::{Code, Error, Result};
use crate::base::node::NodeInfo;
use crate::base::threads;
use crate::call::stdio::Stdio;
use crate::call::{Call, Outcome};
use crate::wire::bulk::Ticket;
use crate::wire::channel;
use crate::wire::tls::Tls;

/// How long to wait before a channel that could not be opened is tried again. Meanwhile calls use the connection of the
/// session.
const AGAIN: Duration = Duration::from_secs(10);

/// The most threads that wait for a ticket.
const WAITING: usize = 64;

/// One connection to a peer.
pub struct Line {
    /// Differs from every other line of this process.
    pub number: u64,
    pub info: NodeInfo,
    /// The streams of the calls that this node runs there.
    pub calls: Calls,
    /// Cancelled when the connection has ended.
    pub gone: CancellationToken,
    tls: Tls,
    tickets: mpsc::Sender<oneshot::Sender<Result<Ticket>>>,
    shared: Mutex<Shared>,
}

/// The channel of all callers that do not wait on their thread.
enum Shared {
    Closed { again: Option<Instant> },
    Opening,
    Open(Channel),
}

impl Line {
    /// Creates the line of a connection whose session on the other side is this one. Must be called on the node's thread.
    pub fn new(info: NodeInfo, calls: Calls, session: session::Client, tls: Tls) -> Arc<Line> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (tickets, mut asked) = mpsc::channel::<oneshot::Sender<Result<Ticket>>>(WAITING);
        let name = info.name.clone();
        // Ends with the line.
        tokio::task::spawn_local(async move {
            while let Some(mut reply) = asked.recv().await {
                let (session, name) = (session.clone(), name.clone());
                tokio::task::spawn_local(async move {
                    tokio::select! {
                        ticket = answers::channel_ticket(&session, &name) => drop(reply.send(ticket)),
                        () = reply.closed() => {}
                    }
                });
            }
        });
        Arc::new(Line {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            info,
            calls,
            gone: CancellationToken::new(),
            tls,
            tickets,
            shared: Mutex::new(Shared::Closed { again: None }),
        })
    }

    /// Opens a channel that this thread drives, on the current runtime.
    ///
    /// # Errors
    /// `NODE_DOWN`, `AUTH_FAILED`, `OVERLOADED`.
    pub async fn open(&self) -> Result<Channel> {
        self.dial(Some(std::thread::current().id())).await
    }

    async fn dial(&self, driver: Option<std::thread::ThreadId>) -> Result<Channel> {
        let name = &self.info.name;
        let gone = || Error::new(Code::NodeDown, format!("the connection to node `{name}` has ended"));
        let (reply, ticket) = oneshot::channel();
        self.tickets.send(reply).await.map_err(|_| gone())?;
        let ticket = ticket.await.map_err(|_| gone())??;
        let (mut transport, _) = reach(&self.info, &self.tls).await?;
        channel::open(&mut transport, ticket).await.map_err(|error| {
            Error::new(Code::NodeDown, format!("cannot open a channel to node `{name}`: {error}"))
        })?;
        Ok(Channel::new(transport, name.clone(), driver, self.gone.clone()))
    }

    /// Returns the channel of all callers that do not wait on their thread. If there is none, begins to open it if `begin`
    /// is set.
    pub fn shared(self: &Arc<Line>, begin: bool) -> Option<Channel> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Shared::Open(channel) if channel.is_open() => return Some(channel.clone()),
            Shared::Opening => return None,
            _ if !begin => return None,
            Shared::Closed { again: Some(again) } if *again > Instant::now() => return None,
            Shared::Open(_) | Shared::Closed { .. } => {}
        }
        if self.gone.is_cancelled() {
            return None;
        }
        let threads = threads::rpc().ok()?;
        *shared = Shared::Opening;
        let line = Arc::downgrade(self);
        // Ends with the line.
        threads.spawn(async move {
            let Some(this) = line.upgrade() else { return };
            let opened = this.dial(None).await;
            let (state, channel) = match opened {
                Ok(channel) => (Shared::Open(channel.clone()), Some(channel)),
                Err(error) => {
                    tracing::debug!(peer = %this.info.name, "cannot open a channel: {error}");
                    (Shared::Closed { again: Some(Instant::now() + AGAIN) }, None)
                }
            };
            *this.shared.lock().unwrap_or_else(PoisonError::into_inner) = state;
            drop(this);
            if let Some(channel) = channel {
                std::future::poll_fn(|cx| channel.poll(cx)).await;
            }
        });
        None
    }

    /// Runs a call over a channel of this line, with its streams. Dropping the future cancels the call.
    pub async fn call(&self, channel: &Channel, call: Call, stdio: Stdio) -> Outcome {
        let Stdio { output, input, .. } = stdio;
        let has_input = input.is_some();
        let open = self.calls.open(call.id, output.clone(), input);
        let answered = channel.call(call, has_input).await;
        drop(open);
        let (outcome, chunks) = match answered {
            Ok(answered) => answered,
            Err(error) => return Outcome::failed(error),
        };
        match answers::push_output(&output, chunks).await {
            Ok(()) => outcome,
            Err(error) => Outcome::failed(error),
        }
    }
}
