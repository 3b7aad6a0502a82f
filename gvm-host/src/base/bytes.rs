//! The bytes of a `list<u8>`.
//!
//! In: memory that the value owns, or memory of the caller that it shares; memory that a thread has prepared for a result.
//! Out: the bytes. Must not know: what the bytes are, where the caller's memory comes from.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that are read far more often than they are changed. `Send + Sync`. Dereferences to `[u8]`.
///
/// Embedders that have the bytes in memory of their own (an immutable Python object, a mapped file) share it with
/// [`Bytes::shared`], so that a large argument is copied once: into the guest.
#[derive(Clone)]
pub struct Bytes(Memory);

#[derive(Clone)]
enum Memory {
    Own(Vec<u8>),
    Shared(Arc<dyn Owner>),
}

/// Memory that does not change while the owner exists.
pub trait Owner: Any + Send + Sync {
    /// Returns the memory.
    fn bytes(&self) -> &[u8];
}

impl Bytes {
    /// Shares the memory of an owner.
    pub fn shared(owner: impl Owner) -> Bytes {
        Bytes(Memory::Shared(Arc::new(owner)))
    }

    /// Returns the owner of the memory, if it is shared and the owner has this type.
    pub fn owner<T: Owner>(&self) -> Option<&T> {
        match &self.0 {
            Memory::Own(_) => None,
            Memory::Shared(owner) => (&**owner as &dyn Any).downcast_ref(),
        }
    }

    /// Returns the bytes, which may be changed. Shared memory is copied first.
    pub fn to_mut(&mut self) -> &mut [u8] {
        if let Memory::Shared(owner) = &self.0 {
            self.0 = Memory::Own(owner.bytes().to_vec());
        }
        match &mut self.0 {
            Memory::Own(bytes) => bytes,
            Memory::Shared(_) => &mut [],
        }
    }

    /// Returns the bytes. Shared memory is copied.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Memory::Own(bytes) => bytes,
            Memory::Shared(owner) => owner.bytes().to_vec(),
        }
    }
}

/// Memory that is prepared for the bytes of a result.
pub trait Landing {
    /// Copies bytes into the memory, and returns them there. `None` if they do not belong there.
    fn land(&mut self, bytes: &[u8]) -> Option<Bytes>;
}

thread_local! {
    static LANDING: RefCell<Option<Box<dyn Landing>>> = const { RefCell::new(None) };
}

/// The thread has prepared memory until this is dropped.
pub struct Prepared {
    before: Option<Box<dyn Landing>>,
    /// It must be dropped on its thread.
    _here: PhantomData<*const ()>,
}

/// Prepares memory for the results of calls of live and fresh instances that this thread polls. A caller that waits
/// prepares memory which it can return as it is, so that a large result is copied once: out of the guest.
pub fn prepare(landing: Box<dyn Landing>) -> Prepared {
    let before = LANDING.with_borrow_mut(|place| place.replace(landing));
    Prepared { before, _here: PhantomData }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let own = LANDING.with_borrow_mut(|place| std::mem::replace(place, self.before.take()));
        drop(own);
    }
}

/// Copies bytes: into memory that this thread has prepared for them, or else into new memory.
pub(crate) fn land(bytes: &[u8]) -> Bytes {
    let landed = LANDING.with_borrow_mut(|place| place.as_mut().and_then(|landing| landing.land(bytes)));
    landed.unwrap_or_else(|| bytes.to_vec().into())
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Own(bytes) => bytes,
            Memory::Shared(owner) => owner.bytes(),
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(Memory::Own(bytes))
    }
}

impl FromIterator<u8> for Bytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Bytes {
        Vec::from_iter(bytes).into()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Bytes are equal whoever owns them.
impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed([u8; 3]);

    impl Owner for Fixed {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }

    struct Once(usize);

    impl Landing for Once {
        fn land(&mut self, bytes: &[u8]) -> Option<Bytes> {
            (bytes.len() == std::mem::take(&mut self.0)).then(|| Bytes::shared(Fixed([9; 3])))
        }
    }

    #[test]
    fn bytes_land_where_the_thread_has_prepared_memory() {
        assert_eq!(*land(&[1, 2]), [1, 2]);
        let outer = prepare(Box::new(Once(3)));
        let inner = prepare(Box::new(Once(1)));
        assert_eq!(*land(&[1, 2, 3]), [1, 2, 3]);
        drop(inner);
        assert_eq!(*land(&[1, 2, 3]), [9, 9, 9]);
        assert_eq!(*land(&[1, 2, 3]), [1, 2, 3]);
        drop(outer);
        assert!(land(&[]).is_empty());
    }

    #[test]
    fn shared_bytes_are_equal_to_owned_ones_and_never_change() {
        let shared = Bytes::shared(Fixed([1, 2, 3]));
        assert_eq!(shared, Bytes::from(vec![1, 2, 3]));
        assert_eq!(shared.owner::<Fixed>().unwrap().0, [1, 2, 3]);
        let mut copy = shared.clone();
        copy.to_mut()[0] = 7;
        assert_eq!((&*copy, &*shared), (&[7, 2, 3][..], &[1, 2, 3][..]));
        assert!(copy.owner::<Fixed>().is_none());
        assert_eq!(shared.into_vec(), [1, 2, 3]);
        // A list is as small as before.
        assert_eq!(size_of::<Bytes>(), size_of::<Vec<u8>>());
    }
}
