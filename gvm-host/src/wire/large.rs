//! Splits and rebuilds large values: a small message with their shape, and their large parts, each the bytes
//! of one packed list or text.
//!
//! In: arguments or a result; or a shape and the parts that arrived. Out: the other. Splitting copies only
//! what is small; rebuilding moves the parts that arrived into the value. Must not know: how the parts cross
//! (`bulk`), sessions. Everything here may take long and is `Send`: it belongs on the workers, not on a
//! thread that calls wait for.

use std::sync::Arc;

use capnp::message::{Builder, ReaderOptions};
use capnp::serialize;

use super::call::check_size;
use super::error::unknown;
use super::schema::value_capnp::{Number, shape};
use super::value::{self, Parts};
use crate::base::error::{Code, Error, Result};
use crate::base::limits;
use crate::base::value::{List, Value};
use crate::call::{Args, ModuleRef};

/// How deep a shape may nest, in pointers: as deep as the messages of a session.
const NESTING: i32 = 512;

/// Words that reading a shape may take beyond its own length; short shapes need them.
const SLACK: usize = 1024;

/// Bytes that cross separately, held until the other side fetches them. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Content {
    /// One packed list or text of a value; `way` is the path of indexes to it.
    Part { root: Arc<Vec<Value>>, way: Box<[u32]> },
    /// A module, or a shape that is itself large.
    Bytes(Arc<[u8]>),
}

impl Content {
    /// Returns the bytes as they cross.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Bytes(bytes) => bytes,
            Content::Part { root, way } => match part(root, way) {
                Some(Value::String(text)) => text.as_bytes(),
                Some(Value::List(list)) => packed(list).1,
                _ => &[],
            },
        }
    }

    /// Returns the element type of the bytes.
    pub fn element(&self) -> Number {
        match self {
            Content::Bytes(_) => Number::U8,
            Content::Part { root, way } => match part(root, way) {
                Some(Value::List(list)) => packed(list).0,
                _ => Number::U8,
            },
        }
    }
}

/// Returns the value at the end of a path.
fn part<'a>(root: &'a [Value], way: &[u32]) -> Option<&'a Value> {
    let (first, rest) = way.split_first()?;
    rest.iter().try_fold(root.get(*first as usize)?, |value, index| match value {
        Value::List(List::Values(values)) | Value::Record(values) | Value::Tuple(values) => {
            values.get(*index as usize)
        }
        Value::Variant(_, inner) | Value::Option(inner) | Value::Result(Ok(inner) | Err(inner)) => {
            inner.as_deref()
        }
        _ => None,
    })
}

/// Returns the element type of a list, and its elements as they lie in memory.
pub(super) fn packed(list: &List) -> (Number, &[u8]) {
    match list {
        List::S8(v) => (Number::S8, bytemuck::cast_slice(v)),
        List::U8(v) => (Number::U8, v),
        List::S16(v) => (Number::S16, bytemuck::cast_slice(v)),
        List::U16(v) => (Number::U16, bytemuck::cast_slice(v)),
        List::S32(v) => (Number::S32, bytemuck::cast_slice(v)),
        List::U32(v) => (Number::U32, bytemuck::cast_slice(v)),
        List::S64(v) => (Number::S64, bytemuck::cast_slice(v)),
        List::U64(v) => (Number::U64, bytemuck::cast_slice(v)),
        List::F32(v) => (Number::F32, bytemuck::cast_slice(v)),
        List::F64(v) => (Number::F64, bytemuck::cast_slice(v)),
        List::Values(_) => (Number::U8, &[]),
    }
}

/// Allocates a list of this many bytes, to be filled through [`bytes_of`]. The system provides the memory
/// while the list is filled, not before.
///
/// # Errors
/// `BAD_ARGUMENTS` if the bytes are not a whole number of elements.
pub fn room(element: Number, bytes: usize) -> Result<List> {
    fn zeroed<T: bytemuck::Pod>(bytes: usize) -> Result<Vec<T>> {
        if !bytes.is_multiple_of(size_of::<T>()) {
            return Err(Error::new(
                Code::BadArguments,
                "the other side sent a list of numbers that is cut short",
            ));
        }
        Ok(bytemuck::allocation::zeroed_vec(bytes / size_of::<T>()))
    }
    Ok(match element {
        Number::S8 => List::S8(zeroed(bytes)?),
        Number::U8 => List::U8(zeroed(bytes)?.into()),
        Number::S16 => List::S16(zeroed(bytes)?),
        Number::U16 => List::U16(zeroed(bytes)?),
        Number::S32 => List::S32(zeroed(bytes)?),
        Number::U32 => List::U32(zeroed(bytes)?),
        Number::S64 => List::S64(zeroed(bytes)?),
        Number::U64 => List::U64(zeroed(bytes)?),
        Number::F32 => List::F32(zeroed(bytes)?),
        Number::F64 => List::F64(zeroed(bytes)?),
    })
}

/// Returns the memory of a packed list.
pub fn bytes_of(list: &mut List) -> &mut [u8] {
    match list {
        List::S8(v) => bytemuck::cast_slice_mut(v),
        List::U8(v) => v.to_mut(),
        List::S16(v) => bytemuck::cast_slice_mut(v),
        List::U16(v) => bytemuck::cast_slice_mut(v),
        List::S32(v) => bytemuck::cast_slice_mut(v),
        List::U32(v) => bytemuck::cast_slice_mut(v),
        List::S64(v) => bytemuck::cast_slice_mut(v),
        List::U64(v) => bytemuck::cast_slice_mut(v),
        List::F32(v) => bytemuck::cast_slice_mut(v),
        List::F64(v) => bytemuck::cast_slice_mut(v),
        List::Values(_) => &mut [],
    }
}

/// A reference to content that one side of a session holds and the other side may fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    pub id: u64,
    pub bytes: u64,
    pub element: Number,
}

/// Where a shape is: in the message, or in a blob of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    Inline(Vec<u8>),
    Blob(Blob),
}

/// Replaces a large value in a call or an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    pub shape: Shape,
    pub parts: Vec<Blob>,
}

impl Large {
    /// Returns the reference to contents that are held as these blobs, in the order of [`Apart::contents`].
    pub fn described(shape: Option<Vec<u8>>, mut blobs: Vec<Blob>) -> Large {
        let shape = match (shape, blobs.last().copied()) {
            (None, Some(blob)) => {
                blobs.pop();
                Shape::Blob(blob)
            }
            (shape, _) => Shape::Inline(shape.unwrap_or_default()),
        };
        Large { shape, parts: blobs }
    }

    /// Returns everything that has to be fetched: the parts, then the shape if it is large too.
    pub fn blobs(&self) -> Vec<Blob> {
        let shape = match self.shape {
            Shape::Inline(_) => None,
            Shape::Blob(blob) => Some(blob),
        };
        self.parts.iter().copied().chain(shape).collect()
    }

    /// Rebuilds the value from the fetched blobs, in the order of [`Large::blobs`].
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` if shape and parts do not match; `VERSION_MISMATCH`.
    pub fn arrived(self, mut fetched: Vec<List>) -> Result<Args> {
        match self.shape {
            Shape::Inline(shape) => put_together(&shape, fetched),
            Shape::Blob(_) => match fetched.pop() {
                Some(List::U8(shape)) => put_together(&shape, fetched),
                _ => Err(Error::new(Code::BadArguments, "the other side sent a large value without a shape")),
            },
        }
    }
}

/// Returns the value of a result that was rebuilt.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is not one value.
pub fn one_value(rebuilt: Args) -> Result<Value> {
    match rebuilt {
        Args::Values(mut values) if values.len() == 1 => Ok(values.remove(0)),
        _ => Err(Error::new(Code::BadArguments, "the other side sent a result that is not one value")),
    }
}

/// Returns the module whose bytes arrived as a part of a call.
///
/// # Errors
/// `BAD_ARGUMENTS` if the part has other elements.
pub fn module(part: List) -> Result<ModuleRef> {
    match part {
        List::U8(bytes) => Ok(ModuleRef::Bytes(bytes.into_vec().into())),
        _ => Err(Error::new(Code::BadArguments, "the module that came with the call has no bytes")),
    }
}

/// A large value, split into its shape and its parts.
pub struct Apart {
    /// A message whose root is a `Shape`.
    pub shape: Vec<u8>,
    pub parts: Vec<Content>,
}

impl Apart {
    /// Returns the shape if it is small, and the contents to hold: the parts, then the shape if it is large.
    pub fn contents(self) -> (Option<Vec<u8>>, Vec<Content>) {
        let Apart { shape, mut parts } = self;
        if shape.len() < limits::PART_FROM {
            return (Some(shape), parts);
        }
        parts.push(Content::Bytes(shape.into()));
        (None, parts)
    }

    /// Returns the description of the value, and the contents that follow it on the same connection.
    pub fn to_follow(self) -> (Large, Vec<Content>) {
        let (shape, contents) = self.contents();
        let blobs = contents.iter().enumerate().map(|(index, content)| content.blob(index as u64)).collect();
        (Large::described(shape, blobs), contents)
    }
}

impl Content {
    /// Returns the reference to this content under an id.
    pub fn blob(&self, id: u64) -> Blob {
        Blob { id, bytes: self.bytes().len() as u64, element: self.element() }
    }
}

/// Splits values that are not too large to cross. `what` is a noun for the message.
///
/// # Errors
/// `LIMIT_EXCEEDED`.
pub fn checked(what: &str, values: Vec<Value>) -> Result<Apart> {
    check_size(what, values.iter().map(value::size).sum(), limits::VALUE_BYTES)?;
    Ok(take_apart(values))
}

/// Splits values.
pub fn take_apart(values: Vec<Value>) -> Apart {
    let mut message = Builder::new_default();
    let mut parts = Parts::collected();
    let list = message.init_root::<shape::Builder<'_>>().init_values(values.len() as u32);
    value::write_all(&values, list, &mut parts);
    let root = Arc::new(values);
    let parts = parts.ways().into_iter().map(|way| Content::Part { root: root.clone(), way }).collect();
    Apart { shape: serialize::write_message_to_words(&message), parts }
}

/// Splits arguments that are text: the shape contains all of it.
pub fn take_text_apart(text: &str) -> Apart {
    let mut message = Builder::new_default();
    message.init_root::<shape::Builder<'_>>().set_text(text);
    Apart { shape: serialize::write_message_to_words(&message), parts: Vec::new() }
}

/// Rebuilds a value from its shape and its parts.
///
/// # Errors
/// `BAD_ARGUMENTS` if shape and parts do not match; `VERSION_MISMATCH`.
pub fn put_together(shape: &[u8], parts: Vec<List>) -> Result<Args> {
    let unreadable = |error: capnp::Error| {
        Error::new(Code::BadArguments, format!("cannot read a large value from the other side: {error}"))
    };
    // A well-formed message needs each of its words to be read only once.
    let words = shape.len() / size_of::<u64>() + SLACK;
    let options = ReaderOptions { traversal_limit_in_words: Some(words), nesting_limit: NESTING };
    let message = serialize::read_message_from_flat_slice(&mut &*shape, options).map_err(unreadable)?;
    let shape = message.get_root::<shape::Reader<'_>>().map_err(unreadable)?;
    match shape.which().map_err(|_| unknown("a kind of large value"))? {
        shape::Values(values) => {
            let mut parts = parts.into_iter().map(Some).collect::<Vec<_>>();
            value::read_all_with(values.map_err(unreadable)?, &mut parts).map(Args::Values)
        }
        shape::Text(text) => {
            let text = text.map_err(unreadable)?.to_string();
            text.map(Args::Text)
                .map_err(|_| Error::new(Code::BadArguments, "the other side sent text that is not UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies the bytes of each part into a list of its element type, as a transfer does.
    fn cross(apart: &Apart) -> Vec<List> {
        let arrive = |content: &Content| {
            let mut list = room(content.element(), content.bytes().len()).unwrap();
            bytes_of(&mut list).copy_from_slice(content.bytes());
            list
        };
        apart.parts.iter().map(arrive).collect()
    }

    fn large(length: usize) -> Vec<Value> {
        let numbers = List::F64((0..length).map(|index| index as f64).collect());
        let some = |value| Value::Option(Some(Box::new(value)));
        vec![
            Value::U8(1),
            Value::Record(vec![Value::List(numbers), Value::String("ü".repeat(length))]),
            some(Value::Tuple(vec![
                Value::Variant(3, Some(Box::new(Value::List(List::U8(vec![7; length].into()))))),
                Value::Result(Err(Some(Box::new(Value::List(List::S16(vec![-1; length])))))),
            ])),
            Value::List(List::Values(vec![Value::String("short".into()), Value::Bool(true)])),
        ]
    }

    #[test]
    fn rebuilds_what_was_split() {
        for length in [0, 10, 100_000] {
            let apart = take_apart(large(length));
            assert_eq!(apart.parts.len(), if length > 1000 { 4 } else { 0 });
            let shape_is_small = apart.shape.len() < 2000;
            assert!(shape_is_small, "{}", apart.shape.len());
            assert_eq!(put_together(&apart.shape, cross(&apart)).unwrap(), Args::Values(large(length)));
        }
        let text = take_text_apart("(1, 2)");
        assert_eq!(put_together(&text.shape, Vec::new()).unwrap(), Args::Text("(1, 2)".into()));
    }

    #[test]
    fn parts_that_do_not_match_are_refused() {
        let apart = take_apart(large(100_000));
        let refused = |parts| put_together(&apart.shape, parts).unwrap_err().code();
        assert_eq!(refused(Vec::new()), Code::BadArguments);
        let mut bad_text = cross(&apart);
        bytes_of(&mut bad_text[1])[0] = 0xff;
        assert_eq!(refused(bad_text), Code::BadArguments);
        assert_eq!(put_together(b"no message", Vec::new()).unwrap_err().code(), Code::BadArguments);
        assert_eq!(room(Number::F64, 7).unwrap_err().code(), Code::BadArguments);
    }

    #[test]
    fn a_part_is_used_once() {
        // Two values refer to the same part.
        let mut message = Builder::new_default();
        let mut list = message.init_root::<shape::Builder<'_>>().init_values(2);
        for index in 0..2 {
            list.reborrow().get(index).init_part().set_index(0);
        }
        let shape = serialize::write_message_to_words(&message);
        let parts = vec![List::U8(vec![1].into())];
        assert_eq!(put_together(&shape, parts).unwrap_err().code(), Code::BadArguments);
    }
}
