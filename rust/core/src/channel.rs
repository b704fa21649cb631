//! What is summed for a channel of a map: stored values, or what follows from some of them.

use crate::error::check_length;
use crate::math;
use crate::values::{Rows, Values};
use crate::{BATCH, Error};

/// The fields of which a temperature is made, `factor u * mu` with `mu = top / (low + slope x_e)`.
///
/// Where one of them is negative there is none: NaN.
#[derive(Clone, Copy, Debug)]
pub struct Thermal<'a> {
    /// Internal energy per mass, u.
    pub energy: Values<'a>,
    /// Electrons per hydrogen nucleus, `x_e`.
    pub electrons: Values<'a>,
    /// Temperature per internal energy and `mu`.
    pub factor: f64,
    /// `top`, `low` and `slope` of `mu`.
    pub mu: [f64; 3],
}

/// A number per particle.
#[derive(Clone, Copy, Debug)]
pub enum Quantity<'a> {
    /// As it comes.
    Stored(Values<'a>),
    /// A temperature T.
    Temperature(Thermal<'a>),
    /// An entropy, `factor T n^(-2/3)`, where n is the density of electrons,
    /// `density_factor density x_e`, or of all matter, `density_factor density`; NaN where the
    /// density is negative.
    Entropy {
        /// Fields and factors of T.
        thermal: Thermal<'a>,
        /// Density.
        density: Values<'a>,
        /// n per density and, for electrons, `x_e`.
        density_factor: f64,
        /// Whether n counts electrons.
        of_electrons: bool,
        /// Entropy per `T n^(-2/3)`.
        factor: f64,
    },
}

/// The weights of one channel of a map.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'a> {
    /// What is summed.
    pub quantity: Quantity<'a>,
    /// Its decimal logarithm instead.
    pub log10: bool,
    /// Multiplied by these values.
    pub times: Option<Values<'a>>,
}

impl<'a> From<Quantity<'a>> for Channel<'a> {
    fn from(quantity: Quantity<'a>) -> Self {
        Self {
            quantity,
            log10: false,
            times: None,
        }
    }
}

impl<'a> From<&'a [f32]> for Channel<'a> {
    fn from(values: &'a [f32]) -> Self {
        Quantity::Stored(Values::F32(values)).into()
    }
}

impl<'a> From<&'a [f64]> for Channel<'a> {
    fn from(values: &'a [f64]) -> Self {
        Quantity::Stored(Values::F64(values)).into()
    }
}

/// A number that cannot be negative; NaN where it is, so that it is dropped and counted.
#[inline(always)]
fn not_negative(value: f64) -> f64 {
    if value >= 0.0 { value } else { f64::NAN }
}

impl Thermal<'_> {
    #[inline(always)]
    fn load(&self, rows: &Rows<'_>, target: &mut [f64], electrons: &mut [f64]) {
        self.energy.load(rows, target);
        self.electrons.load(rows, electrons);
        let [top, low, slope] = self.mu;
        for (t, x) in target.iter_mut().zip(electrons) {
            *x = not_negative(*x);
            *t = self.factor * not_negative(*t) * (top / (low + slope * *x));
        }
    }
}

impl Channel<'_> {
    /// Fails unless every field has one entry per particle.
    pub(crate) fn check(&self, index: usize, particles: usize) -> Result<(), Error> {
        let check = |values: &Values<'_>, what: &str| {
            check_length(format!("weights[{index}]{what}"), values.len(), particles)
        };
        let check_thermal = |thermal: &Thermal<'_>| {
            check(&thermal.energy, ".internal_energy")?;
            check(&thermal.electrons, ".electron_abundance")
        };
        match &self.quantity {
            Quantity::Stored(values) => check(values, "")?,
            Quantity::Temperature(thermal) => check_thermal(thermal)?,
            Quantity::Entropy {
                thermal, density, ..
            } => {
                check_thermal(thermal)?;
                check(density, ".density")?;
            }
        }
        self.times
            .as_ref()
            .map_or(Ok(()), |values| check(values, ".times"))
    }

    /// Asks for fields that will be needed soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, start: usize, count: usize) {
        let thermal = match &self.quantity {
            Quantity::Stored(values) => return values.prefetch(start, count),
            Quantity::Temperature(thermal) => thermal,
            Quantity::Entropy {
                thermal, density, ..
            } => {
                density.prefetch(start, count);
                thermal
            }
        };
        thermal.energy.prefetch(start, count);
        thermal.electrons.prefetch(start, count);
    }

    /// The weights of some particles, one for each place of `target`.
    #[inline(always)]
    pub(crate) fn load(
        &self,
        rows: &Rows<'_>,
        target: &mut [f64],
        [first, second]: &mut [[f64; BATCH]; 2],
    ) {
        let (first, second) = (&mut first[..target.len()], &mut second[..target.len()]);
        match &self.quantity {
            Quantity::Stored(values) => values.load(rows, target),
            Quantity::Temperature(thermal) => thermal.load(rows, target, first),
            Quantity::Entropy {
                thermal,
                density,
                density_factor,
                of_electrons,
                factor,
            } => {
                thermal.load(rows, target, first);
                density.load(rows, second);
                if !of_electrons {
                    first.fill(1.0);
                }
                for (n, x) in second.iter_mut().zip(&*first) {
                    *n = density_factor * not_negative(*n) * *x;
                }
                math::inverse_cbrt_squared(second);
                for (t, n) in target.iter_mut().zip(&*second) {
                    *t = factor * *t * *n;
                }
            }
        }
        if self.log10 {
            math::log10(target);
        }
        if let Some(times) = &self.times {
            times.load(rows, first);
            for (t, w) in target.iter_mut().zip(&*first) {
                *t *= *w;
            }
        }
    }
}
