//! Compilation ahead of the first call.
//!
//! In: the hash of a module that was just stored. Out: compiled code where every process of the home
//! finds it. Runs in the background; a call that comes sooner waits for the same work. Must not know:
//! who stored the module.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::base::home::Home;
use crate::base::id::Hash;
use crate::engine::Engine;
use crate::modules::store;

/// What is called with each stored module: queues its compilation, one at a time.
pub fn compile_ahead(engine: Engine, home: Home, workers: Handle) -> impl Fn(Hash) + Send + Sync + 'static {
    let one = Arc::new(Semaphore::new(1));
    move |hash| {
        let (engine, home, one) = (engine.clone(), home.clone(), one.clone());
        workers.spawn(async move {
            let Ok(_turn) = one.acquire().await else { return };
            let read = tokio::task::spawn_blocking(move || store::read_module(&home, hash)).await;
            let compiled = match read {
                Ok(Ok(bytes)) => engine.precompile(hash, &bytes).await,
                Ok(Err(error)) => Err(error),
                Err(error) => Err(crate::base::error::Error::internal(error.to_string())),
            };
            match compiled {
                Ok(()) => tracing::info!(%hash, "compiled ahead"),
                // Whoever calls it is told then.
                Err(error) => tracing::warn!(%hash, %error, "not compiled ahead"),
            }
        });
    }
}
