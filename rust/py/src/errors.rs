//! Core errors as the classes of `sfr.errors`.

use pyo3::PyErr;
use pyo3::exceptions::PyMemoryError;
use sfr_core::Error;

// The macro's own expansion says nothing of the classes it makes.
#[allow(missing_docs)]
mod classes {
    use pyo3::import_exception;

    import_exception!(sfr.errors, DTypeError);
    import_exception!(sfr.errors, EmptySelectionError);
    import_exception!(sfr.errors, InternalError);
    import_exception!(sfr.errors, NonFiniteError);
    import_exception!(sfr.errors, RangeError);
    import_exception!(sfr.errors, ShapeError);
}

pub(crate) use classes::*;

pub(crate) fn to_python(error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Length { .. } => ShapeError::new_err(message),
        Error::Range { .. } => RangeError::new_err(message),
        Error::NonFinite { .. } | Error::Overflow { .. } => NonFiniteError::new_err(message),
        Error::Empty { .. } => EmptySelectionError::new_err(message),
        Error::Memory { .. } => PyMemoryError::new_err(message),
        _ => InternalError::new_err(message),
    }
}
