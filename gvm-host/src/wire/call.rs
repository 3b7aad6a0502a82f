//! Calls and outcomes to and from `schema/node.capnp`.
//!
//! In: our call or outcome, or a peer's bytes. Out: the other form; a peer's bytes are checked. Must not
//! know: sessions, where the call runs.

use std::time::Duration;

use uuid::Uuid;

use super::large::{Blob, Large, Shape};
use super::schema::node_capnp::{
    Broken as WireBroken, Stream as WireStream, blob, call, chunk, large, limits as wire_limits, outcome,
    target,
};
use super::value::Parts;
use super::{error, value};
use crate::base::error::{Code, Error, Result};
use crate::base::id::Hash;
use crate::base::limits::{self, Limits};
use crate::call::{Args, Broken, Call, Chunk, ModuleRef, Outcome, Stream, Target};

fn unreadable(error: capnp::Error) -> Error {
    Error::new(Code::BadArguments, format!("cannot read a message from the other side: {error}"))
}

fn text(reader: capnp::Result<capnp::text::Reader<'_>>) -> Result<String> {
    let text = reader.map_err(unreadable)?;
    text.to_string().map_err(|_| Error::new(Code::BadArguments, "the other side sent text that is not UTF-8"))
}

fn optional(has: bool, reader: capnp::Result<capnp::text::Reader<'_>>) -> Result<Option<String>> {
    has.then(|| text(reader)).transpose()
}

/// Reads the id of a call.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is not 16 bytes long.
pub fn read_id(from: capnp::Result<capnp::data::Reader<'_>>) -> Result<Uuid> {
    Uuid::from_slice(from.map_err(unreadable)?)
        .map_err(|_| Error::new(Code::BadArguments, "the other side sent an id that is not 16 bytes long"))
}

/// The parts of a call that cross separately, over the bulk connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Apart {
    /// Replaces the arguments if present.
    pub args: Option<Large>,
    /// Replaces the bytes of a module if present.
    pub module: Option<Blob>,
}

impl Apart {
    /// Whether the call itself contains everything.
    pub fn is_empty(&self) -> bool {
        self.args.is_none() && self.module.is_none()
    }
}

/// Checks a size against its limit before any memory is allocated. `what` is a noun: `arguments`, `a module`.
///
/// # Errors
/// `LIMIT_EXCEEDED` with both sizes.
pub fn check_size(what: &str, size: u64, most: u64) -> Result<()> {
    if size <= most {
        return Ok(());
    }
    let (size, most) = limits::beyond(size, most);
    Err(Error::new(
        Code::LimitExceeded,
        format!("cannot transfer {what} of {size} between nodes: the limit is {most}"),
    ))
}

/// Returns why a stream is broken, in the wire's form; `No` if it works.
pub fn write_broken(from: Option<Broken>) -> WireBroken {
    match from {
        None => WireBroken::No,
        Some(Broken::Io) => WireBroken::Io,
        Some(Broken::Full) => WireBroken::Full,
        Some(Broken::Pipe) => WireBroken::Pipe,
        Some(Broken::IsFolder) => WireBroken::IsFolder,
        Some(Broken::Closed) => WireBroken::Closed,
    }
}

/// Reads why a stream is broken; a reason that this version does not know is `Io`.
pub fn read_broken(from: Result<WireBroken, capnp::NotInSchema>) -> Option<Broken> {
    match from {
        Ok(WireBroken::No) => None,
        Ok(WireBroken::Io) | Err(_) => Some(Broken::Io),
        Ok(WireBroken::Full) => Some(Broken::Full),
        Ok(WireBroken::Pipe) => Some(Broken::Pipe),
        Ok(WireBroken::IsFolder) => Some(Broken::IsFolder),
        Ok(WireBroken::Closed) => Some(Broken::Closed),
    }
}

/// Writes a call; the parts in `apart` cross separately.
pub fn write(from: &Call, apart: &Apart, has_input: bool, mut to: call::Builder<'_>) {
    to.set_id(from.id.as_bytes());
    write_target(&from.target, apart.module, to.reborrow().init_target());
    let mut args = to.reborrow().init_args();
    match (&from.args, &apart.args) {
        (_, Some(apart)) => write_large(apart, args.init_large()),
        (Args::Values(values), None) => {
            value::write_all(values, args.init_values(values.len() as u32), &mut Parts::inline());
        }
        (Args::Text(text), None) => args.set_text(text.as_str()),
        (Args::Argv(argv), None) => {
            let mut to = args.init_argv(argv.len() as u32);
            for (index, arg) in argv.iter().enumerate() {
                to.set(index as u32, arg.as_str());
            }
        }
    }
    to.set_deadline(nanos(from.limits.timeout));
    write_limits(from.limits, to.reborrow().init_limits());
    if !from.above.is_empty() {
        to.set_above(&from.above.iter().flat_map(|id| *id.as_bytes()).collect::<Vec<u8>>());
    }
    to.set_has_input(has_input);
    to.set_want_type(from.want_type);
}

fn write_blob(from: Blob, mut to: blob::Builder<'_>) {
    to.set_id(from.id);
    to.set_bytes(from.bytes);
    to.set_element(from.element);
}

fn read_blob(from: blob::Reader<'_>) -> Result<Blob> {
    let element = from.get_element().map_err(|_| error::unknown("an element type"))?;
    Ok(Blob { id: from.get_id(), bytes: from.get_bytes(), element })
}

fn write_large(from: &Large, mut to: large::Builder<'_>) {
    match &from.shape {
        Shape::Inline(bytes) => to.reborrow().init_shape().set_inline(bytes),
        Shape::Blob(blob) => write_blob(*blob, to.reborrow().init_shape().init_blob()),
    }
    let mut parts = to.init_parts(from.parts.len() as u32);
    for (index, part) in from.parts.iter().enumerate() {
        write_blob(*part, parts.reborrow().get(index as u32));
    }
}

fn read_large(from: large::Reader<'_>) -> Result<Large> {
    let shape = match from.get_shape().which().map_err(|_| error::unknown("a kind of large value"))? {
        large::shape::Inline(bytes) => Shape::Inline(bytes.map_err(unreadable)?.to_vec()),
        large::shape::Blob(blob) => Shape::Blob(read_blob(blob.map_err(unreadable)?)?),
    };
    let parts = from.get_parts().map_err(unreadable)?;
    if parts.len() as usize > limits::PARTS {
        return Err(Error::new(
            Code::LimitExceeded,
            format!("a value has {} large parts: the limit is {}", parts.len(), limits::PARTS),
        ));
    }
    Ok(Large { shape, parts: parts.iter().map(read_blob).collect::<Result<_>>()? })
}

/// Returns the remaining time as it crosses: in nanoseconds, 0 for none.
pub fn nanos(time: Option<Duration>) -> u64 {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    // If no time is left, write one nanosecond: 0 means no limit.
    time.map_or(0, |time| nanos(time).max(1))
}

/// Reads a deadline; 0 means none.
pub fn read_deadline(nanos: u64) -> Option<Duration> {
    Some(nanos).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

/// Writes limits except the time, which crosses as a deadline.
pub fn write_limits(from: Limits, mut to: wire_limits::Builder<'_>) {
    to.set_memory(from.memory.map_or(0, |bytes| bytes.max(1)));
    to.set_output(from.output.map_or(0, |bytes| bytes.max(1)));
    to.set_fuel(from.fuel.map_or(0, |fuel| fuel.max(1)));
}

/// Writes a target; `apart` refers to the bytes of a module that cross separately.
pub fn write_target(from: &Target, apart: Option<Blob>, mut to: target::Builder<'_>) {
    match (&from.module, apart) {
        (_, Some(blob)) => write_blob(blob, to.reborrow().init_blob()),
        (ModuleRef::Stored { name, version }, None) => {
            let mut to = to.reborrow().init_module();
            to.set_name(name.as_str());
            if let Some(version) = version {
                to.set_version(version.to_string().as_str());
            }
        }
        (ModuleRef::Pinned { name, hash }, None) => {
            let mut to = to.reborrow().init_module();
            to.set_name(name.as_str());
            to.set_sha256(&hash.0);
        }
        (ModuleRef::Bytes(bytes), None) => to.set_bytes(bytes),
        (ModuleRef::Loaded(hash), None) => to.set_hash(&hash.0),
        (ModuleRef::Instance(name), None) => to.set_instance(name.as_str()),
    }
    if let Some(interface) = &from.interface {
        to.set_interface(interface.as_str());
    }
    if let Some(function) = &from.function {
        to.set_function(function.as_str());
    }
}

fn read_hash(from: capnp::Result<capnp::data::Reader<'_>>) -> Result<Hash> {
    let wrong = |_| Error::new(Code::BadArguments, "the other side sent a hash that is not 32 bytes long");
    from.map_err(unreadable)?.try_into().map(Hash).map_err(wrong)
}

/// Reads a target, and the blob with its bytes if they cross separately.
///
/// # Errors
/// `BAD_ARGUMENTS`, `SYNTAX` if it is invalid.
pub fn read_target(from: target::Reader<'_>) -> Result<(Target, Option<Blob>)> {
    let mut apart = None;
    let module = match from.which().map_err(|_| error::unknown("a kind of target"))? {
        target::Module(module) if module.has_sha256() => ModuleRef::Pinned {
            name: text(module.get_name())?.parse()?,
            hash: read_hash(module.get_sha256())?,
        },
        target::Module(module) => ModuleRef::Stored {
            name: text(module.get_name())?.parse()?,
            version: optional(module.has_version(), module.get_version())?
                .map(|version| crate::base::id::parse_version(&version))
                .transpose()?,
        },
        target::Bytes(bytes) => ModuleRef::Bytes(bytes.map_err(unreadable)?.into()),
        target::Instance(name) => ModuleRef::Instance(text(name)?.parse()?),
        target::Blob(blob) => {
            apart = Some(read_blob(blob.map_err(unreadable)?)?);
            ModuleRef::Bytes([].into())
        }
        target::Hash(hash) => ModuleRef::Loaded(read_hash(hash)?),
    };
    let target = Target {
        module,
        interface: optional(from.has_interface(), from.get_interface())?,
        function: optional(from.has_function(), from.get_function())?,
    };
    Ok((target, apart))
}

/// Reads limits and the deadline that crossed with them; 0 means no limit.
pub fn read_limits(from: wire_limits::Reader<'_>, deadline: u64) -> Limits {
    let some = |number: u64| (number > 0).then_some(number);
    Limits {
        timeout: read_deadline(deadline),
        memory: some(from.get_memory()),
        output: some(from.get_output()),
        fuel: some(from.get_fuel()),
    }
}

/// Reads a call, its parts that cross separately, and whether its caller has standard input for it.
///
/// # Errors
/// `BAD_ARGUMENTS`, `SYNTAX` if it is invalid; `VERSION_MISMATCH`.
pub fn read(from: call::Reader<'_>) -> Result<(Call, Apart, bool)> {
    let mut apart = None;
    let args = match from.get_args().which().map_err(|_| error::unknown("a kind of arguments"))? {
        call::args::Values(values) => Args::Values(value::read_all(values.map_err(unreadable)?)?),
        call::args::Text(args) => Args::Text(text(args)?),
        call::args::Argv(argv) => {
            Args::Argv(argv.map_err(unreadable)?.iter().map(text).collect::<Result<_>>()?)
        }
        call::args::Large(large) => {
            apart = Some(read_large(large.map_err(unreadable)?)?);
            Args::Values(Vec::new())
        }
    };
    let (target, module) = read_target(from.get_target().map_err(unreadable)?)?;
    let call = Call {
        id: read_id(from.get_id())?,
        target,
        args,
        limits: read_limits(from.get_limits().map_err(unreadable)?, from.get_deadline()),
        above: read_above(from)?,
        want_type: from.get_want_type(),
    };
    Ok((call, Apart { args: apart, module }, from.get_has_input()))
}

/// Reads the ids of the calls above: at most one more than the limit, so that the limit is noticed.
fn read_above(from: call::Reader<'_>) -> Result<Vec<Uuid>> {
    let bytes = from.get_above().map_err(unreadable)?;
    let ids = bytes.chunks(16).take(limits::CALL_DEPTH + 1);
    ids.map(|id| read_id(Ok(id))).collect()
}

/// Writes an outcome and the output that was not streamed before it. `apart` replaces a result that crosses
/// separately.
pub fn write_outcome(from: &Outcome, apart: Option<&Large>, output: &[Chunk], mut to: outcome::Builder<'_>) {
    match (&from.result, apart) {
        (Ok(_), Some(large)) => write_large(large, to.reborrow().init_large()),
        (Ok(None), None) => to.set_none(()),
        (Ok(Some(result)), None) => value::write(result, to.reborrow().init_value(), &mut Parts::inline()),
        (Err(failed), _) => error::write(failed, to.reborrow().init_error()),
    }
    if let Some(ty) = &from.ty {
        value::write_type(ty, to.reborrow().init_type());
    }
    if !output.is_empty() {
        let mut chunks = to.reborrow().init_output(output.len() as u32);
        for (index, chunk) in output.iter().enumerate() {
            write_chunk(chunk, chunks.reborrow().get(index as u32));
        }
    }
    if let Some(elapsed) = from.elapsed {
        to.set_nanoseconds(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Reads an outcome, the reference to its result if that crosses separately, and the output that came with
/// it.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is invalid; `VERSION_MISMATCH`.
pub fn read_outcome(from: outcome::Reader<'_>) -> Result<(Outcome, Option<Large>, Vec<Chunk>)> {
    let mut apart = None;
    let result = match from.which().map_err(|_| error::unknown("a kind of outcome"))? {
        outcome::None(()) => Ok(None),
        outcome::Value(result) => Ok(Some(value::read(result.map_err(unreadable)?)?)),
        outcome::Error(failed) => Err(error::read(failed.map_err(unreadable)?)),
        outcome::Large(large) => {
            apart = Some(read_large(large.map_err(unreadable)?)?);
            Ok(None)
        }
    };
    let ty = match from.has_type() {
        true => Some(value::read_type(from.get_type().map_err(unreadable)?)?),
        false => None,
    };
    let output = match from.has_output() {
        true => from.get_output().map_err(unreadable)?.iter().map(read_chunk).collect::<Result<_>>()?,
        false => Vec::new(),
    };
    let nanoseconds = from.get_nanoseconds();
    let elapsed = (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds));
    Ok((Outcome { result, ty, elapsed }, apart, output))
}

/// Writes a piece of output.
pub fn write_chunk(from: &Chunk, mut to: chunk::Builder<'_>) {
    to.set_stream(match from.stream {
        Stream::Stdout => WireStream::Stdout,
        Stream::Stderr => WireStream::Stderr,
    });
    to.set_data(&from.data);
}

/// Reads a piece of output.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is invalid.
pub fn read_chunk(from: chunk::Reader<'_>) -> Result<Chunk> {
    let unknown = |_| {
        Error::new(
            Code::BadArguments,
            "the other side sent output of a stream that this version does not know",
        )
    };
    Ok(Chunk {
        stream: match from.get_stream().map_err(unknown)? {
            WireStream::Stdout => Stream::Stdout,
            WireStream::Stderr => Stream::Stderr,
        },
        data: from.get_data().map_err(unreadable)?.to_vec(),
    })
}
