//! The large values of one session: holds them for the other side, and fetches those that the other side
//! holds.
//!
//! In: calls and outcomes, complete or with references to their large parts. Out: the other form. The bulk
//! connection is dialled when it is first needed. Sizes are checked before memory is allocated. Must not
//! know: how calls run.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use gvm_wire::node_capnp::streams;
use tokio::runtime::Handle as Workers;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::callee::Callee;
use super::dialling::reach;
use super::{remote, serving};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::id::NodeInfo;
use crate::base::limits;
use crate::base::threads;
use crate::base::value::{List, Value};
use crate::call::{Args, Call, ModuleRef, Outcome, Target};
use crate::wire;
use crate::wire::bulk::{self, Fetcher, Ticket};
use crate::wire::call::{Apart, check_size};
use crate::wire::large::{self, Blob, Content, Large};
use crate::wire::tls::Tls;
use crate::wire::transport::Transport;

/// How long a ticket is valid.
const TICKET: Duration = Duration::from_secs(10);

/// The most unused tickets over all sessions of a node.
const TICKETS: usize = 256;

/// The contents that one side of a session holds for the other. `Send + Sync`: the bulk thread reads it.
#[derive(Default)]
pub struct Shelf {
    held: Mutex<Held>,
    /// Cancelled when the session ends: nothing is served after that.
    closed: CancellationToken,
}

#[derive(Default)]
struct Held {
    next: u64,
    contents: HashMap<u64, Content>,
    /// The size of each result that waits to be fetched, and their total.
    kept: HashMap<u64, u64>,
    kept_bytes: u64,
}

/// Contents that are held until this is dropped.
pub struct Lent {
    shelf: Arc<Shelf>,
    ids: Vec<u64>,
}

impl Shelf {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops all contents, and ends the bulk connection that serves them.
    fn close(&self) {
        self.closed.cancel();
        let held = std::mem::take(&mut *self.held());
        drop(held);
    }

    fn add(&self, contents: Vec<Content>) -> Vec<Blob> {
        let mut held = self.held();
        let mut add = |content: Content| {
            held.next += 1;
            let blob = content.blob(held.next);
            held.contents.insert(blob.id, content);
            blob
        };
        contents.into_iter().map(&mut add).collect()
    }

    /// Holds contents until the guard is dropped.
    fn lend(self: &Arc<Shelf>, contents: Vec<Content>) -> (Vec<Blob>, Lent) {
        let blobs = self.add(contents);
        let ids = blobs.iter().map(|blob| blob.id).collect();
        (blobs, Lent { shelf: self.clone(), ids })
    }

    /// Holds contents until they are fetched, for [`limits::KEPT_FOR`] at most.
    fn keep(self: &Arc<Shelf>, contents: Vec<Content>) -> Result<Vec<Blob>> {
        let bytes: u64 = contents.iter().map(|content| content.bytes().len() as u64).sum();
        if self.held().kept_bytes + bytes > limits::KEPT {
            let waiting = limits::bytes(self.held().kept_bytes);
            return Err(Error::new(
                Code::Overloaded,
                format!("the node cannot hold this result: {waiting} of results already wait to be fetched"),
            )
            .with_help("make fewer calls with large results at once"));
        }
        let blobs = self.add(contents);
        let mut held = self.held();
        held.kept_bytes += bytes;
        held.kept.extend(blobs.iter().map(|blob| (blob.id, blob.bytes)));
        drop(held);
        let (shelf, ids) = (Arc::downgrade(self), blobs.iter().map(|blob| blob.id).collect::<Vec<_>>());
        threads::bulk()?.spawn(async move {
            tokio::time::sleep(limits::KEPT_FOR).await;
            if let Some(shelf) = shelf.upgrade() {
                shelf.remove(&ids);
            }
        });
        Ok(blobs)
    }

    fn remove(&self, ids: &[u64]) {
        let mut held = self.held();
        let removed: Vec<_> = ids.iter().filter_map(|id| held.contents.remove(id)).collect();
        for id in ids {
            if let Some(bytes) = held.kept.remove(id) {
                held.kept_bytes -= bytes;
            }
        }
        drop(held);
        drop(removed);
    }
}

impl bulk::Holder for Shelf {
    fn get(&self, id: u64) -> Option<Content> {
        self.held().contents.get(&id).cloned()
    }

    fn sent(&self, id: u64) {
        if self.held().kept.contains_key(&id) {
            self.remove(&[id]);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Freeing much memory takes milliseconds, too long for this thread.
        let (shelf, ids) = (self.shelf.clone(), std::mem::take(&mut self.ids));
        match threads::bulk() {
            Ok(thread) => drop(thread.spawn(async move { shelf.remove(&ids) })),
            Err(_) => shelf.remove(&ids),
        }
    }
}

/// What a connection with a ticket serves.
pub enum Holder {
    /// The large values that a session holds.
    Bulk(Weak<Shelf>),
    /// The calls of a session.
    Channel(Weak<Callee>),
}

/// The tickets that a node has issued and that are still unused. Belongs to the RPC thread.
#[derive(Default)]
pub struct Tickets(RefCell<HashMap<Ticket, (Holder, Instant)>>);

impl Tickets {
    /// Issues a ticket.
    ///
    /// # Errors
    /// `OVERLOADED` if too many tickets are unused.
    pub fn issue(&self, holder: Holder) -> Result<Ticket> {
        let mut tickets = self.0.borrow_mut();
        tickets.retain(|_, (_, since)| since.elapsed() < TICKET);
        if tickets.len() >= TICKETS {
            return Err(Error::new(Code::Overloaded, "too many connections are opened at once"));
        }
        let ticket = *Uuid::new_v4().as_bytes();
        tickets.insert(ticket, (holder, Instant::now()));
        Ok(ticket)
    }

    /// Returns what a ticket is for; nothing if it is invalid or has expired.
    fn take(&self, ticket: Ticket) -> Option<Holder> {
        let (holder, since) = self.0.borrow_mut().remove(&ticket)?;
        (since.elapsed() < TICKET).then_some(holder)
    }

    /// Serves large values over a connection that presented a ticket; closes it if the ticket is not for them.
    pub fn take_bulk(&self, ticket: Ticket, mut transport: Transport) {
        let Some(Holder::Bulk(shelf)) = self.take(ticket) else { return };
        let (Some(shelf), Ok(thread)) = (shelf.upgrade(), threads::bulk()) else { return };
        // The task ends with the connection, or with the session.
        thread.spawn(async move {
            let serving = async {
                transport.move_here()?;
                bulk::serve(transport, &*shelf).await
            };
            if let Some(Err(error)) = shelf.closed.run_until_cancelled(serving).await {
                tracing::debug!("a bulk connection ended: {error}");
            }
        });
    }

    /// Serves calls over a connection that presented a ticket; closes it if the ticket is not for them.
    pub fn take_channel(&self, ticket: Ticket, transport: Transport) {
        let Some(Holder::Channel(callee)) = self.take(ticket) else { return };
        let (Some(callee), Ok(threads)) = (callee.upgrade(), threads::rpc()) else { return };
        // The task ends with the connection, or with the session.
        threads.spawn(async move {
            if let Err(error) = serving::serve(callee, transport).await {
                tracing::debug!("a channel ended: {error}");
            }
        });
    }
}

/// The large values of one session, in both directions. Belongs to the RPC thread.
pub struct Bulk {
    shelf: Arc<Shelf>,
    tickets: Rc<Tickets>,
    /// Issues the other side's tickets.
    theirs: streams::Client,
    other: NodeInfo,
    tls: Tls,
    workers: Workers,
    fetcher: tokio::sync::Mutex<Option<Fetcher>>,
    arriving: Rc<Cell<u64>>,
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.shelf.close();
    }
}

/// Bytes that are being fetched; they count until this is dropped.
struct Arriving(Rc<Cell<u64>>, u64);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.set(self.0.get() - self.1);
    }
}

impl Bulk {
    /// Creates the large values of a session with the node `other`.
    pub fn new(
        shelf: Arc<Shelf>,
        tickets: Rc<Tickets>,
        theirs: streams::Client,
        other: NodeInfo,
        tls: Tls,
        workers: Workers,
    ) -> Bulk {
        let (fetcher, arriving) = Default::default();
        Bulk { shelf, tickets, theirs, other, tls, workers, fetcher, arriving }
    }

    /// Moves the large parts out of a call before it is sent. They are held until the guard is dropped.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` if they are too large to cross.
    pub async fn lend(&self, call: &mut Call) -> Result<(Apart, Option<Lent>)> {
        let args = match &mut call.args {
            Args::Values(values) if wire::value::exceeds(values, limits::BULK_FROM) => {
                let values = std::mem::take(values);
                Some(self.away(move || large::checked("arguments", values)).await?)
            }
            Args::Text(text) if text.len() as u64 > limits::BULK_FROM => {
                check_size("arguments", text.len() as u64, limits::VALUE_BYTES)?;
                let text = std::mem::take(text);
                Some(self.away(move || Ok(large::take_text_apart(&text))).await?)
            }
            Args::Argv(argv) => {
                let bytes = argv.iter().map(|arg| arg.len() as u64 + 1).sum();
                check_size("arguments", bytes, limits::ARGV_BYTES)?;
                None
            }
            _ => None,
        };
        let (module, lent) = self.lend_module(&call.target);
        let Some(args) = args else { return Ok((Apart { args: None, module }, lent)) };
        let (shape, contents) = args.contents();
        let (blobs, mut all) = self.shelf.lend(contents);
        if let Some(mut lent) = lent {
            all.ids.append(&mut lent.ids);
        }
        Ok((Apart { args: Some(Large::described(shape, blobs)), module }, Some(all)))
    }

    /// Does the same for a target.
    pub fn lend_module(&self, target: &Target) -> (Option<Blob>, Option<Lent>) {
        match &target.module {
            ModuleRef::Bytes(bytes) if bytes.len() as u64 > limits::BULK_FROM => {
                let (blobs, lent) = self.shelf.lend(vec![Content::Bytes(bytes.clone())]);
                (blobs.first().copied(), Some(lent))
            }
            _ => (None, None),
        }
    }

    /// Fetches the large parts of a received call.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED`, `OVERLOADED` before memory is allocated; `NODE_DOWN`; `BAD_ARGUMENTS` if a part is
    /// invalid.
    pub async fn complete(&self, call: &mut Call, apart: Apart) -> Result<()> {
        self.complete_module(&mut call.target, apart.module).await?;
        if let Some(large) = apart.args {
            call.args = self.fetch_large("arguments", large).await?;
        }
        Ok(())
    }

    /// Does the same for a target.
    ///
    /// # Errors
    /// Those of [`Bulk::complete`].
    pub async fn complete_module(&self, target: &mut Target, apart: Option<Blob>) -> Result<()> {
        let Some(blob) = apart else { return Ok(()) };
        check_size("a module", blob.bytes, limits::MODULE_BYTES)?;
        match self.fetch(&[blob]).await?.pop() {
            Some(List::U8(bytes)) => target.module = ModuleRef::Bytes(bytes.into()),
            _ => {
                return Err(Error::new(
                    Code::BadArguments,
                    "the module that came with the call has no bytes",
                ));
            }
        }
        Ok(())
    }

    /// Moves a large result out of an outcome before it is sent, and holds it for a while. A result that is
    /// too large to cross becomes an error, with the effect that the guest ran.
    pub async fn keep(&self, outcome: &mut Outcome) -> Option<Large> {
        let large = |value: &mut Value| wire::value::exceeds(std::slice::from_ref(value), limits::BULK_FROM);
        let result = outcome.result.as_mut().ok()?.take_if(large)?;
        let kept = match self.away(move || large::checked("a result", vec![result])).await {
            Ok(apart) => {
                let (shape, contents) = apart.contents();
                self.shelf.keep(contents).map(|blobs| Large::described(shape, blobs))
            }
            Err(error) => Err(error),
        };
        kept.map_err(|error| outcome.result = Err(error.with_effect(Effect::RanAndFailed))).ok()
    }

    /// Fetches the large result of a received outcome.
    ///
    /// # Errors
    /// Those of [`Bulk::complete`].
    pub async fn result(&self, large: Large) -> Result<Value> {
        match self.fetch_large("a result", large).await? {
            Args::Values(mut values) if values.len() == 1 => Ok(values.remove(0)),
            _ => Err(Error::new(Code::BadArguments, "the other side sent a result that is not one value")),
        }
    }

    /// Issues a ticket for the other side.
    ///
    /// # Errors
    /// `OVERLOADED` if too many tickets are unused.
    pub fn ticket(&self) -> Result<Ticket> {
        self.tickets.issue(Holder::Bulk(Arc::downgrade(&self.shelf)))
    }

    async fn fetch_large(&self, what: &str, large: Large) -> Result<Args> {
        let blobs = large.blobs();
        let bytes = blobs.iter().fold(0, |sum: u64, blob| sum.saturating_add(blob.bytes));
        check_size(what, bytes, limits::VALUE_BYTES)?;
        let fetched = self.fetch(&blobs).await?;
        self.away(move || large.arrived(fetched)).await
    }

    /// Fetches blobs concurrently.
    async fn fetch(&self, blobs: &[Blob]) -> Result<Vec<List>> {
        let bytes = blobs.iter().map(|blob| blob.bytes).sum();
        let all = self.arriving.get() + bytes;
        if all > limits::ARRIVING {
            let arriving = limits::bytes(self.arriving.get());
            return Err(Error::new(
                Code::Overloaded,
                format!(
                    "{arriving} of large values are already being transferred from `{}`",
                    self.other.name
                ),
            )
            .with_help("make fewer calls with large values at once"));
        }
        self.arriving.set(all);
        let _counted = Arriving(self.arriving.clone(), bytes);
        let fetcher = self.fetcher().await?;
        let lost = || {
            let name = &self.other.name;
            Error::new(
                Code::NodeDown,
                format!("node `{name}` disconnected or discarded the value during the transfer"),
            )
        };
        let fetching = blobs.iter().map(|blob| async {
            let room = large::room(blob.element, blob.bytes as usize)?;
            fetcher.fetch(*blob, room).await.ok_or_else(lost)
        });
        futures::future::try_join_all(fetching).await
    }

    /// Returns the bulk connection; dials it if there is none.
    async fn fetcher(&self) -> Result<Fetcher> {
        let mut open = self.fetcher.lock().await;
        if let Some(fetcher) = open.as_ref().filter(|fetcher| fetcher.is_open()) {
            return Ok(fetcher.clone());
        }
        let name = &self.other.name;
        let gone = |error| wire::error::from_capnp(error, &format!("node `{name}`"), Code::NodeDown);
        let answer = self.theirs.bulk_request().send().promise.await.map_err(gone)?;
        let ticket = remote::read_ticket(name, answer.get().and_then(|answer| answer.get_ticket()))?;
        let (other, tls) = (self.other.clone(), self.tls.clone());
        let opening = threads::bulk()?.spawn(async move {
            let transport = reach(&other, &tls).await?;
            Fetcher::open(transport, ticket).await.map_err(|error| {
                let why =
                    format!("cannot open the connection for large values to node `{}`: {error}", other.name);
                Error::new(Code::NodeDown, why)
            })
        });
        let fetcher = opening.await.map_err(|error| Error::internal(error.to_string()))??;
        Ok(open.insert(fetcher).clone())
    }

    /// Runs work that may take long on the workers, not on this thread.
    async fn away<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let done = self.workers.spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
    }
}
