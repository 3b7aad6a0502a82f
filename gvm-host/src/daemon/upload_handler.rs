//! One upload: its pieces are written to a file, which is then checked, stored and announced.
//!
//! In: pieces of a module in any order. Out: a durable module, or the first error. Must not know: how
//! connections are accepted and closed. Dropping an upload before it is stored leaves nothing behind.

use std::cell::RefCell;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use semver::Version;
use tempfile::NamedTempFile;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::server::{State, ended};
use super::stop::Busy;
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::gpmd::entry;
use crate::modules::index::Entry;
use crate::wire::error;
use crate::wire::gate::Pass;
use crate::wire::rpc::contained;
use crate::wire::schema::gpmd_capnp::upload;

/// How long the end of an upload waits for a piece that was sent earlier.
const STRAGGLER: Duration = Duration::from_secs(10);

/// An upload under way.
pub struct Upload {
    state: Rc<State>,
    name: Name,
    version: Version,
    size: u64,
    /// Shared with the thread that writes a piece; `None` when the upload has ended.
    file: RefCell<Option<Arc<NamedTempFile>>>,
    /// The number of bytes that arrived, or the first error.
    arrived: RefCell<Result<u64>>,
    progress: Notify,
    /// Pings the sender as long as the upload lives.
    pub watched: Option<AbortOnDropHandle<()>>,
    _place: Pass,
    _busy: Busy,
}

impl Upload {
    /// Begins the upload of a module of this many bytes.
    ///
    /// # Errors
    /// `OVERLOADED`, `STORAGE_FULL`, `INTERNAL`.
    pub fn begin(state: &Rc<State>, name: Name, version: Version, size: u64) -> Result<Upload> {
        let busy = state.stop.begin()?;
        let place = state.uploads.enter("uploads")?;
        let file = state.store.begin()?;
        Ok(Upload {
            state: state.clone(),
            name,
            version,
            size,
            file: RefCell::new(Some(Arc::new(file))),
            arrived: RefCell::new(Ok(0)),
            progress: Notify::new(),
            watched: None,
            _place: place,
            _busy: busy,
        })
    }

    async fn take(&self, offset: u64, data: Vec<u8>) -> Result<u64> {
        let length = data.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size) {
            let message = format!("the upload is larger than its announced size of {} bytes", self.size);
            return Err(Error::new(Code::ModuleInvalid, message));
        }
        let Some(file) = self.file.borrow().clone() else {
            return Err(Error::internal("a piece arrived after the upload had ended"));
        };
        let written = spawn_blocking(move || file.as_file().write_all_at(&data, offset)).await;
        written.map_err(ended)?.map(|()| length).map_err(|error| Error::io("cannot store the upload", error))
    }

    /// Waits for pieces that are still being written.
    async fn all_arrived(&self) -> Result<()> {
        loop {
            let arrived = std::mem::replace(&mut *self.arrived.borrow_mut(), Ok(0))?;
            *self.arrived.borrow_mut() = Ok(arrived);
            if arrived == self.size {
                return Ok(());
            }
            if timeout(STRAGGLER, self.progress.notified()).await.is_err() {
                let message = format!("only {arrived} of {} bytes arrived", self.size);
                return Err(Error::new(Code::ModuleInvalid, message).with_help("upload the module again"));
            }
        }
    }

    async fn store(&self) -> Result<(Entry, bool)> {
        self.all_arrived().await?;
        let file = self.file.borrow_mut().take().and_then(Arc::into_inner);
        let Some(file) = file else {
            return Err(Error::internal("the upload has already ended"));
        };
        let store = self.state.store.clone();
        // Only one module at a time is held in memory.
        let _turn = self.state.checking.lock().await;
        let checked = spawn_blocking(move || store.check(file)).await.map_err(ended)??;
        let (hash, name, version) = (checked.hash, self.name.clone(), self.version.clone());
        let stored = self.state.change(move |store| store.store(&name, &version, checked, SystemTime::now()));
        let (entry, created) = stored.await?;
        tracing::info!(name = %self.name, version = %self.version, %hash, created, "stored a module");
        self.state.stored(hash);
        Ok((entry, created))
    }
}

impl upload::Server for Upload {
    async fn write(self: Rc<Self>, params: upload::WriteParams) -> std::result::Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            if self.arrived.borrow().is_ok() {
                let taken = self.take(params.get_offset(), params.get_data()?.to_vec()).await;
                let mut arrived = self.arrived.borrow_mut();
                match (&mut *arrived, taken) {
                    (Ok(sum), Ok(length)) => *sum += length,
                    (Ok(_), Err(error)) => *arrived = Err(error),
                    (Err(_), _) => {}
                }
                self.progress.notify_one();
            }
            Ok(())
        })
        .await
    }

    async fn finish(
        self: Rc<Self>,
        _: upload::FinishParams,
        mut results: upload::FinishResults,
    ) -> std::result::Result<(), capnp::Error> {
        contained(async move {
            let busy = self.state.stop.storing();
            let stored = self.store().await;
            drop(busy);
            let mut answer = results.get();
            match stored {
                Ok((stored, created)) => {
                    let mut ok = answer.init_ok();
                    entry::write(&stored, ok.reborrow().init_entry());
                    ok.set_created(created);
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }
}
