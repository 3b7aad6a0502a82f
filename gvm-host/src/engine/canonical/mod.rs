//! Values into and out of a component at typed speed, for signatures known only at run time.
//!
//! In: [`Args`], lowered into the guest as the function's own type directs. Out: [`Ret`], lifted
//! from what the guest handed back, every part of it checked. All the `unsafe` of the product is in
//! this folder; `lower.rs` and `lift.rs` walk values and types, and leave strings, characters and
//! packed lists to the implementations that wasmtime itself calls. It stands on
//! `wasmtime::component::__internal`, hence the pinned version. Must not know: names and text of
//! values, limits, who is calling.

mod lift;
mod lower;

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

/// What went wrong at the border itself. It travels inside a [`wasmtime::Error`]; any other error
/// that a call ends in comes from running the guest: its function, its `realloc`, its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The guest handed over what the canonical ABI forbids.
    Abi(String),
    /// The guest handed over more than the store's hostcall fuel lets the host copy.
    Fuel,
    /// A host value that is not of the function's type, or larger than a guest can hold.
    Value(String),
}

/// The function, callable with any values; they are checked against its type as they are lowered.
/// Copy; belongs to the store of `func`, like `func` itself.
pub fn typed(func: Func) -> TypedFunc<Args, Ret> {
    // SAFETY: what `new_unchecked` asks is that `Args` and `Ret` fit the function. They fit every
    // function: both hold all the slots there can be, and both walk the function's own type, given
    // by wasmtime at each call, and refuse with an error whatever does not match it.
    unsafe { TypedFunc::new_unchecked(func) }
}

// SAFETY: `Lower` is an array of `ValRaw` and `Copy`. Its 16 slots make `flatten_count` answer 16,
// so that wasmtime always asks for the flat form, whose slots are all initialised below. `ABI` is
// read only for lists of this type and for parameters passed on the heap by wasmtime; there are
// neither, for the heap form is made by our own flat form. `typecheck` is reached only through
// `Func::typed`, which nobody calls with this type; it refuses.
unsafe impl ComponentType for Args {
    type Lower = Slots;
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR4;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Err(misused("Args"))
    }
}

// SAFETY: marks a type that stands for a function's parameters; see `ComponentType` above.
unsafe impl ComponentNamedList for Args {}

// SAFETY: on `Ok` every slot is initialised: all are zeroed first, then filled from the front with
// the values' flat form, or with the one pointer to a block that `realloc` gave and wasmtime checked.
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

// SAFETY: as for `Args`: one `ValRaw`, so that wasmtime always asks for the flat form.
unsafe impl ComponentType for Ret {
    type Lower = Slot;
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR4;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Err(misused("Ret"))
    }
}

// SAFETY: marks a type that stands for a function's results; see `ComponentType` above.
unsafe impl ComponentNamedList for Ret {}

// SAFETY: reads the one slot, which is initialised even where the function has no result (`Args`
// zeroes it), as the result's type directs; guest memory is read as bytes, within its bounds.
unsafe impl Lift for Ret {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Slot) -> Result<Ret> {
        match lift::result(cx, ty, &src[0]) {
            Ok(value) => Ok(Ret(value)),
            Err(error) => Err(lift::blame(error)),
        }
    }

    fn linear_lift_from_memory(_: &mut LiftContext<'_>, _: InterfaceType, _: &[u8]) -> Result<Ret> {
        Err(misused("Ret"))
    }
}

// The two impls above lean on the canonical ABI's own numbers.
const _: () = assert!(MAX_FLAT_PARAMS == 16 && MAX_FLAT_RESULTS == 1);

fn misused(what: &str) -> wasmtime::Error {
    wasmtime::Error::msg(format!("`{what}` stands for a whole signature, never for one value"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Abi(what) => write!(f, "value breaks the canonical ABI: {what}"),
            Fault::Fuel => {
                let most = limits::bytes(limits::HOSTCALL_FUEL as u64);
                write!(
                    f,
                    "the result takes more than the {most} of the node's memory that one result may take: \
                     return it in parts"
                )
            }
            Fault::Value(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}

/// The coded error: a guest's bad value is a trap, too much of it a limit, a host value that does
/// not fit the caller's mistake.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        let (code, effect) = match fault {
            Fault::Abi(_) => (Code::Trap, Effect::RanAndFailed),
            Fault::Fuel => (Code::LimitExceeded, Effect::RanAndFailed),
            Fault::Value(_) => (Code::BadArguments, Effect::NotStarted),
        };
        Error::new(code, fault.to_string()).with_effect(effect).with_source(fault)
    }
}
