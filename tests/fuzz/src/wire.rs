//! What other processes send: each struct of the schemas that GVM reads itself, and frames of channels.
//!
//! In: a Cap'n Proto message, or bytes of a channel. Out: a panic if it reads differently after it is written. Must not know:
//! what an answer would be.

use std::future::poll_fn;
use std::task::Poll;

use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions};
use capnp::serialize::{OwnedSegments, read_message, write_message_to_words};
use capnp::traits::{FromPointerReader, Owned};
use gvm_host::internals::wire::channel::{Arrived, Incoming, Kind};
use gvm_host::internals::wire::schema::{gpmd_capnp, hello_capnp, node_capnp, value_capnp};
use gvm_host::internals::wire::value::Parts;
use gvm_host::internals::wire::{self as ours, large};
use gvm_host::net::Transport;
use tokio::io::AsyncWriteExt;

/// The limits of a message between nodes (`MessageLimits::SESSION`).
const OPTIONS: ReaderOptions = ReaderOptions { traversal_limit_in_words: Some(1 << 20), nesting_limit: 512 };

/// The most bytes of a list that a channel makes room for here.
const ROOM: u64 = 1 << 20;

fn message(data: &[u8]) -> Option<Reader<OwnedSegments>> {
    read_message(data, OPTIONS).ok()
}

/// Reads the root of a message as a struct.
fn root<'a, T: FromPointerReader<'a>>(message: &'a Reader<OwnedSegments>) -> Option<T> {
    message.get_root().ok()
}

/// Writes a message and returns its reader. `None` if it is longer than a message may be: parts of a hostile message can lie at the
/// same place, and they are written one after another.
fn written<O: Owned>(write: impl FnOnce(O::Builder<'_>)) -> Option<Reader<OwnedSegments>> {
    let mut builder: Builder<HeapAllocator> = Builder::new_default();
    write(builder.init_root());
    message(&write_message_to_words(&builder))
}

pub fn hello(data: &[u8]) {
    let Some(message) = message(data) else { return };
    if let Some(Ok(hello)) = root(&message).map(ours::hello::read) {
        let again = written::<hello_capnp::hello::Owned>(|to| ours::hello::write(&hello, to)).unwrap();
        // The text of a hostile version is longer when its control characters are escaped, and may be too long then.
        if let Ok(again) = ours::hello::read(root(&again).unwrap()) {
            assert_eq!((again.home, again.node, again.expected), (hello.home, hello.node, hello.expected));
        }
    }
    if let Some(Ok(node)) = root(&message).map(ours::hello::read_node) {
        let again =
            written::<hello_capnp::node_info::Owned>(|to| ours::hello::write_node(&node, to)).unwrap();
        assert_eq!(ours::hello::read_node(root(&again).unwrap()).unwrap(), node);
    }
    let _ = root(&message).map(ours::hello::read_present);
    let _ = root(&message).map(ours::hello::read_applicant);
}

pub fn call(data: &[u8]) {
    let Some(message) = message(data) else { return };
    let _ = root(&message).map(ours::call::read_target);
    let Some(Ok((call, apart, has_input))) = root(&message).map(ours::call::read) else { return };
    if apart.is_empty() {
        let again = written::<node_capnp::call::Owned>(|to| ours::call::write(&call, &apart, has_input, to));
        let Some(again) = again else { return };
        let (call_again, apart_again, input_again) = ours::call::read(root(&again).unwrap()).unwrap();
        assert!(apart_again.is_empty() && input_again == has_input);
        // Numbers that are no numbers are not equal to themselves.
        assert_eq!(format!("{call_again:?}"), format!("{call:?}"));
    }
}

pub fn outcome(data: &[u8]) {
    let Some(message) = message(data) else { return };
    let _ = root(&message).map(ours::call::read_chunk);
    let _ = root(&message).map(ours::error::read);
    let _ = root(&message).map(ours::grant::read);
    let Some(Ok((outcome, large, output))) = root(&message).map(ours::call::read_outcome) else { return };
    if large.is_none() {
        let again = written::<node_capnp::outcome::Owned>(|to| {
            ours::call::write_outcome(&outcome, None, &output, to)
        });
        let Some(again) = again else { return };
        let (outcome_again, _, output_again) = ours::call::read_outcome(root(&again).unwrap()).unwrap();
        assert_eq!(output_again, output);
        assert_eq!(outcome_again.result.is_ok(), outcome.result.is_ok());
        if let (Ok(again), Ok(first)) = (&outcome_again.result, &outcome.result) {
            assert_eq!(format!("{again:?}"), format!("{first:?}"));
        }
    }
}

pub fn value(data: &[u8]) {
    let Some(message) = message(data) else { return };
    if let Some(Ok(value)) = root(&message).map(ours::value::read) {
        let again = written::<value_capnp::value::Owned>(|to| {
            ours::value::write(&value, to, &mut Parts::inline());
        });
        if let Some(again) = again {
            let again = ours::value::read(root(&again).unwrap()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
        }
        assert!(gvm_host::size_in_message(&value) > 0);
    }
    if let Some(Ok(ty)) = root(&message).map(ours::value::read_type) {
        let again = written::<value_capnp::type_::Owned>(|to| ours::value::write_type(&ty, to));
        if let Some(again) = again {
            assert_eq!(ours::value::read_type(root(&again).unwrap()).unwrap(), ty);
        }
        assert!(!ty.to_string().is_empty());
    }
    if let Some(Ok(func)) = root(&message).map(ours::value::read_func) {
        let again = written::<value_capnp::func_type::Owned>(|to| ours::value::write_func(&func, to));
        if let Some(again) = again {
            assert_eq!(ours::value::read_func(root(&again).unwrap()).unwrap(), func);
        }
    }
}

/// The shape of a large value, with a few parts: the first byte is their number.
pub fn shape(data: &[u8]) {
    let Some((count, shape)) = data.split_first() else { return };
    let elements = [
        value_capnp::Number::U8,
        value_capnp::Number::S16,
        value_capnp::Number::F32,
        value_capnp::Number::U64,
    ];
    let parts = (0..usize::from(count % 8)).map(|index| large::room(elements[index % 4], 8 * index).unwrap());
    if let Ok(args) = large::put_together(shape, parts.collect()) {
        drop(format!("{args:?}"));
    }
}

/// Messages that gpmd and nodes read by the generated code: everything in them is visited.
pub fn messages(data: &[u8]) {
    let Some(message) = message(data) else { return };
    if let Some(status) = root::<gpmd_capnp::status::Reader<'_>>(&message)
        && let Ok(nodes) = status.get_nodes()
    {
        nodes.iter().take(100).for_each(|node| drop(ours::hello::read_node(node)));
    }
    if let Some(uploaded) = root::<gpmd_capnp::uploaded::Reader<'_>>(&message) {
        let _ = uploaded.which().map(|which| match which {
            gpmd_capnp::uploaded::Ok(ok) => {
                drop(ok.get_entry().map(|entry| entry.get_exports().map(|list| list.len())))
            }
            gpmd_capnp::uploaded::Error(error) => drop(error.map(ours::error::read)),
        });
    }
    if let Some(registered) = root::<gpmd_capnp::registered::Reader<'_>>(&message) {
        let _ = registered.which().map(|which| match which {
            gpmd_capnp::registered::Ok(ok) => drop(ok.get_node().map(ours::hello::read_node)),
            gpmd_capnp::registered::Error(error) => drop(error.map(ours::error::read)),
        });
    }
    if let Some(looked_up) = root::<gpmd_capnp::looked_up::Reader<'_>>(&message) {
        let _ = looked_up.which().map(|which| match which {
            gpmd_capnp::looked_up::Node(node) => drop(node.map(ours::hello::read_node)),
            gpmd_capnp::looked_up::Error(error) => drop(error.map(ours::error::read)),
        });
    }
    if let Some(described) = root::<node_capnp::described::Reader<'_>>(&message) {
        let _ = described.which().map(|which| match which {
            node_capnp::described::Ok(ok) => drop(ok.get_type().map(ours::value::read_func)),
            node_capnp::described::Error(error) => drop(error.map(ours::error::read)),
        });
    }
    if let Some(greeting) = root::<node_capnp::node_greeting::Reader<'_>>(&message) {
        let _ = greeting.which().map(|which| match which {
            node_capnp::node_greeting::Ok(ok) => drop(ok.get_hello().map(ours::hello::read)),
            node_capnp::node_greeting::Error(error) => drop(error.map(ours::error::read)),
        });
    }
}

/// Frames as they arrive on a channel, in pieces. The first byte chooses the size of a piece.
pub fn channel(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let piece = usize::from(*piece) * 16 + 1;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut near, far) = Transport::pair(64 << 10);
        let sending = async move {
            for piece in data.chunks(piece) {
                if near.write_all(piece).await.is_err() {
                    break;
                }
            }
            let _ = near.shutdown().await;
            drop(near);
        };
        let receiving = async move {
            // Dropped at the end, so that the other side does not wait for it.
            let mut far = far;
            let mut incoming = Incoming::default();
            let mut turns = 0;
            while turns < 100_000 {
                turns += 1;
                match take_all(&mut incoming) {
                    Ok(()) => {}
                    Err(_) => break,
                }
                let more = poll_fn(|cx| match incoming.poll_fill(cx, &mut far) {
                    Poll::Ready(more) => Poll::Ready(more),
                    Poll::Pending => Poll::Pending,
                });
                match more.await {
                    Ok(true) => {}
                    _ => break,
                }
            }
            assert!(turns < 100_000, "it reads {} bytes without end", data.len());
        };
        tokio::join!(sending, receiving);
    });
}

/// Takes all frames that have arrived, as a node does.
fn take_all(incoming: &mut Incoming) -> std::io::Result<()> {
    loop {
        let (id, blobs) = match incoming.take()? {
            None => return Ok(()),
            Some(Arrived::Parts(_, lists)) => {
                drop(lists);
                continue;
            }
            Some(Arrived::Frame(frame)) => {
                let blobs = match frame.kind {
                    Kind::Call => frame.call().ok().and_then(|(_, apart, _)| Some(apart.args?.blobs())),
                    Kind::Outcome => frame.outcome().ok().and_then(|(_, large, _)| Some(large?.blobs())),
                    Kind::Cancel | Kind::Part => None,
                };
                (frame.id, blobs.unwrap_or_default())
            }
        };
        let small = blobs.iter().map(|blob| blob.bytes).fold(0, u64::saturating_add) <= ROOM;
        if small && !blobs.is_empty() {
            let rooms = blobs.iter().map(|blob| large::room(blob.element, blob.bytes as usize));
            if let Ok(rooms) = rooms.collect() {
                incoming.expect(id, rooms);
            }
        }
    }
}
