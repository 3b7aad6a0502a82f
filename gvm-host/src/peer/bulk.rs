//! The large values of one session: holds them for the other side, and fetches those that the other side
//! holds.
//!
//! In: calls and outcomes, complete or with references to their large parts. Out: the other form. The bulk
//! connection is dialled when it is first needed. Sizes are checked before memory is allocated. Must not
//! know: how calls run.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use gvm_wire::node_capnp::streams;
use tokio::runtime::Handle as Workers;

use super::answers;
use super::dialling::reach;
use super::shelf::{Lent, Shelf};
use super::tickets::{Opens, Tickets};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::node::NodeInfo;
use crate::base::value::{List, Value};
use crate::base::{limits, threads};
use crate::call::{Args, Call, ModuleRef, Outcome, Target};
use crate::wire;
use crate::wire::bulk::{Fetcher, Ticket};
use crate::wire::call::{Apart, check_size};
use crate::wire::large::{self, Blob, Content, Large};
use crate::wire::tls::Tls;

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
        if let Some(lent) = lent {
            all.join(lent);
        }
        Ok((Apart { args: Some(Large::described(shape, blobs)), module }, Some(all)))
    }

    /// Does the same for a target.
    pub fn lend_module(&self, target: &Target) -> (Option<Blob>, Option<Lent>) {
        match &target.module {
            ModuleRef::Bytes(bytes) if bytes.len() as u64 > limits::BULK_FROM => {
                let (blobs, lent) = self.shelf.lend(vec![Content::Bytes(bytes.shared())]);
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
        for part in self.fetch(&[blob]).await? {
            target.module = large::module(part)?;
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
        large::one_value(self.fetch_large("a result", large).await?)
    }

    /// Issues a ticket for the other side.
    ///
    /// # Errors
    /// `OVERLOADED` if too many tickets are unused.
    pub fn ticket(&self) -> Result<Ticket> {
        self.tickets.issue(Opens::Bulk(Arc::downgrade(&self.shelf)))
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
        let ticket = answers::read_ticket(name, answer.get().and_then(|answer| answer.get_ticket()))?;
        let (other, tls) = (self.other.clone(), self.tls.clone());
        let opening = threads::bulk()?.spawn(async move {
            let (transport, _) = reach(&other, &tls).await?;
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
