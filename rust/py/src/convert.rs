//! Arguments from Python, borrowed and never copied, and results to Python, moved.

use numpy::ndarray::{Array, Dimension, IntoDimension};
use numpy::{
    Element, IntoPyArray, PyArray, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods,
    PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyFrozenSet, PyIterator, PyMapping, PySet};
use sfr_core::{Channel, Frame, Length, Matrix, Product, Quantity, Thermal, Values, Vector, Way};

use crate::errors::{DTypeError, InternalError, RangeError, ShapeError, to_python};

/// An array of either precision, held so that it cannot be written to through this crate.
pub(crate) enum Floats<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F64(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> Floats<'py> {
    /// One value per particle.
    pub(crate) fn values(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        Self::new(object, name, "(N,)", |shape| shape.len() == 1)
    }

    /// A point or a velocity per particle.
    pub(crate) fn points(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        Self::new(object, name, "(N, 3)", |shape| matches!(shape, [_, 3]))
    }

    fn new(
        object: &Bound<'py, PyAny>,
        name: &str,
        allowed: &str,
        fits: impl Fn(&[usize]) -> bool,
    ) -> PyResult<Self> {
        let py = object.py();
        check_plain(object, name)?;
        let Ok(array) = object.cast::<PyUntypedArray>() else {
            return Err(DTypeError::new_err(format!(
                "{name}: got {}, allowed is a numpy array of float32 or float64",
                type_name(object)
            )));
        };
        let dtype = array.dtype();
        let single = dtype.is_equiv_to(&f32::get_dtype(py));
        if !single && !dtype.is_equiv_to(&f64::get_dtype(py)) {
            return Err(DTypeError::new_err(format!(
                "{name}: dtype is {}, allowed are float32 and float64 in native byte order; \
                 convert with {name}.astype(numpy.float64)",
                dtype.repr()?
            )));
        }
        if !fits(array.shape()) {
            return Err(ShapeError::new_err(format!(
                "{name}: shape is {:?}, allowed is {allowed}",
                array.shape()
            )));
        }
        if !array.is_c_contiguous() || !array.is_aligned() {
            return Err(ShapeError::new_err(format!(
                "{name}: not C-contiguous and aligned in memory, which is all that is allowed; \
                 copy it with numpy.require({name}, requirements=['C', 'A'])"
            )));
        }
        let busy = |e| InternalError::new_err(format!("{name}: {e}"));
        if single {
            let array = object.cast::<PyArrayDyn<f32>>()?;
            Ok(Self::F32(array.try_readonly().map_err(busy)?))
        } else {
            let array = object.cast::<PyArrayDyn<f64>>()?;
            Ok(Self::F64(array.try_readonly().map_err(busy)?))
        }
    }

    pub(crate) fn view(&self) -> PyResult<Values<'_>> {
        let view = match self {
            Self::F32(array) => array.as_slice().map(Values::F32),
            Self::F64(array) => array.as_slice().map(Values::F64),
        };
        view.map_err(|e| InternalError::new_err(e.to_string()))
    }
}

/// A number per particle, its arrays borrowed: an array, or one of the classes of `kernels.py`.
enum Made<'py> {
    Stored(Floats<'py>),
    Product {
        factor: f64,
        of: [Option<Floats<'py>>; 2],
        per: Option<Floats<'py>>,
    },
    Length {
        vectors: Floats<'py>,
        factor: f64,
        offset: Vector,
    },
    Thermal {
        energy: Floats<'py>,
        electrons: Floats<'py>,
        density: Option<Floats<'py>>,
        of_electrons: bool,
        /// `factor` and `mu` of [`Thermal`], then the density factor and the factor of the entropy.
        factors: [f64; 6],
    },
}

impl<'py> Made<'py> {
    fn new(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        let get = |key: &str| object.getattr(key);
        let field = |key: &str| Floats::values(&get(key)?, &format!("{name}.{key}"));
        let factor = || number(&get("factor")?, &format!("{name}.factor"));
        if object.hasattr("internal_energy")? {
            let factors = format!("{name}.factors");
            return Ok(Self::Thermal {
                energy: field("internal_energy")?,
                electrons: field("electron_abundance")?,
                density: some(object, "density", name)?,
                of_electrons: get("of_electrons")?.extract()?,
                factors: fixed(&get("factors")?, &factors, "6 numbers", |item| {
                    number(item, &factors)
                })?,
            });
        }
        if object.hasattr("vectors")? {
            return Ok(Self::Length {
                vectors: Floats::points(&get("vectors")?, &format!("{name}.vectors"))?,
                factor: factor()?,
                offset: vector(&get("offset")?, &format!("{name}.offset"))?,
            });
        }
        if object.hasattr("fields")? {
            let (fields, called) = (get("fields")?, format!("{name}.fields"));
            let mut of = [None, None];
            let mut slots = of.iter_mut();
            for (k, values) in sequence(&fields, &called, "up to 2 numpy arrays")?.enumerate() {
                let Some(slot) = slots.next() else {
                    return Err(ShapeError::new_err(format!(
                        "{called}: got 3 or more, allowed are up to 2 numpy arrays"
                    )));
                };
                *slot = Some(Floats::values(&values?, &format!("{called}[{k}]"))?);
            }
            return Ok(Self::Product {
                factor: factor()?,
                of,
                per: some(object, "per", name)?,
            });
        }
        Floats::values(object, name).map(Self::Stored)
    }

    fn view(&self) -> PyResult<Quantity<'_>> {
        Ok(match self {
            Self::Stored(values) => Quantity::Stored(values.view()?),
            Self::Product { factor, of, per } => Quantity::Product(Product {
                factor: *factor,
                of: [seen(&of[0])?, seen(&of[1])?],
                per: seen(per)?,
            }),
            Self::Length {
                vectors,
                factor,
                offset,
            } => Quantity::Length(Length {
                vectors: vectors.view()?,
                factor: *factor,
                offset: *offset,
            }),
            Self::Thermal {
                energy,
                electrons,
                density,
                of_electrons,
                factors: [heat, top, low, slope, density_factor, factor],
            } => {
                let thermal = Thermal {
                    energy: energy.view()?,
                    electrons: electrons.view()?,
                    factor: *heat,
                    mu: [*top, *low, *slope],
                };
                match density {
                    None => Quantity::Temperature(thermal),
                    Some(density) => Quantity::Entropy {
                        thermal,
                        density: density.view()?,
                        density_factor: *density_factor,
                        of_electrons: *of_electrons,
                        factor: *factor,
                    },
                }
            }
        })
    }
}

/// A field of a class that may be None.
fn some<'py>(object: &Bound<'py, PyAny>, key: &str, name: &str) -> PyResult<Option<Floats<'py>>> {
    let found = object.getattr(key)?;
    if found.is_none() {
        return Ok(None);
    }
    Floats::values(&found, &format!("{name}.{key}")).map(Some)
}

fn seen<'a>(array: &'a Option<Floats<'_>>) -> PyResult<Option<Values<'a>>> {
    array.as_ref().map(Floats::view).transpose()
}

/// What is summed for a channel, its arrays borrowed.
pub(crate) struct Weight<'py> {
    quantity: Made<'py>,
    log10: bool,
    times: Option<Made<'py>>,
    without: Option<Floats<'py>>,
    is_mean: bool,
}

impl<'py> Weight<'py> {
    fn new(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Self> {
        if !object.hasattr("quantity")? {
            return Ok(Self {
                quantity: Made::new(object, name)?,
                log10: false,
                times: None,
                without: None,
                is_mean: false,
            });
        }
        let times = object.getattr("times")?;
        Ok(Self {
            quantity: Made::new(&object.getattr("quantity")?, name)?,
            log10: object.getattr("log10")?.extract()?,
            times: if times.is_none() {
                None
            } else {
                Some(Made::new(&times, &format!("{name}.times"))?)
            },
            without: some(object, "without", name)?,
            is_mean: object.getattr("is_mean")?.extract()?,
        })
    }

    pub(crate) fn view(&self) -> PyResult<Channel<'_>> {
        Ok(Channel {
            quantity: self.quantity.view()?,
            log10: self.log10,
            times: self.times.as_ref().map(Made::view).transpose()?,
            without: seen(&self.without)?,
            is_mean: self.is_mean,
        })
    }
}

/// Whether it is one of the classes of `kernels.py`, told by a field that only it has.
fn is_made(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    for field in ["quantity", "internal_energy", "vectors", "fields"] {
        if object.hasattr(field)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One weight per channel.
pub(crate) fn channels<'py>(object: &Bound<'py, PyAny>, name: &str) -> PyResult<Vec<Weight<'py>>> {
    let is_array = object
        .cast::<PyUntypedArray>()
        .is_ok_and(|array| array.ndim() < 2);
    let is_one = is_array || is_made(object)?;
    if is_one {
        return Err(DTypeError::new_err(format!(
            "{name}: got one {}, allowed is a sequence of them, one per channel; for a single \
             channel give [{name}]",
            type_name(object)
        )));
    }
    sequence(object, name, "a sequence of numpy arrays, one per channel")?
        .enumerate()
        .map(|(c, item)| Weight::new(&item?, &format!("{name}[{c}]")))
        .collect()
}

pub(crate) fn views<'a>(weights: &'a [Weight<'_>]) -> PyResult<Vec<Channel<'a>>> {
    weights.iter().map(Weight::view).collect()
}

/// A real number; what `float` would take of other things, such as the real part, is not.
pub(crate) fn number(object: &Bound<'_, PyAny>, name: &str) -> PyResult<f64> {
    let refused = || {
        let found = type_name(object);
        DTypeError::new_err(format!(
            "{name}: got {found}, allowed is a real number without mask or unit"
        ))
    };
    check_plain(object, name)?;
    let object = match object.cast::<PyUntypedArray>() {
        // what NumPy calls a number, from an array without axes
        Ok(array) if array.ndim() == 0 => &object.call_method0("item")?,
        Ok(_) => return Err(refused()),
        Err(_) => object,
    };
    let numbers = object.py().import("numbers")?;
    if object.is_instance_of::<PyBool>() || !object.is_instance(&numbers.getattr("Real")?)? {
        return Err(refused());
    }
    let value: f64 = object
        .extract()
        .map_err(|e| wrong(object, name, "a number", &e))?;
    if object.is_instance(&numbers.getattr("Integral")?)?
        && !object.call_method0("__index__")?.eq(value)?
    {
        return Err(RangeError::new_err(format!(
            "{name}: got {object}, which float64 cannot hold; give the nearest float"
        )));
    }
    Ok(value)
}

/// Refuses arrays of other classes than NumPy's own two: they may mask entries, or have a unit.
fn check_plain(object: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    let is_plain = object.is_exact_instance_of::<PyUntypedArray>()
        || object.cast::<PyUntypedArray>().is_err()
        || type_name(object) == "numpy.memmap";
    if is_plain {
        return Ok(());
    }
    Err(DTypeError::new_err(format!(
        "{name}: got {}, whose mask, unit or rules would be lost; allowed is a plain numpy array: \
         fill or drop masked entries, convert units, then numpy.asarray({name})",
        type_name(object)
    )))
}

/// Entries of something that has an order, or none where it has no entries at all.
fn items<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
    allowed: &str,
) -> PyResult<Option<Bound<'py, PyIterator>>> {
    check_plain(object, name)?;
    let is_other = object.cast::<PyMapping>().is_ok()
        || object.is_instance_of::<PySet>()
        || object.is_instance_of::<PyFrozenSet>()
        || object.is_instance_of::<PyBytes>()
        || object.is_instance_of::<PyByteArray>();
    if is_other {
        return Err(DTypeError::new_err(format!(
            "{name}: got {}, allowed is {allowed}",
            type_name(object)
        )));
    }
    Ok(object.try_iter().ok())
}

/// Entries of something that has to have some.
fn sequence<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
    allowed: &str,
) -> PyResult<Bound<'py, PyIterator>> {
    items(object, name, allowed)?.ok_or_else(|| {
        let found = type_name(object);
        DTypeError::new_err(format!("{name}: got {found}, allowed is {allowed}"))
    })
}

pub(crate) fn optional(object: Option<&Bound<'_, PyAny>>, name: &str) -> PyResult<Option<f64>> {
    object.map(|object| number(object, name)).transpose()
}

pub(crate) fn whole(object: &Bound<'_, PyAny>, name: &str) -> PyResult<i64> {
    check_plain(object, name)?;
    if object.is_instance_of::<PyBool>() {
        return Err(DTypeError::new_err(format!(
            "{name}: got bool, allowed is a whole number"
        )));
    }
    object
        .extract()
        .map_err(|e| wrong(object, name, "a whole number", &e))
}

pub(crate) fn threads(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
    object.map(|object| whole(object, "threads")).transpose()
}

pub(crate) fn vector(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Vector> {
    fixed(object, name, "3 numbers", |item| number(item, name))
}

pub(crate) fn matrix(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Matrix> {
    fixed(object, name, "3 rows of 3 numbers", |row| vector(row, name))
}

/// The coordinates and the weights of a segment.
pub(crate) fn segment<'py>(
    object: &Bound<'py, PyAny>,
    way: Way,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>, Option<Weight<'py>>)> {
    let same = |item: &Bound<'py, PyAny>| Ok(item.clone());
    match way {
        Way::Histogram => {
            let [coordinates, weights] =
                fixed(object, "segments", "(coordinates, weights) each", same)?;
            Ok((coordinates, weights, None))
        }
        Way::Smoothed => {
            let allowed = "(coordinates, weights, volumes) each for the deposit smoothed";
            let [coordinates, weights, volumes] = fixed(object, "segments", allowed, same)?;
            let volumes = Weight::new(&volumes, "volumes")?;
            Ok((coordinates, weights, Some(volumes)))
        }
    }
}

/// The deposit of a name.
pub(crate) fn way(name: &str) -> PyResult<Way> {
    match name {
        "histogram" => Ok(Way::Histogram),
        "smoothed" => Ok(Way::Smoothed),
        _ => Err(RangeError::new_err(format!(
            "deposit: got {name:?}, allowed is \"histogram\" or \"smoothed\""
        ))),
    }
}

/// Segments, one after the other.
pub(crate) fn segments<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    sequence(object, "segments", "an iterable of (coordinates, weights)")
}

/// How many channels.
pub(crate) fn count(object: &Bound<'_, PyAny>, name: &str) -> PyResult<usize> {
    let found = whole(object, name)?;
    usize::try_from(found)
        .map_err(|_| RangeError::new_err(format!("{name}: got {found}, allowed is 1 or more")))
}

/// A number for both axes, or one for each.
pub(crate) fn half_width(object: &Bound<'_, PyAny>) -> PyResult<[f64; 2]> {
    let name = "half_width";
    if items(object, name, "a number or 2")?.is_none() {
        return number(object, name).map(|half| [half; 2]);
    }
    fixed(object, name, "a number or 2", |item| number(item, name))
}

/// A count for both axes, or one for each.
pub(crate) fn bins(object: &Bound<'_, PyAny>) -> PyResult<[usize; 2]> {
    let name = "bins";
    let one = |item: &Bound<'_, PyAny>| count(item, name);
    if items(object, name, "a whole number or 2")?.is_none() {
        return one(object).map(|count| [count; 2]);
    }
    fixed(object, name, "a whole number or 2", one)
}

/// The frame of a picture.
pub(crate) fn frame(
    center: Vector,
    box_size: Option<&Bound<'_, PyAny>>,
    rotation: Option<&Bound<'_, PyAny>>,
    half_width: &Bound<'_, PyAny>,
    depth: Option<&Bound<'_, PyAny>>,
) -> PyResult<Frame> {
    Frame::new(
        center,
        optional(box_size, "box_size")?,
        rotation
            .map(|rotation| matrix(rotation, "rotation"))
            .transpose()?,
        self::half_width(half_width)?,
        optional(depth, "depth")?,
    )
    .map_err(|e| to_python(&e))
}

/// Frames as `kernels.py` has them.
pub(crate) fn frames(
    object: &Bound<'_, PyAny>,
    box_size: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<Frame>> {
    let one = |item: PyResult<Bound<'_, PyAny>>| {
        let item = item?;
        let given = |key: &str| -> PyResult<_> {
            let value = item.getattr(key)?;
            Ok((!value.is_none()).then_some(value))
        };
        if !item.hasattr("half_width")? {
            return Err(DTypeError::new_err(format!(
                "frames: got {}, allowed is a sequence of Frame",
                type_name(&item)
            )));
        }
        frame(
            vector(&item.getattr("center")?, "center")?,
            box_size,
            given("rotation")?.as_ref(),
            &item.getattr("half_width")?,
            given("depth")?.as_ref(),
        )
    };
    sequence(object, "frames", "a sequence of Frame")?
        .map(one)
        .collect()
}

fn fixed<'py, T, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &str,
    allowed: &str,
    convert: impl Fn(&Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<[T; N]> {
    let Some(items) = items(object, name, allowed)? else {
        return Err(ShapeError::new_err(format!(
            "{name}: got {}, allowed is {allowed}",
            type_name(object)
        )));
    };
    let items: Vec<_> = items.take(N + 1).collect::<PyResult<_>>()?;
    let found = items.len();
    let values: Vec<T> = items.iter().map(convert).collect::<PyResult<_>>()?;
    values.try_into().map_err(|_| {
        let more = if found > N { " or more" } else { "" };
        ShapeError::new_err(format!(
            "{name}: got {found}{more} entries along an axis, allowed is {allowed}"
        ))
    })
}

fn wrong(object: &Bound<'_, PyAny>, name: &str, allowed: &str, error: &PyErr) -> PyErr {
    let message = format!("{name}: got {}, allowed is {allowed}", type_name(object));
    if error.is_instance_of::<PyTypeError>(object.py()) {
        DTypeError::new_err(message)
    } else {
        RangeError::new_err(format!("{message} ({error})"))
    }
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .fully_qualified_name()
        .map_or_else(|_| "an unknown type".to_owned(), |name| name.to_string())
}

/// A vector as an array of a shape, without a copy.
pub(crate) fn shaped<'py, T: Element, S: IntoDimension>(
    py: Python<'py>,
    values: Vec<T>,
    shape: S,
) -> PyResult<Bound<'py, PyArray<T, S::Dim>>>
where
    S::Dim: Dimension,
{
    Array::from_shape_vec(shape.into_dimension(), values)
        .map(|array| array.into_pyarray(py))
        .map_err(|e| InternalError::new_err(e.to_string()))
}
