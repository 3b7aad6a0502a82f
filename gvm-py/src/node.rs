//! A node; the Rust part of `gvm/_nodes.py`.
//!
//! In: method calls of the Python classes. Out: requests (`op.rs`) with their results. Must not know: the
//! Python classes of peers, modules and pools.

use std::time::Duration;

use futures::FutureExt;
use gvm_host::parse::Expr;
use gvm_host::{
    Args, Call, Code, Error, Handle, ModuleRef, Name, Nested, NodeName, Outcome, Result, Stdio, Target,
    call_id,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::watch;

use crate::errors::Raise;
use crate::events::{Ending, Events};
use crate::fork::{self, Owned};
use crate::function::{Function, check_open, shown};
use crate::lookup::{Core, Found, Place, read, read_module, read_place};
use crate::module::{Fresh, ModuleCore};
use crate::op::{Finish, Job, Op, Written};
use crate::options::Options;
use crate::output::above;
use crate::start::Start;

/// A running node.
#[pyclass(frozen, module = "gvm._gvm", name = "Node")]
pub struct NodeCore {
    core: Owned<Core>,
    options: Options,
    /// Becomes true once the node has ended.
    ended: watch::Sender<bool>,
}

impl NodeCore {
    /// Returns the node, which may be closed.
    fn any(&self, py: Python<'_>) -> PyResult<&Core> {
        fork::check().or_raise(py)?;
        self.core.get().ok_or_else(|| crate::errors::exception(py, &Error::internal("the node is gone")))
    }

    /// Returns the node, which must not be closed.
    fn core(&self, py: Python<'_>) -> PyResult<&Core> {
        let core = self.any(py)?;
        check_open(py, core)?;
        Ok(core)
    }

    fn handle(&self, py: Python<'_>) -> PyResult<Handle> {
        Ok(self.core(py)?.handle().clone())
    }

    fn place(&self, py: Python<'_>, place: Option<&str>) -> PyResult<Option<NodeName>> {
        read_place(self.core(py)?.handle(), place).or_raise(py)
    }
}

#[pymethods]
impl NodeCore {
    /// Starts a node.
    #[staticmethod]
    fn start(py: Python<'_>, config: &Bound<'_, PyDict>, options: &Bound<'_, PyDict>) -> PyResult<Op> {
        fork::start().or_raise(py)?;
        let options = Options::default().with(Some(options))?;
        let start: Start = config.extract()?;
        let limits = options.limits;
        let starting = async move { Handle::start(start.config(limits)?).await };
        Ok(Op::of(starting, move |py, handle| {
            let (core, options) = (Owned::new(Core::new(handle)), options.own(py));
            Ok(Py::new(py, NodeCore { core, options, ended: watch::Sender::new(false) })?.into_any())
        }))
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.any(py)?.handle().name().to_string())
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.any(py)?.handle().info().id.to_string())
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.any(py)?.handle().info().address.clone())
    }

    /// Returns whether the node was told to end.
    #[getter]
    fn closed(&self) -> bool {
        self.core.get().is_none_or(Core::closed)
    }

    fn discover(&self, py: Python<'_>) -> PyResult<Op> {
        let handle = self.handle(py)?;
        Ok(Op::of(async move { handle.discover().await }, names))
    }

    fn list(&self, py: Python<'_>) -> PyResult<Op> {
        let handle = self.handle(py)?;
        Ok(Op::of(async move { handle.list().await }, names))
    }

    fn connect(&self, py: Python<'_>, name: &str) -> PyResult<Op> {
        let (handle, name) = (self.handle(py)?, name.parse::<NodeName>().or_raise(py)?);
        let connecting = async move { handle.connect(name).await };
        Ok(Op::of(connecting, |py, name| Ok(name.as_str().into_pyobject(py)?.into_any().unbind())))
    }

    /// Waits for `pause` seconds and checks whether a node is connected. If it is not, `dial` connects to it.
    /// Returns whether it is connected.
    fn reach(&self, py: Python<'_>, name: &str, dial: bool, pause: f64) -> PyResult<Op> {
        let (handle, name) = (self.handle(py)?, name.parse::<NodeName>().or_raise(py)?);
        let pause = Duration::try_from_secs_f64(pause).unwrap_or_default();
        let reaching = async move {
            tokio::time::sleep(pause).await;
            let connected = handle.list().await?.iter().any(|node| node.name == name);
            if !connected && dial {
                handle.connect(name).await?;
            }
            Ok(connected || dial)
        };
        Ok(Op::of(reaching, |py, reached: bool| {
            Ok(reached.into_pyobject(py)?.to_owned().into_any().unbind())
        }))
    }

    fn disconnect(&self, py: Python<'_>, name: &str) -> PyResult<Op> {
        let (handle, name) = (self.handle(py)?, name.parse::<NodeName>().or_raise(py)?);
        Ok(Op::nothing(async move { handle.disconnect(name).await }))
    }

    /// Returns the object that ends the node, and refers to no Python object of it.
    fn ending(&self, py: Python<'_>) -> PyResult<Ending> {
        Ok(Ending::new(self.any(py)?.clone(), self.ended.clone()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.options.traverse(&visit)
    }

    /// Ends the session of another node on this node.
    fn revoke(&self, py: Python<'_>, name: &str) -> PyResult<Op> {
        let (handle, name) = (self.handle(py)?, name.parse::<NodeName>().or_raise(py)?);
        Ok(Op::nothing(async move { handle.revoke(name).await }))
    }

    /// Answers the question whether a node may connect.
    fn answer(&self, py: Python<'_>, id: u64, yes: bool) -> PyResult<Op> {
        let handle = self.handle(py)?;
        Ok(Op::nothing(async move { handle.answer(id, yes).await }))
    }

    /// Finds a module, to run on this node or on another one.
    #[pyo3(signature = (place, name, options))]
    fn module(
        &self,
        py: Python<'_>,
        place: Option<&str>,
        name: &str,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Op> {
        let core = self.core(py)?.clone();
        let place = core.place(self.place(py, place)?);
        let module = read_module(name).or_raise(py)?;
        let options = self.options.with(Some(options))?;
        let looking = {
            let (core, module) = (core.clone(), module.clone());
            async move { core.find(&module).await }
        };
        Ok(Op::of(looking, move |py, found: Found| {
            let (noun, fresh) = (module.to_string(), None);
            let options = options.own(py);
            Ok(Py::new(py, ModuleCore { core, place, module, noun, found, options, fresh })?.into_any())
        }))
    }

    /// Starts a live instance of a module, on this node or on another one.
    #[pyo3(signature = (place, name, options))]
    fn spawn(
        &self,
        py: Python<'_>,
        place: Option<&str>,
        name: &str,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Op> {
        let (core, place) = (self.core(py)?.clone(), self.place(py, place)?);
        let module = read_module(name).or_raise(py)?;
        let options = self.options.with(Some(options))?;
        let noun = module.to_string();
        let spawning = {
            let (core, place, limits) = (core.clone(), place.clone(), options.limits);
            async move {
                let found = core.find(&module).await?;
                let target = Target { module, interface: None, function: None };
                let name = core.handle().spawn(place, target, limits).await?;
                Ok((found, Fresh::new(core, name)))
            }
        };
        Ok(Op::of(spawning, move |py, (found, fresh): (Found, Fresh)| {
            let place = core.place(place);
            let (module, fresh) = (ModuleRef::Instance(fresh.name.clone()), Some(fresh));
            // The timeout limits each call, not the life of the instance.
            let options = options.own(py);
            Ok(Py::new(py, ModuleCore { core, place, module, noun, found, options, fresh })?.into_any())
        }))
    }

    /// Drops a live instance.
    fn drop_instance(&self, py: Python<'_>, name: &str) -> PyResult<Op> {
        let (handle, name) = (self.handle(py)?, name.parse::<Name>().or_raise(py)?);
        Ok(Op::nothing(async move { handle.drop_instance(name).await }))
    }

    /// Returns the live instances that this node spawned: name, module, node.
    fn instances(&self, py: Python<'_>) -> PyResult<Vec<(String, String, String)>> {
        let handle = self.handle(py)?;
        let own = handle.name().to_string();
        let shown = handle.instances().into_iter().map(|(name, place)| {
            let node = place.node.map_or_else(|| own.clone(), |node| node.to_string());
            (name.to_string(), place.module, node)
        });
        Ok(shown.collect())
    }

    /// Finds the function `module.function`, to run on this node or on another one.
    fn function(&self, py: Python<'_>, place: Option<&str>, text: &str) -> PyResult<Op> {
        let (core, place) = (self.core(py)?.clone(), self.place(py, place)?);
        let Expr { mut target, .. } = read(text).or_raise(py)?;
        let place = core.find_instance(&mut target, place).or_raise(py)?;
        let options = self.options.clone();
        let looking = {
            let (core, node, target) = (core.clone(), place.node.clone(), target.clone());
            async move { signature(&core, node, &target).await }
        };
        Ok(Op::of(looking, move |py, (hash, ty)| {
            let function = Function::new(py, core, place, target, options, (hash, &ty))?;
            Ok(Py::new(py, function)?.into_any())
        }))
    }

    /// Runs a module's main. The arguments are its command line.
    fn main(
        &self,
        py: Python<'_>,
        place: Option<&str>,
        text: &str,
        argv: Vec<String>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Op> {
        let (core, place) = (self.core(py)?.clone(), self.place(py, place)?);
        let module = read_module(text).or_raise(py)?;
        let mut target = Target { module, interface: None, function: None };
        let place = core.find_instance(&mut target, place).or_raise(py)?;
        let argv = [vec![target.module.to_string()], argv].concat();
        let options = self.options.with(Some(options))?;
        Ok(op(core, place, Call::new(target, Args::Argv(argv)), &options))
    }

    /// Runs a call in the syntax of the REPL. Nested calls in its arguments run first.
    fn evaluate(
        &self,
        py: Python<'_>,
        place: Option<&str>,
        text: &str,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Op> {
        let (core, place) = (self.core(py)?.clone(), self.place(py, place)?);
        let expr = read(text).or_raise(py)?;
        let mut nested = Nested::new(core.handle().clone(), place, expr).or_raise(py)?;
        let options = self.options.with(Some(options))?;
        let stdio = Stdio::new(&core.handle().runner().limits().narrow(options.limits));
        let (above, limits, id) = (above(), options.limits, call_id());
        let (pipe, sinks) = (stdio.output.clone(), options.sinks.clone());
        let output = Some(Written { call: id, pipe, sinks });
        let future = async move {
            let run = async {
                while let Some(ready) = nested.next_call()? {
                    let mut call = ready.call().limits(limits).above(above.clone());
                    if ready.is_outermost {
                        call.id = id;
                    }
                    let outcome = core.run(core.place(ready.place.clone()), call, stdio.clone()).await;
                    if ready.is_outermost {
                        return Ok(outcome);
                    }
                    nested.answer(&ready.title(), outcome)?;
                }
                Err(Error::internal("the text has no call"))
            };
            let outcome = run.await.unwrap_or_else(Outcome::failed);
            Box::new(move |py: Python<'_>| shown(py, None, outcome)) as Finish
        };
        Ok(Op::new(Job { future: future.boxed(), output }))
    }

    /// Returns the events of this node from now on. The reader answers the nodes that ask to connect.
    fn events(&self, py: Python<'_>) -> PyResult<Events> {
        Ok(Events::of(self.core(py)?.handle(), self.ended.subscribe()))
    }
}

fn names(py: Python<'_>, nodes: Vec<gvm_host::NodeInfo>) -> PyResult<Py<PyAny>> {
    let names: Vec<String> = nodes.into_iter().map(|node| node.name.to_string()).collect();
    Ok(names.into_pyobject(py)?.unbind())
}

/// Returns the signature of a function, from the module in the home or from the node that has it.
async fn signature(
    core: &Core,
    place: Option<NodeName>,
    target: &Target,
) -> Result<(Option<gvm_host::Hash>, gvm_host::FuncType)> {
    let name = target.function.as_deref().unwrap_or_default();
    if matches!(target.module, ModuleRef::Stored { .. }) {
        match core.find(&target.module).await {
            Ok(Found { hash, info }) => {
                let noun = target.module.to_string();
                let export = info.find(&noun, target.interface.as_deref(), name)?;
                return Ok((Some(hash), export.ty.clone()));
            }
            // The other node may have a module that this home does not have.
            Err(error) if error.code() == Code::ModuleNotFound && place.is_some() => {}
            Err(error) => return Err(error),
        }
    }
    let described = core.handle().describe(place, target.clone()).await?;
    let main = || Error::new(Code::FunctionNotFound, format!("`{}.{name}` is not a function", target.module));
    Ok((None, described.ok_or_else(main)?))
}

fn op(core: Core, place: Place, mut call: Call, options: &Options) -> Op {
    call.limits = options.limits;
    call.above = above();
    let stdio = Stdio::new(&core.handle().runner().limits().narrow(options.limits));
    let (pipe, sinks) = (stdio.output.clone(), options.sinks.clone());
    let output = Some(Written { call: call.id, pipe, sinks });
    let future = async move {
        let outcome = core.run(place, call, stdio).await;
        Box::new(move |py: Python<'_>| shown(py, None, outcome)) as Finish
    };
    Op::new(Job { future: future.boxed(), output })
}
