//! Calls of functions on an engine that runs async tasks.
//!
//! In: a function of a component, how many slots its result takes, and arguments. Out: a future of the result. Must not
//! know: which of the functions are async, the caller.
//!
//! On such an engine, wasmtime hands over the slots of a result as a slice that has exactly as many elements as the core
//! function has results, or `task.return` parameters. It panics if a type has more. So there is a type for each number of
//! slots, and [`slots`] computes the number, from the function's type and from how it is lifted. A function that is
//! lifted async passes up to 16 slots, any other one passes one.

use std::pin::Pin;

use wasmtime::component::__internal::wasmtime_environ::component::{MAX_FLAT_PARAMS, MAX_FLAT_RESULTS};
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext};
use wasmtime::component::{ComponentNamedList, ComponentType, Func, Lift, TypedFunc};
use wasmtime::{Result, Store, ValRaw};

use super::{Args, Ret, lift, misused};
use crate::base::value::Type;

/// A function on an engine with async tasks. It belongs to the store of its `Func`.
#[derive(Clone, Copy)]
pub struct Tasked {
    func: Func,
    slots: usize,
}

/// The future of a call.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Ret>> + Send + 'a>>;

impl Tasked {
    /// Makes the function callable with any values. `slots` must be what [`slots`] returns for its result.
    pub fn new(func: Func, slots: usize) -> Tasked {
        Tasked { func, slots }
    }

    /// Calls the function. Tasks that it leaves behind run on with the next call in the store.
    pub fn call<T: Send>(self, store: &mut Store<T>, args: Args) -> Running<'_> {
        macro_rules! with_slots {
            ($($count:literal)*) => {
                match self.slots {
                    $($count => run::<T, $count>(self.func, store, args),)*
                    _ => Box::pin(async { Err(wasmtime::Error::msg("a result of too many slots")) }),
                }
            };
        }
        with_slots!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    }
}

fn run<T: Send, const N: usize>(func: Func, store: &mut Store<T>, args: Args) -> Running<'_> {
    // SAFETY: `new_unchecked` requires that `Args` and `Slotted` fit the function. As for `typed`: both walk the
    // function's own type and return an error for a value that does not match it. wasmtime checks that the result has `N`
    // slots.
    let func: TypedFunc<Args, Slotted<N>> = unsafe { TypedFunc::new_unchecked(func) };
    Box::pin(async move { Ok(func.call_async(store, args).await?.0) })
}

/// Returns in how many slots the result of a function comes, if it is lifted in this way.
pub fn slots(result: Option<&Type>, lifted_async: bool) -> usize {
    let most = if lifted_async { MAX_FLAT_PARAMS } else { MAX_FLAT_RESULTS };
    match result.map(flat_count) {
        None => 0,
        Some(count) if count <= most => count,
        // A pointer.
        Some(_) => 1,
    }
}

/// Returns the number of slots in the flat form of a type, or more than [`MAX_FLAT_PARAMS`] if they are more.
fn flat_count(ty: &Type) -> usize {
    const MORE: usize = MAX_FLAT_PARAMS + 1;
    let all = |counts: &mut dyn Iterator<Item = usize>| counts.fold(0, |sum, count| MORE.min(sum + count));
    let widest = |counts: &mut dyn Iterator<Item = usize>| MORE.min(1 + counts.max().unwrap_or_default());
    match ty {
        Type::String | Type::List(_) | Type::Map(_) => 2,
        Type::FixedList(element, length) => MORE.min(flat_count(element).saturating_mul(*length as usize)),
        Type::Record(fields) => all(&mut fields.iter().map(|field| flat_count(&field.ty))),
        Type::Tuple(types) => all(&mut types.iter().map(flat_count)),
        Type::Variant(cases) => widest(&mut cases.iter().filter_map(|case| case.ty.as_ref()).map(flat_count)),
        Type::Option(ty) => widest(&mut std::iter::once(flat_count(ty))),
        Type::Result(ty) => widest(&mut [&ty.ok, &ty.err].into_iter().flatten().map(flat_count)),
        Type::Flags(names) => MORE.min(names.len().div_ceil(32)),
        _ => 1,
    }
}

/// The result of one call, in `N` slots.
struct Slotted<const N: usize>(Ret);

// SAFETY: as for `Ret`: an array of `ValRaw`, which is all that `flatten_count` may say. It is at most
// `MAX_FLAT_PARAMS`, and at most one for a function that is not lifted async, so wasmtime always uses the flat form.
unsafe impl<const N: usize> ComponentType for Slotted<N> {
    type Lower = [ValRaw; N];
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR4;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Err(misused("Slotted"))
    }
}

// SAFETY: marks a type that represents all results of a function; see `ComponentType` above.
unsafe impl<const N: usize> ComponentNamedList for Slotted<N> {}

// SAFETY: reads the slots that it was given, according to the result's type, and guest memory within its bounds.
unsafe impl<const N: usize> Lift for Slotted<N> {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        src: &[ValRaw; N],
    ) -> Result<Slotted<N>> {
        let most = if cx.options().async_ { MAX_FLAT_PARAMS } else { MAX_FLAT_RESULTS };
        lift::result(cx, ty, src, most).map(|value| Slotted(Ret(value))).map_err(lift::blame)
    }

    fn linear_lift_from_memory(_: &mut LiftContext<'_>, _: InterfaceType, _: &[u8]) -> Result<Slotted<N>> {
        Err(misused("Slotted"))
    }
}
