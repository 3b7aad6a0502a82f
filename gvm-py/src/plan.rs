//! The plan for converting values of one WIT type, made once per function.
//!
//! In: a [`Type`]. Out: the same tree with the Python objects that the conversion needs: names as Python
//! strings, the class of each record. Must not know: values.

use std::sync::Arc;

use gvm_host::{FuncType, Type};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

use crate::last::Last;

/// A type, with everything that converts its values.
pub struct Plan {
    pub ty: Type,
    pub shape: Shape,
}

/// The structure of a type.
pub enum Shape {
    /// A bool, a number, a character, or a string.
    Plain,
    /// Of any length, or of the fixed length in the type.
    List(Box<Plan>),
    Map {
        key: Box<Plan>,
        value: Box<Plan>,
    },
    Record(Record),
    Tuple(Vec<Plan>),
    Variant(Names, Vec<Option<Plan>>),
    Enum(Names),
    /// With `wraps`, a value is wrapped in `gvm.Some`, because the value may itself be None.
    Option {
        some: Box<Plan>,
        wraps: bool,
    },
    Result {
        ok: Option<Box<Plan>>,
        err: Option<Box<Plan>>,
    },
    Flags(Names),
}

/// A record's class and the names of its fields.
pub struct Record {
    pub class: Py<PyType>,
    /// The names as Python attributes.
    pub attributes: Vec<Py<PyString>>,
    /// The names in WIT.
    pub names: Vec<Arc<str>>,
    pub fields: Vec<Plan>,
}

/// The names of cases or flags, as in WIT.
pub struct Names {
    pub wit: Vec<Arc<str>>,
    pub python: Vec<Py<PyString>>,
}

impl Names {
    fn new<'a>(py: Python<'_>, names: impl Iterator<Item = &'a Arc<str>>) -> Names {
        let wit: Vec<Arc<str>> = names.cloned().collect();
        let python = wit.iter().map(|name| PyString::intern(py, name).unbind()).collect();
        Names { wit, python }
    }

    /// Returns the index of a name, which may be in snake_case.
    pub fn find(&self, name: &str) -> Option<usize> {
        let exact = self.wit.iter().position(|wit| **wit == *name);
        exact.or_else(|| {
            let kebab = name.strip_suffix('_').unwrap_or(name).replace('_', "-");
            self.wit.iter().position(|wit| **wit == *kebab)
        })
    }
}

impl Plan {
    /// Makes the plan of a type.
    ///
    /// # Errors
    /// What Python raises when it makes the class of a record.
    pub fn new(py: Python<'_>, ty: &Type) -> PyResult<Plan> {
        let optional = |ty: &Option<Type>| ty.as_ref().map(|ty| Plan::new(py, ty)).transpose();
        let shape = match ty {
            Type::List(element) | Type::FixedList(element, _) => {
                Shape::List(Box::new(Plan::new(py, element)?))
            }
            Type::Map(map) => Shape::Map {
                key: Box::new(Plan::new(py, &map.key)?),
                value: Box::new(Plan::new(py, &map.value)?),
            },
            Type::Record(fields) => {
                let names: Vec<Arc<str>> = fields.iter().map(|field| field.name.clone()).collect();
                let attributes =
                    names.iter().map(|name| attribute(py, name)).collect::<PyResult<Vec<_>>>()?;
                let types = PyTuple::new(py, fields.iter().map(|field| field.ty.to_string()))?;
                let class = py
                    .import(intern!(py, "gvm._values"))?
                    .call_method1(intern!(py, "record_class"), (PyTuple::new(py, &attributes)?, types))?
                    .cast_into::<PyType>()?
                    .unbind();
                let fields = fields.iter().map(|field| Plan::new(py, &field.ty)).collect::<PyResult<_>>()?;
                Shape::Record(Record { class, attributes, names, fields })
            }
            Type::Tuple(types) => {
                Shape::Tuple(types.iter().map(|ty| Plan::new(py, ty)).collect::<PyResult<_>>()?)
            }
            Type::Variant(cases) => Shape::Variant(
                Names::new(py, cases.iter().map(|case| &case.name)),
                cases.iter().map(|case| optional(&case.ty)).collect::<PyResult<_>>()?,
            ),
            Type::Enum(names) => Shape::Enum(Names::new(py, names.iter())),
            Type::Option(some) => Shape::Option {
                some: Box::new(Plan::new(py, some)?),
                wraps: matches!(**some, Type::Option(_)),
            },
            Type::Result(sides) => Shape::Result {
                ok: optional(&sides.ok)?.map(Box::new),
                err: optional(&sides.err)?.map(Box::new),
            },
            Type::Flags(names) => Shape::Flags(Names::new(py, names.iter())),
            _ => Shape::Plain,
        };
        Ok(Plan { ty: ty.clone(), shape })
    }
}

/// The plans of the parameters and the result of one function.
pub struct Signature {
    pub ty: FuncType,
    /// The names of the parameters in Python.
    pub names: Vec<Py<PyString>>,
    pub params: Vec<Plan>,
    pub result: Option<Plan>,
    pub last: Last,
}

impl Signature {
    /// Makes the plans of a signature.
    ///
    /// # Errors
    /// See [`Plan::new`].
    pub fn new(py: Python<'_>, ty: &FuncType) -> PyResult<Signature> {
        let names = ty.params.iter().map(|param| attribute(py, &param.name)).collect::<PyResult<_>>()?;
        let params = ty.params.iter().map(|param| Plan::new(py, &param.ty)).collect::<PyResult<_>>()?;
        let result = ty.result.as_ref().map(|ty| Plan::new(py, ty)).transpose()?;
        Ok(Signature { ty: ty.clone(), names, params, result, last: Last::default() })
    }
}

/// Returns a WIT name as a Python attribute: in snake_case, with an underscore after a keyword.
pub fn attribute(py: Python<'_>, name: &str) -> PyResult<Py<PyString>> {
    let made = py.import(intern!(py, "gvm._values"))?.call_method1(intern!(py, "attribute"), (name,))?;
    Ok(made.cast_into::<PyString>()?.unbind())
}
