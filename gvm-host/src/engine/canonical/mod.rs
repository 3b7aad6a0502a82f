//! Passes values to and from components at the speed of static types, for signatures known only at run time.
//!
//! In: [`Args`], lowered into the guest according to the function's type. Out: [`Ret`], lifted from the guest's
//! result and checked in full. [`Tasked`] does the same on an engine that runs async tasks. `lower.rs` and `lift.rs`
//! walk values and types; strings, characters and packed lists
//! go through wasmtime's own implementations. This folder uses `wasmtime::component::__internal`, so the version of
//! wasmtime is pinned. Must not know: names of fields and cases, the text form of values, the caller.

mod lift;
mod lower;
mod tasks;

pub use self::tasks::{Tasked, slots};

use std::fmt;
use std::mem::MaybeUninit;

use wasmtime::component::__internal::wasmtime_environ::component::{MAX_FLAT_PARAMS, MAX_FLAT_RESULTS};
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Func, Lift, Lower, TypedFunc};
use wasmtime::{Result, ValRaw};

use crate::base::error::{Code, Effect, Error};
use crate::base::limits;
use crate::base::value::Value;

/// The arguments of one call, in the order of the parameters. `Send + Sync`, moved into the call.
#[derive(Clone, Debug, PartialEq)]
pub struct Args(pub Vec<Value>);

/// The result of one call, if the function has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Ret(pub Option<Value>);

/// Every parameter slot that the canonical ABI can pass without memory.
type Slots = [ValRaw; MAX_FLAT_PARAMS];

/// The one result slot.
type Slot = [ValRaw; MAX_FLAT_RESULTS];

/// An error in the conversion of values. It travels inside a [`wasmtime::Error`]. Any other error of a call comes from
/// running the guest: its function, its `realloc`, its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The guest passed a value that the canonical ABI forbids.
    Abi(String),
    /// The guest returned more than the store's hostcall fuel allows the host to copy.
    Fuel,
    /// A host value that does not have the function's type, or is larger than a guest can hold.
    Value(String),
}

/// Makes the function callable with any values; they are checked against its type while they are lowered. The result
/// is `Copy`, and belongs to the store of `func`.
pub fn typed(func: Func) -> TypedFunc<Args, Ret> {
    // SAFETY: `new_unchecked` requires that `Args` and `Ret` fit the function. They fit every function: both have
    // all the slots that there can be, and both walk the function's own type, which wasmtime passes at each call,
    // and return an error for a value that does not match it.
    unsafe { TypedFunc::new_unchecked(func) }
}

// SAFETY: `Lower` is an array of `ValRaw` and `Copy`. Its 16 slots make `flatten_count` return 16, so wasmtime always
// asks for the flat form, whose slots are all initialised below. wasmtime reads `ABI` only for lists of this type and
// for parameters that it passes on the heap. There are neither: our flat form creates the heap form itself.
// `typecheck` is called only by `Func::typed`, which is never used with this type; it returns an error.
unsafe impl ComponentType for Args {
    type Lower = Slots;
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR4;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Err(misused("Args"))
    }
}

// SAFETY: marks a type that represents all parameters of a function; see `ComponentType` above.
unsafe impl ComponentNamedList for Args {}

// SAFETY: on `Ok` every slot is initialised: all are zeroed first, then filled from the front with the values' flat
// form, or with one pointer to a block that `realloc` returned and wasmtime checked.
unsafe impl Lower for Args {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Slots>,
    ) -> Result<()> {
        let slots = dst.write([ValRaw::u64(0); MAX_FLAT_PARAMS]);
        lower::params(cx, ty, &self.0, slots).map_err(lower::blame)
    }

    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> Result<()> {
        Err(misused("Args"))
    }
}

// SAFETY: as for `Args`: one `ValRaw`, so wasmtime always asks for the flat form.
unsafe impl ComponentType for Ret {
    type Lower = Slot;
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR4;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Err(misused("Ret"))
    }
}

// SAFETY: marks a type that represents all results of a function; see `ComponentType` above.
unsafe impl ComponentNamedList for Ret {}

// SAFETY: reads the one slot according to the result's type. The slot is initialised even if the function has no
// result, because `Args` zeroes it. Guest memory is read as bytes, within its bounds.
unsafe impl Lift for Ret {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Slot) -> Result<Ret> {
        lift::result(cx, ty, src, MAX_FLAT_RESULTS).map(Ret).map_err(lift::blame)
    }

    fn linear_lift_from_memory(_: &mut LiftContext<'_>, _: InterfaceType, _: &[u8]) -> Result<Ret> {
        Err(misused("Ret"))
    }
}

// The impls above depend on these numbers of the canonical ABI.
const _: () = assert!(MAX_FLAT_PARAMS == 16 && MAX_FLAT_RESULTS == 1);

fn misused(what: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("`{what}` represents a whole signature, not one value"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Abi(what) => write!(f, "the guest breaks the canonical ABI: {what}"),
            Fault::Fuel => {
                let most = limits::bytes(limits::HOSTCALL_FUEL as u64);
                write!(f, "the result needs more than {most} of the host's memory, which is the limit")
            }
            Fault::Value(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}

/// A bad value of the guest becomes `TRAP`, a result that is too large `LIMIT_EXCEEDED`, and a host value that does
/// not fit `BAD_ARGUMENTS`.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let (code, effect) = match fault {
            Fault::Abi(_) => (Code::Trap, Effect::RanAndFailed),
            Fault::Fuel => (Code::LimitExceeded, Effect::RanAndFailed),
            Fault::Value(_) => (Code::BadArguments, Effect::NotStarted),
        };
        let error = Error::new(code, fault.to_string()).with_effect(effect);
        let error = match fault {
            Fault::Fuel => error.with_help("change the function to return its result in parts"),
            Fault::Abi(_) | Fault::Value(_) => error,
        };
        error.with_source(fault)
    }
}
