//! One function per kernel: convert, release the GIL, compute, convert back.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArray3};
use pyo3::prelude::*;
use sfr_core::{Channel, Error, Projection, Projector, Sphere, Threads, Values};

use crate::convert::{self, Floats};
use crate::errors::{InternalError, to_python};

/// Of each frame: maps, particles read, in the frame, out of it and with bad coordinates, then per
/// column the number of bad weights, the sum in the frame and the sum out of it.
type Projected<'py> = (
    Bound<'py, PyArray3<f64>>,
    [usize; 4],
    Vec<usize>,
    Vec<f64>,
    Vec<f64>,
);

type Argument<'a, 'py> = &'a Bound<'py, PyAny>;

/// Runs the slice's arm with its type known.
macro_rules! with_slice {
    ($view:expr, $slice:ident => $body:expr) => {
        match $view {
            Values::F32($slice) => $body,
            Values::F64($slice) => $body,
        }
    };
}

/// Computes without the GIL, on the threads asked for; a panic becomes an `InternalError`.
fn detached<R: Send>(
    py: Python<'_>,
    threads: Option<Argument<'_, '_>>,
    job: impl FnOnce(Threads) -> Result<R, Error> + Send,
) -> PyResult<R> {
    let threads = Threads::new(convert::threads(threads)?).map_err(|e| to_python(&e))?;
    match py.detach(|| catch_unwind(AssertUnwindSafe(|| job(threads)))) {
        Ok(result) => result.map_err(|e| to_python(&e)),
        Err(panic) => Err(InternalError::new_err(format!(
            "the kernel stopped: {}; please report it",
            panic_message(&*panic)
        ))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn points<T>(flat: &[T]) -> &[[T; 3]] {
    flat.as_chunks().0
}

#[pyfunction]
#[pyo3(signature = (
    coordinates, center, half_width, *, box_size=None, depth=None, rotation=None, threads=None
))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn cull_box<'py>(
    py: Python<'py>,
    coordinates: Argument<'_, 'py>,
    center: Argument<'_, 'py>,
    half_width: Argument<'_, 'py>,
    box_size: Option<Argument<'_, 'py>>,
    depth: Option<Argument<'_, 'py>>,
    rotation: Option<Argument<'_, 'py>>,
    threads: Option<Argument<'_, 'py>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let coordinates = Floats::points(coordinates, "coordinates")?;
    let center = convert::vector(center, "center")?;
    let frame = convert::frame(center, box_size, rotation, half_width, depth)?;
    let view = coordinates.view()?;
    let found = detached(
        py,
        threads,
        |threads| with_slice!(view, flat => sfr_core::cull_box(points(flat), &frame, threads)),
    )?;
    Ok(found.into_pyarray(py))
}

#[pyfunction]
#[pyo3(signature = (
    coordinates, velocities, masses, *, center, bulk_velocity, box_size=None, threads=None
))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn disk_normal<'py>(
    py: Python<'py>,
    coordinates: Argument<'_, 'py>,
    velocities: Argument<'_, 'py>,
    masses: Argument<'_, 'py>,
    center: Argument<'_, 'py>,
    bulk_velocity: Argument<'_, 'py>,
    box_size: Option<Argument<'_, 'py>>,
    threads: Option<Argument<'_, 'py>>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let coordinates = Floats::points(coordinates, "coordinates")?;
    let velocities = Floats::points(velocities, "velocities")?;
    let masses = Floats::values(masses, "masses")?;
    let center = convert::vector(center, "center")?;
    let bulk = convert::vector(bulk_velocity, "bulk_velocity")?;
    let box_size = convert::optional(box_size, "box_size")?;
    let (p, v, m) = (coordinates.view()?, velocities.view()?, masses.view()?);
    let normal = detached(py, threads, |threads| {
        with_slice!(p, p => with_slice!(v, v => with_slice!(m, m => {
            sfr_core::disk_normal(points(p), points(v), m, center, bulk, box_size, threads)
        })))
    })?;
    Ok(PyArray1::from_slice(py, &normal))
}

#[pyfunction]
pub(crate) fn face_on_rotation<'py>(
    py: Python<'py>,
    normal: Argument<'_, 'py>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let normal = convert::vector(normal, "normal")?;
    let rotation = sfr_core::face_on_rotation(normal).map_err(|e| to_python(&e))?;
    convert::shaped(py, rotation.concat(), (3, 3))
}

#[pyfunction]
#[pyo3(signature = (coordinates, rotation, *, center=None, box_size=None, threads=None))]
pub(crate) fn rotate<'py>(
    py: Python<'py>,
    coordinates: Argument<'_, 'py>,
    rotation: Argument<'_, 'py>,
    center: Option<Argument<'_, 'py>>,
    box_size: Option<Argument<'_, 'py>>,
    threads: Option<Argument<'_, 'py>>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let coordinates = Floats::points(coordinates, "coordinates")?;
    let rotation = convert::matrix(rotation, "rotation")?;
    let center = center
        .map(|center| convert::vector(center, "center"))
        .transpose()?;
    let box_size = convert::optional(box_size, "box_size")?;
    let view = coordinates.view()?;
    let rotated = detached(py, threads, |threads| {
        with_slice!(view, flat => {
            sfr_core::rotate(points(flat), &rotation, center, box_size, threads)
        })
    })?;
    let n = rotated.len() / 3;
    convert::shaped(py, rotated, (n, 3))
}

/// Count, mean velocity, normal, momentum, sum of lengths, sum of speeds.
type Turning<'py> = (
    usize,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    f64,
    f64,
);

#[pyfunction]
#[pyo3(signature = (
    coordinates, velocities, masses, *, center, radius, box_size=None, velocity_factor=None,
    by_mass=true
))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn spin<'py>(
    py: Python<'py>,
    coordinates: Argument<'_, 'py>,
    velocities: Argument<'_, 'py>,
    masses: Argument<'_, 'py>,
    center: Argument<'_, 'py>,
    radius: Argument<'_, 'py>,
    box_size: Option<Argument<'_, 'py>>,
    velocity_factor: Option<Argument<'_, 'py>>,
    by_mass: bool,
) -> PyResult<Turning<'py>> {
    let coordinates = Floats::points(coordinates, "coordinates")?;
    let velocities = Floats::points(velocities, "velocities")?;
    let masses = Floats::values(masses, "masses")?;
    let sphere = Sphere {
        center: convert::vector(center, "center")?,
        radius: convert::number(radius, "radius")?,
        box_size: convert::optional(box_size, "box_size")?,
        velocity_factor: convert::optional(velocity_factor, "velocity_factor")?.unwrap_or(1.0),
    };
    let (p, v, m) = (coordinates.view()?, velocities.view()?, masses.view()?);
    let found = detached(py, None, |_| {
        with_slice!(p, p => with_slice!(v, v => with_slice!(m, m => {
            sfr_core::spin(points(p), points(v), m, &sphere, by_mass)
        })))
    })?;
    Ok((
        found.count,
        PyArray1::from_slice(py, &found.mean_velocity),
        PyArray1::from_slice(py, &found.normal),
        PyArray1::from_slice(py, &found.momentum),
        found.of_lengths,
        found.of_speeds,
    ))
}

#[pyfunction]
#[pyo3(signature = (
    segments, frames, *, columns, box_size, bins, bin_scale=None, deposit="histogram", whole=false,
    threads=None
))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn project_frames<'py>(
    py: Python<'py>,
    segments: Argument<'_, 'py>,
    frames: Argument<'_, 'py>,
    columns: Option<Argument<'_, 'py>>,
    box_size: Option<Argument<'_, 'py>>,
    bins: Argument<'_, 'py>,
    bin_scale: Option<Argument<'_, 'py>>,
    deposit: &str,
    whole: bool,
    threads: Option<Argument<'_, 'py>>,
) -> PyResult<Vec<Projected<'py>>> {
    let frames = convert::frames(frames, box_size)?;
    let bins = convert::bins(bins)?;
    let scale = convert::optional(bin_scale, "bin_scale")?.unwrap_or(1.0);
    let way = convert::way(deposit)?;
    let begin = |columns| {
        Projector::new(way, &frames, bins, scale, columns, whole).map_err(|e| to_python(&e))
    };
    let columns = columns.map(|given| convert::count(given, "columns"));
    let mut projector = columns.transpose()?.map(begin).transpose()?;
    for segment in convert::segments(segments)? {
        let (coordinates, weights, volumes) = convert::segment(&segment?, way)?;
        let coordinates = Floats::points(&coordinates, "coordinates")?;
        let weights = convert::channels(&weights, "weights")?;
        let view = coordinates.view()?;
        let channels = convert::views(&weights)?;
        let volumes = volumes.as_ref().map(convert::Weight::view).transpose()?;
        let volumes = volumes.as_ref();
        let projector = match &mut projector {
            Some(projector) => projector,
            none => none.insert(begin(channels.iter().map(Channel::columns).sum())?),
        };
        detached(
            py,
            threads,
            |threads| with_slice!(view, flat => projector.add(points(flat), volumes, &channels, threads)),
        )?;
    }
    let made = match projector {
        Some(projector) => projector.finish(),
        None => begin(0)?.finish(),
    };
    let made = made.map_err(|e| to_python(&e))?;
    made.into_iter()
        .map(|projection| projected(py, projection, bins))
        .collect()
}

fn projected<'py>(
    py: Python<'py>,
    projection: Projection,
    bins: [usize; 2],
) -> PyResult<Projected<'py>> {
    let ledger = projection.ledger;
    let shape = (ledger.sum_in_frame.len(), bins[0], bins[1]);
    Ok((
        convert::shaped(py, projection.maps, shape)?,
        [
            ledger.read,
            ledger.in_frame,
            ledger.out_of_frame,
            ledger.bad_coordinates,
        ],
        ledger.bad_weight,
        ledger.sum_in_frame,
        ledger.sum_out_of_frame,
    ))
}
