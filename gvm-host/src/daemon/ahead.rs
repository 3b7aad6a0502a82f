//! Compilation of stored modules before their first call.
//!
//! In: the hash of a module that was just stored. Out: compiled code in the home, for every process that
//! uses it. Must not know: who stored the module. Runs in the background; a call that arrives earlier waits
//! for the same compilation.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::base::home::Home;
use crate::base::id::Hash;
use crate::engine::Engine;
use crate::modules::store;

/// Returns a function that queues the compilation of a stored module. One module is compiled at a time.
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
                Ok(()) => tracing::info!(%hash, "compiled a stored module"),
                // The first call reports the error.
                Err(error) => tracing::warn!(%hash, %error, "cannot compile a stored module"),
            }
        });
    }
}
