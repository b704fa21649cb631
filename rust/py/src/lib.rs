//! The Python module `sfr._core`: checks and conversions around `sfr-core`, no arithmetic.
//!
//! Nothing here keeps state or Python objects between calls, so any number of Python threads may
//! call at once.

mod call;
mod convert;
mod errors;

use pyo3::prelude::*;

/// Kernels of `sfr.render.kernels`, which documents them.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("build_profile", profile)?;
    module.add_function(wrap_pyfunction!(call::cull_box, module)?)?;
    module.add_function(wrap_pyfunction!(call::disk_normal, module)?)?;
    module.add_function(wrap_pyfunction!(call::face_on_rotation, module)?)?;
    module.add_function(wrap_pyfunction!(call::rotate, module)?)?;
    module.add_function(wrap_pyfunction!(call::spin, module)?)?;
    module.add_function(wrap_pyfunction!(call::project_frames, module)?)
}
