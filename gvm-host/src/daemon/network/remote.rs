//! Bytes that another process reads piece by piece: modules and the index.
//!
//! In: a file, or bytes. Out: the capability to read them. Must not know: who reads.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::Hash;
use crate::daemon::server::ended;
use crate::wire::error;
use crate::wire::rpc::contained;
use crate::wire::schema::gpmd_capnp::{bytes, found};

/// The most bytes of one piece.
const PIECE: usize = 256 << 10;

/// What is read.
enum Source {
    Memory(Vec<u8>),
    File(Arc<File>),
}

/// Serves bytes that do not change.
struct Readable(Source);

impl Readable {
    async fn piece(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let length = length.min(PIECE);
        match &self.0 {
            Source::Memory(bytes) => {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = begin.saturating_add(length).min(bytes.len());
                Ok(bytes[begin..end].to_vec())
            }
            Source::File(file) => {
                let file = file.clone();
                let read = spawn_blocking(move || {
                    let mut piece = vec![0; length];
                    let mut filled = 0;
                    while filled < length {
                        match file.read_at(&mut piece[filled..], offset + filled as u64) {
                            Ok(0) => break,
                            Ok(read) => filled += read,
                            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                            Err(error) => return Err(Error::io("cannot read the module", error)),
                        }
                    }
                    piece.truncate(filled);
                    Ok(piece)
                });
                read.await.map_err(ended)?
            }
        }
    }
}

impl bytes::Server for Readable {
    async fn read(
        self: Rc<Self>,
        params: bytes::ReadParams,
        mut results: bytes::ReadResults,
    ) -> std::result::Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            let piece = self.piece(params.get_offset(), params.get_length() as usize).await;
            let piece = piece.map_err(|error| capnp::Error::failed(error.to_string()))?;
            results.get().set_data(&piece);
            Ok(())
        })
        .await
    }
}

/// Answers with the index of a home, as its file has it.
pub fn write_index(text: Result<String>, to: found::Builder<'_>) {
    write(text.map(|text| (text.len() as u64, Source::Memory(text.into_bytes()))), to);
}

/// Answers with the bytes of a stored module.
pub async fn write_module(home: &Home, sha256: &[u8], to: found::Builder<'_>) {
    let hash = sha256.try_into().map(Hash);
    let source = match hash {
        Ok(hash) => open(home, hash).await,
        Err(_) => Err(Error::new(Code::BadArguments, "a SHA-256 has 32 bytes")),
    };
    write(source, to);
}

fn write(source: Result<(u64, Source)>, mut to: found::Builder<'_>) {
    match source {
        Ok((size, source)) => {
            let mut ok = to.init_ok();
            ok.set_size(size);
            ok.set_bytes(capnp_rpc::new_client(Readable(source)));
        }
        Err(refused) => error::write(&refused, to.reborrow().init_error()),
    }
}

async fn open(home: &Home, hash: Hash) -> Result<(u64, Source)> {
    let path = home.module(hash);
    let opened = spawn_blocking(move || {
        let file = File::open(path)?;
        Ok((file.metadata()?.len(), Source::File(Arc::new(file))))
    });
    opened.await.map_err(ended)?.map_err(|error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Code::ModuleNotFound, format!("this device has no module with the SHA-256 {hash}"))
        }
        _ => Error::io("cannot read the module", error),
    })
}
