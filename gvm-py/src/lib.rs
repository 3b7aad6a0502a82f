//! The Python face of GVM. For now it only tells its version; the node itself comes with it next.

use pyo3::prelude::*;

#[pymodule]
mod _gvm {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
