//! One session's large values: what this side holds ready for the other, and how it fetches what the
//! other holds.
//!
//! In: calls and results, whole or with what of them crosses on its own. Out: the other. The bulk
//! connection is dialled when it is first needed, and what is fetched is bounded before memory is given
//! to it. Must not know: what is called.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gvm_wire::node_capnp::streams;
use tokio::runtime::Handle as Workers;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::handshake;
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::id::NodeInfo;
use crate::base::limits;
use crate::base::threads;
use crate::base::value::{List, Value};
use crate::call::{Args, Call, ModuleRef, Outcome, Target};
use crate::wire;
use crate::wire::bulk::{self, Fetcher, Ticket};
use crate::wire::call::{Apart, check_size};
use crate::wire::large::{self, Blob, Content, Large, Shape};
use crate::wire::tls::Tls;
use crate::wire::transport::Transport;

/// How long a ticket is good.
const TICKET: Duration = Duration::from_secs(10);

/// Tickets that wait to be used, of all sessions of a node.
const TICKETS: usize = 256;

/// What one side of a session holds ready for the other. `Send + Sync`: the bulk thread reads it.
#[derive(Default)]
pub struct Shelf {
    held: Mutex<Held>,
    /// The session is no more: nothing is given any longer.
    closed: CancellationToken,
}

#[derive(Default)]
struct Held {
    next: u64,
    contents: HashMap<u64, Content>,
    /// Results that wait to be fetched, and their bytes together.
    kept: HashMap<u64, u64>,
    kept_bytes: u64,
}

/// What is held for as long as this lives.
pub struct Lent {
    shelf: Arc<Shelf>,
    ids: Vec<u64>,
}

impl Shelf {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everything go, and ends the bulk connection over which it is given.
    fn close(&self) {
        self.closed.cancel();
        let held = std::mem::take(&mut *self.held());
        drop(held);
    }

    fn add(&self, contents: Vec<Content>) -> Vec<Blob> {
        let mut held = self.held();
        let mut add = |content: Content| {
            held.next += 1;
            let (id, bytes, element) = (held.next, content.bytes().len() as u64, content.element());
            held.contents.insert(id, content);
            Blob { id, bytes, element }
        };
        contents.into_iter().map(&mut add).collect()
    }

    /// Holds contents until the guard is dropped.
    fn lend(self: &Arc<Shelf>, contents: Vec<Content>) -> (Vec<Blob>, Lent) {
        let blobs = self.add(contents);
        let ids = blobs.iter().map(|blob| blob.id).collect();
        (blobs, Lent { shelf: self.clone(), ids })
    }

    /// Holds contents until they are fetched, but not long.
    fn keep(self: &Arc<Shelf>, contents: Vec<Content>) -> Result<Vec<Blob>> {
        let bytes: u64 = contents.iter().map(|content| content.bytes().len() as u64).sum();
        if self.held().kept_bytes + bytes > limits::KEPT {
            return Err(Error::new(
                Code::Overloaded,
                format!(
                    "results of {} wait to be fetched already: fetch them before asking for more",
                    bytesize::ByteSize(self.held().kept_bytes).display().iec()
                ),
            ));
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
        // Giving much memory back takes milliseconds that this thread has not.
        let (shelf, ids) = (self.shelf.clone(), std::mem::take(&mut self.ids));
        match threads::bulk() {
            Ok(thread) => drop(thread.spawn(async move { shelf.remove(&ids) })),
            Err(_) => shelf.remove(&ids),
        }
    }
}

/// The tickets that a node has given out and not taken back yet. Belongs to the RPC thread.
#[derive(Default)]
pub struct Tickets(RefCell<HashMap<Ticket, (std::sync::Weak<Shelf>, Instant)>>);

impl Tickets {
    fn issue(&self, shelf: &Arc<Shelf>) -> Result<Ticket> {
        let mut tickets = self.0.borrow_mut();
        tickets.retain(|_, (_, since)| since.elapsed() < TICKET);
        if tickets.len() >= TICKETS {
            return Err(Error::new(Code::Overloaded, "too many bulk connections are being opened"));
        }
        let ticket = *Uuid::new_v4().as_bytes();
        tickets.insert(ticket, (Arc::downgrade(shelf), Instant::now()));
        Ok(ticket)
    }

    /// Serves a connection that came with a ticket; one that is not good ends it.
    pub fn take(&self, ticket: Ticket, transport: Transport) {
        let Some((shelf, since)) = self.0.borrow_mut().remove(&ticket) else { return };
        let Some(shelf) = shelf.upgrade().filter(|_| since.elapsed() < TICKET) else { return };
        if let Ok(thread) = threads::bulk() {
            // Ends with the connection, or with the session.
            thread.spawn(async move {
                let served = shelf.closed.run_until_cancelled(bulk::serve(transport, &*shelf)).await;
                if let Some(Err(error)) = served {
                    tracing::debug!("a bulk connection ended: {error}");
                }
            });
        }
    }
}

/// One session's large values, of both directions. Belongs to the RPC thread.
pub struct Bulk {
    shelf: Arc<Shelf>,
    tickets: Rc<Tickets>,
    /// Where the other side's tickets come from.
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

/// Bytes that are expected; they count until this is dropped.
struct Arriving(Rc<Cell<u64>>, u64);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.set(self.0.get() - self.1);
    }
}

impl Bulk {
    /// Of a session with this node.
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

    /// Takes what is large out of a call that is to be sent. What was taken out is held ready until the
    /// guard is dropped.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where it is too large to cross.
    pub async fn lend(&self, call: &mut Call) -> Result<(Apart, Option<Lent>)> {
        let args = match &mut call.args {
            Args::Values(values) if wire::value::exceeds(values, limits::BULK_FROM) => {
                let values = std::mem::take(values);
                Some(self.away(move || take_apart("arguments", values)).await?)
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
        let (shape, contents) = contents(args);
        let (blobs, mut all) = self.shelf.lend(contents);
        if let Some(mut lent) = lent {
            all.ids.append(&mut lent.ids);
        }
        Ok((Apart { args: Some(described(shape, blobs)), module }, Some(all)))
    }

    /// The same of a target alone.
    pub fn lend_module(&self, target: &Target) -> (Option<Blob>, Option<Lent>) {
        match &target.module {
            ModuleRef::Bytes(bytes) if bytes.len() as u64 > limits::BULK_FROM => {
                let (blobs, lent) = self.shelf.lend(vec![Content::Bytes(bytes.clone())]);
                (blobs.first().copied(), Some(lent))
            }
            _ => (None, None),
        }
    }

    /// Fetches what a call that came left out.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED`, `OVERLOADED` before memory is given; `NODE_DOWN`; `BAD_ARGUMENTS` for what is no
    /// value.
    pub async fn complete(&self, call: &mut Call, apart: Apart) -> Result<()> {
        self.complete_module(&mut call.target, apart.module).await?;
        if let Some(large) = apart.args {
            call.args = self.fetch_large("arguments", large).await?;
        }
        Ok(())
    }

    /// The same of a target alone.
    ///
    /// # Errors
    /// As of [`Bulk::complete`].
    pub async fn complete_module(&self, target: &mut Target, apart: Option<Blob>) -> Result<()> {
        let Some(blob) = apart else { return Ok(()) };
        check_size("a module", blob.bytes, limits::MODULE_BYTES)?;
        match self.fetch(&[blob]).await?.pop() {
            Some(List::U8(bytes)) => target.module = ModuleRef::Bytes(bytes.into()),
            _ => return Err(Error::new(Code::BadArguments, "the module that came along has no bytes")),
        }
        Ok(())
    }

    /// Takes a large result out of an outcome that is to be sent, and holds it ready for a while. A result
    /// too large to cross becomes an error: the guest has run.
    pub async fn keep(&self, outcome: &mut Outcome) -> Option<Large> {
        let large = |value: &mut Value| wire::value::exceeds(std::slice::from_ref(value), limits::BULK_FROM);
        let result = outcome.result.as_mut().ok()?.take_if(large)?;
        let kept = match self.away(move || take_apart("results", vec![result])).await {
            Ok(apart) => {
                let (shape, contents) = contents(apart);
                self.shelf.keep(contents).map(|blobs| described(shape, blobs))
            }
            Err(error) => Err(error),
        };
        kept.map_err(|error| outcome.result = Err(error.with_effect(Effect::RanAndFailed))).ok()
    }

    /// Fetches the result that an outcome which came left out.
    ///
    /// # Errors
    /// As of [`Bulk::complete`].
    pub async fn result(&self, large: Large) -> Result<Value> {
        match self.fetch_large("results", large).await? {
            Args::Values(mut values) if values.len() == 1 => Ok(values.remove(0)),
            _ => Err(Error::new(Code::BadArguments, "a result from the other side is not one value")),
        }
    }

    /// A ticket for the other side.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub fn ticket(&self) -> Result<Ticket> {
        self.tickets.issue(&self.shelf)
    }

    async fn fetch_large(&self, what: &str, large: Large) -> Result<Args> {
        let blobs = large.blobs();
        let bytes = blobs.iter().fold(0, |sum: u64, blob| sum.saturating_add(blob.bytes));
        check_size(what, bytes, limits::VALUE_BYTES)?;
        let fetched = self.fetch(&blobs).await?;
        self.away(move || large.arrived(fetched)).await
    }

    /// Fetches blobs, all at once.
    async fn fetch(&self, blobs: &[Blob]) -> Result<Vec<List>> {
        let bytes = blobs.iter().map(|blob| blob.bytes).sum();
        let all = self.arriving.get() + bytes;
        if all > limits::ARRIVING {
            return Err(Error::new(
                Code::Overloaded,
                format!(
                    "{} of large values are under way between these nodes already: wait and try again",
                    bytesize::ByteSize(self.arriving.get()).display().iec()
                ),
            ));
        }
        self.arriving.set(all);
        let _counted = Arriving(self.arriving.clone(), bytes);
        let fetcher = self.fetcher().await?;
        let lost = || {
            let name = &self.other.name;
            Error::new(Code::NodeDown, format!("node `{name}` went, or gave the value up, while it crossed"))
        };
        let fetching = blobs.iter().map(|blob| async {
            let room = large::room(blob.element, blob.bytes as usize)?;
            fetcher.fetch(*blob, room).await.ok_or_else(lost)
        });
        futures::future::try_join_all(fetching).await
    }

    /// The bulk connection, dialled where there is none.
    async fn fetcher(&self) -> Result<Fetcher> {
        let mut open = self.fetcher.lock().await;
        if let Some(fetcher) = open.as_ref().filter(|fetcher| fetcher.is_open()) {
            return Ok(fetcher.clone());
        }
        let noun = format!("node `{}`", self.other.name);
        let gone = |error| wire::error::from_capnp(error, &noun, Code::NodeDown);
        let answer = self.theirs.bulk_request().send().promise.await.map_err(gone)?;
        let ticket = answer.get().and_then(|answer| answer.get_ticket()).map_err(gone)?;
        let ticket = Ticket::try_from(ticket)
            .map_err(|_| Error::new(Code::VersionMismatch, format!("{noun} gave no ticket")))?;
        let (other, tls) = (self.other.clone(), self.tls.clone());
        let opening = threads::bulk()?.spawn(async move {
            let transport = handshake::reach(&other, &tls).await?;
            Fetcher::open(transport, ticket).await.map_err(|error| {
                let why =
                    format!("node `{}` did not open the connection for large values: {error}", other.name);
                Error::new(Code::NodeDown, why)
            })
        });
        let fetcher = opening.await.map_err(|error| Error::internal(error.to_string()))??;
        Ok(open.insert(fetcher).clone())
    }

    /// Does work that may take long away from this thread.
    async fn away<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let done = self.workers.spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
    }
}

fn take_apart(what: &str, values: Vec<Value>) -> Result<large::Apart> {
    check_size(what, values.iter().map(wire::value::size).sum(), limits::VALUE_BYTES)?;
    Ok(large::take_apart(values))
}

/// The shape where it is small, and all that is held ready: the parts, then a shape that is not.
fn contents(apart: large::Apart) -> (Option<Vec<u8>>, Vec<Content>) {
    let large::Apart { shape, mut parts } = apart;
    if shape.len() < limits::PART_FROM {
        return (Some(shape), parts);
    }
    parts.push(Content::Bytes(shape.into()));
    (None, parts)
}

/// What is said of contents that are held ready under these names.
fn described(shape: Option<Vec<u8>>, mut blobs: Vec<Blob>) -> Large {
    let shape = match (shape, blobs.last().copied()) {
        (None, Some(blob)) => {
            blobs.pop();
            Shape::Blob(blob)
        }
        (shape, _) => Shape::Inline(shape.unwrap_or_default()),
    };
    Large { shape, parts: blobs }
}
