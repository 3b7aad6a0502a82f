//! A function of a module or of a live instance, as a Python callable.
//!
//! In: Python arguments. Out: the result of the function, and its output while it runs. Arguments are checked
//! against the signature before anything is sent. Must not know: how names are read (`lookup.rs`).

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use gvm_host::text::inert;
use gvm_host::{Args, Call, Code, Error, FuncType, Hash, Outcome, Stdio, Target, Value};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::drive::{How, drive};
use crate::errors::{Raise, closed, exception};
use crate::fork;
use crate::from_python::{self, Bad};
use crate::lookup::{Core, Place};
use crate::op::{Finish, Job, Op, Written};
use crate::options::{Options, Sinks};
use crate::output::{Writer, above};
use crate::plan::{Plan, Signature, attribute};
use crate::to_python;

// A WebAssembly function. Not a doc comment: each function's `__doc__` is its own.
#[pyclass(frozen, module = "gvm")]
pub struct Function {
    core: Core,
    place: Place,
    target: Target,
    options: Options,
    known: Mutex<Known>,
    /// Kept alive by the function: the node, with its private network.
    owner: Option<Py<PyAny>>,
}

/// The signature when it was last read.
#[derive(Clone)]
struct Known {
    /// None for a live instance, whose signature cannot change.
    hash: Option<Hash>,
    signature: Arc<Signature>,
}

impl Function {
    /// Makes a function with this signature. The hash is that of the stored module, if it has one.
    ///
    /// # Errors
    /// See [`Signature::new`].
    pub fn new(
        py: Python<'_>,
        core: Core,
        place: Place,
        target: Target,
        options: Options,
        (hash, ty): (Option<Hash>, &FuncType),
    ) -> PyResult<Function> {
        let known = Known { hash, signature: Arc::new(Signature::new(py, ty)?) };
        Ok(Function { core, place, target, options: options.own(py), known: Mutex::new(known), owner: None })
    }

    /// The same function, which keeps `owner` alive.
    pub fn owned_by(self, owner: Option<Py<PyAny>>) -> Function {
        Function { owner, ..self }
    }

    /// Returns the current signature. A new version of the module may have been uploaded since the last call.
    fn signature(&self, py: Python<'_>) -> PyResult<Arc<Signature>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = known.hash.and_then(|_| self.core.hash_now(&self.target.module));
        if now.is_none() || now == known.hash {
            return Ok(known.signature);
        }
        let found =
            drive(py, pin!(self.core.find(&self.target.module)), None, How::default())?.or_raise(py)?;
        let name = self.target.function.as_deref().unwrap_or_default();
        let noun = self.target.module.to_string();
        let export = found.info.find(&noun, self.target.interface.as_deref(), name).or_raise(py)?;
        let signature = Arc::new(Signature::new(py, &export.ty)?);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            Known { hash: Some(found.hash), signature: signature.clone() };
        Ok(signature)
    }

    fn call(&self, values: Vec<Value>, options: &Options) -> Call {
        let mut call = Call::new(self.target.clone(), Args::Values(values));
        call.limits = options.limits;
        call.above = above();
        call
    }

    fn stdio(&self, options: &Options) -> Stdio {
        Stdio::new(&self.core.handle().runner().limits().narrow(options.limits))
    }

    /// Returns the request that calls the function with these arguments. It has not started.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS`.
    pub fn op(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        options: &Options,
    ) -> PyResult<Op> {
        check_open(py, &self.core)?;
        let signature = self.signature(py)?;
        let values = arguments(py, &self.target, &signature, args, kwargs)?;
        let stdio = self.stdio(options);
        let (core, place) = (self.core.clone(), self.place.clone());
        let call = self.call(values, options);
        let (pipe, sinks) = (stdio.output.clone(), options.sinks.clone());
        let output = Some(Written { call: call.id, pipe, sinks });
        let future = async move {
            let outcome = core.run(place, call, stdio).await;
            Box::new(move |py: Python<'_>| shown(py, Some(&signature), outcome)) as Finish
        };
        Ok(Op::new(Job { future: future.boxed(), output }))
    }

    /// Returns the call of the function with these arguments, its streams, and the signature for its result.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS`.
    pub fn ready(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<(Arc<Signature>, Call, Stdio)> {
        check_open(py, &self.core)?;
        let signature = self.signature(py)?;
        let values = arguments(py, &self.target, &signature, args, None)?;
        Ok((signature, self.call(values, &self.options), self.stdio(&self.options)))
    }

    /// Returns where the function runs.
    pub fn place(&self) -> (Core, Place) {
        (self.core.clone(), self.place.clone())
    }

    /// Returns whether the function runs on the node of this process that makes its calls.
    pub fn is_here(&self) -> bool {
        self.place.node.is_none()
    }

    /// Returns the functions that receive the output.
    pub fn sinks(&self) -> Arc<Sinks> {
        self.options.sinks.clone()
    }

    fn name(&self) -> &str {
        self.target.function.as_deref().unwrap_or_default()
    }
}

/// Checks that a node is not closed.
///
/// # Errors
/// `NODE_DOWN`; `NOT_PERMITTED` in the child of a fork.
pub fn check_open(py: Python<'_>, core: &Core) -> PyResult<()> {
    fork::check().or_raise(py)?;
    if core.closed() { Err(closed(py, core.handle().name())) } else { Ok(()) }
}

fn unpicklable(py: Python<'_>, what: &str) -> PyErr {
    let why = "it belongs to a node of this process";
    let error = PyTypeError::new_err(format!("{what} cannot be pickled or copied: {why}"));
    let help = "help: pass the names of the module and the function to the other process";
    let noted = error.value(py).call_method1(intern!(py, "add_note"), (help,));
    noted.err().unwrap_or(error)
}

/// Converts an outcome into a Python object.
///
/// # Errors
/// The exception of its error.
pub fn shown(py: Python<'_>, signature: Option<&Signature>, outcome: Outcome) -> PyResult<Py<PyAny>> {
    let Some(value) = outcome.result.or_raise(py)? else { return Ok(py.None()) };
    let plan = signature.and_then(|signature| signature.result.as_ref());
    let shown = match (plan, &outcome.ty) {
        (Some(plan), Some(ty)) if plan.ty == *ty => to_python::returned(py, plan, &value),
        // The version of the module that answered is not the one that the signature is from.
        (_, Some(ty)) => to_python::returned(py, &Plan::new(py, ty)?, &value),
        (Some(plan), None) => to_python::returned(py, plan, &value),
        (None, None) => {
            return Err(exception(py, &Error::internal("the node returned a value without a type")));
        }
    };
    shown.map(Bound::unbind)
}

/// Converts positional and keyword arguments into values.
fn arguments(
    py: Python<'_>,
    target: &Target,
    signature: &Signature,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<Vec<Value>> {
    let function = || target.function.as_deref().unwrap_or_default();
    let coded = |message: String| {
        let error = Error::new(Code::BadArguments, message);
        error.with_context(format!("  {}: {}", inert::line(function()), signature.ty))
    };
    let wrong = |message: String| exception(py, &coded(message));
    let named = kwargs.map_or(0, |kwargs| kwargs.len());
    let wanted = signature.params.len();
    if args.len() > wanted {
        let takes = if wanted == 1 { "argument" } else { "arguments" };
        let (given, were) = (args.len(), if args.len() == 1 { "was" } else { "were" });
        return Err(wrong(format!("`{}` takes {wanted} {takes}, but {given} {were} given", function())));
    }
    let mut values = Vec::with_capacity(wanted);
    let mut used = 0;
    for (place, plan) in signature.params.iter().enumerate() {
        let name = &signature.ty.params[place].name;
        let by_name = match kwargs {
            Some(kwargs) if named > 0 => kwargs.get_item(&signature.names[place])?,
            _ => None,
        };
        let object = match (place < args.len(), by_name) {
            (true, None) => args.get_item(place)?,
            (false, Some(object)) => {
                used += 1;
                object
            }
            (true, Some(_)) => return Err(wrong(format!("the argument `{name}` was given twice"))),
            (false, None) => return Err(wrong(format!("the argument `{name}` ({}) is missing", plan.ty))),
        };
        match from_python::value(plan, &object) {
            Ok(value) => values.push(value),
            Err(Bad::Raised(error)) => return Err(error),
            Err(Bad::Misfit { path, message, help }) => {
                let error = coded(format!("`{name}{path}`: {message}"));
                let error = match help {
                    Some(help) => error.with_help(help),
                    None => error,
                };
                return Err(exception(py, &error));
            }
        }
    }
    if let Some(kwargs) = kwargs.filter(|_| used < named) {
        let known = |key: &Bound<'_, PyAny>| {
            signature.names.iter().any(|name| key.eq(name.bind(py)).unwrap_or(false))
        };
        let strange = kwargs.keys().iter().find(|key| !known(key));
        return Err(wrong(match strange {
            Some(key) => format!("`{}` has no parameter `{key}`", function()),
            None => "an argument was given twice".to_owned(),
        }));
    }
    Ok(values)
}

#[pymethods]
impl Function {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        check_open(py, &self.core)?;
        let signature = self.signature(py)?;
        let values = arguments(py, &self.target, &signature, args, kwargs)?;
        let stdio = self.stdio(&self.options);
        let pipe = stdio.output.clone();
        let call = self.call(values, &self.options);
        let mut writer = Writer::here(call.id, self.options.sinks.clone());
        let running = pin!(self.core.run(self.place.clone(), call, stdio));
        let outcome = drive(py, running, Some((&pipe, &mut writer)), signature.last.how(py, self.is_here()))?;
        signature.last.note(&outcome);
        shown(py, Some(&signature), outcome)
    }

    /// The awaitable twin: `await function.aio(…)`.
    #[getter]
    fn aio(slf: Bound<'_, Self>) -> Twin {
        Twin { function: slf.unbind() }
    }

    /// Returns the same function with other options: timeout, max_memory, max_output, fuel, stdout, stderr.
    #[pyo3(signature = (**options))]
    fn options(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Function> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Function {
            core: self.core.clone(),
            place: self.place.clone(),
            target: self.target.clone(),
            options: self.options.with(options)?.own(py),
            known: Mutex::new(known),
            owner: self.owner.as_ref().map(|owner| owner.clone_ref(py)),
        })
    }

    /// Returns the request that calls the function with these arguments. It has not started.
    #[pyo3(signature = (args, kwargs=None, options=None))]
    fn prepare(
        &self,
        py: Python<'_>,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Op> {
        self.op(py, args, kwargs, &self.options.with(options)?)
    }

    /// The signature in WIT: `add: func(a: s32, b: s32) -> s32`.
    #[getter]
    fn wit(&self, py: Python<'_>) -> PyResult<String> {
        Ok(inert::line(&format!("{}: {}", self.name(), self.signature(py)?.ty)).into_owned())
    }

    #[getter]
    fn __name__(&self, py: Python<'_>) -> PyResult<String> {
        // The author of a core module chooses any name, and `help` prints it.
        let name = attribute(py, self.name())?;
        Ok(inert::line(name.bind(py).to_str()?).into_owned())
    }

    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("{}.{}", self.target.module, self.__name__(py)?))
    }

    #[getter]
    fn __doc__(&self, py: Python<'_>) -> PyResult<String> {
        let interface = self.target.interface.as_ref().map(|name| format!(" of {}", inert::line(name)));
        let interface = interface.unwrap_or_default();
        let place = match &self.place.node {
            Some(node) => format!("on {node}"),
            None => "here".to_owned(),
        };
        Ok(format!("{}\n\nA function{interface} of {}, run {place}.", self.wit(py)?, self.target.module))
    }

    /// The signature for `inspect.signature`, with WIT types as annotations.
    #[getter]
    fn __signature__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let signature = self.signature(py)?;
        let types = signature.ty.params.iter().map(|param| param.ty.to_string());
        let params = PyTuple::new(py, signature.names.iter())?;
        let types = PyTuple::new(py, types)?;
        let result = signature.ty.result.as_ref().map(ToString::to_string);
        py.import(intern!(py, "gvm._values"))?.call_method1(intern!(py, "signature"), (params, types, result))
    }

    /// Makes `help()` show it as a function. It does not bind to an instance.
    fn __get__(slf: Py<Self>, _instance: &Bound<'_, PyAny>, _owner: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.owner)?;
        self.options.traverse(&visit)
    }

    fn __reduce__(&self, py: Python<'_>) -> PyResult<()> {
        Err(unpicklable(py, "a gvm.Function"))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let place = self.place.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = self.__qualname__(py)?;
        Ok(format!("<function {name}{place}: {}>", known.signature.ty))
    }
}

// A function's awaitable twin.
#[pyclass(frozen, module = "gvm")]
pub struct Twin {
    function: Py<Function>,
}

#[pymethods]
impl Twin {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.get();
        let op = function.op(py, args, kwargs, &function.options)?;
        py.import(intern!(py, "gvm._loop"))?.call_method1(intern!(py, "awaiting"), (op,))
    }

    #[getter]
    fn __signature__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.function.get().__signature__(py)
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        "aio"
    }

    #[getter]
    fn __doc__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("The awaitable twin of {}", self.function.get().wit(py)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)
    }

    fn __reduce__(&self, py: Python<'_>) -> PyResult<()> {
        Err(unpicklable(py, "the awaitable twin of a gvm.Function"))
    }

    /// Does not bind to an instance, like a function's.
    fn __get__(slf: Py<Self>, _instance: &Bound<'_, PyAny>, _owner: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}
