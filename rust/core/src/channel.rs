//! What is summed for a map: stored values, or what the kernel makes of some of them.

use crate::Error;
use crate::batch::BATCH;
use crate::error::check_length;
use crate::math;
use crate::values::{Rows, Values, keep_if};

/// `factor a b / c`, of numbers that cannot be negative: NaN where one of them is.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// A number that is the same for every particle.
    pub factor: f64,
    /// What is multiplied.
    pub of: [Option<Values<'a>>; 2],
    /// What it is divided by.
    pub per: Option<Values<'a>>,
}

/// The length of a vector, `|factor v - offset|`.
#[derive(Clone, Copy, Debug)]
pub struct Length<'a> {
    /// Three numbers a particle, particle after particle.
    pub vectors: Values<'a>,
    /// A number that is the same for every particle.
    pub factor: f64,
    /// What is subtracted, in the unit of the product.
    pub offset: [f64; 3],
}

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
    /// A product of some fields.
    Product(Product<'a>),
    /// The length of a vector.
    Length(Length<'a>),
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

/// What is summed over particles: one column of sums, or two for a mean.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'a> {
    /// What is summed.
    pub quantity: Quantity<'a>,
    /// Its decimal logarithm instead.
    pub log10: bool,
    /// Multiplied by these values.
    pub times: Option<Quantity<'a>>,
    /// Particles for which this is above 0 add nothing.
    pub without: Option<Values<'a>>,
    /// A second column sums `times`, or ones, over the particles that add to the first: to divide
    /// by for a mean.
    pub is_mean: bool,
}

impl<'a> From<Quantity<'a>> for Channel<'a> {
    fn from(quantity: Quantity<'a>) -> Self {
        Self {
            quantity,
            log10: false,
            times: None,
            without: None,
            is_mean: false,
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

/// Space for a batch of numbers on their way.
pub(crate) type Scratch = [[f64; BATCH]; 2];

/// A number that cannot be negative; NaN where it is, so that it is dropped and counted.
#[inline(always)]
fn not_negative(value: f64) -> f64 {
    if value >= 0.0 { value } else { f64::NAN }
}

impl Product<'_> {
    #[inline(always)]
    fn load(&self, rows: &Rows<'_>, target: &mut [f64], field: &mut [f64]) {
        target.fill(self.factor);
        for values in self.of.iter().flatten() {
            values.load(rows, field);
            for (t, v) in target.iter_mut().zip(&*field) {
                *t *= not_negative(*v);
            }
        }
        if let Some(per) = &self.per {
            per.load(rows, field);
            for (t, v) in target.iter_mut().zip(&*field) {
                *t /= not_negative(*v);
            }
        }
    }
}

impl Length<'_> {
    #[inline(always)]
    fn load(&self, rows: &Rows<'_>, target: &mut [f64]) {
        let part = |v: f64, k: usize| self.factor * v - self.offset[k];
        self.vectors.load_vectors(rows, target, |[x, y, z]| {
            let (x, y, z) = (part(x, 0), part(y, 1), part(z, 2));
            (x * x + y * y + z * z).sqrt()
        });
    }
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

impl Quantity<'_> {
    /// Shows every field, with what it is called and the numbers that it has for a particle.
    #[inline(always)]
    fn visit(&self, mut show: impl FnMut(&'static str, &Values<'_>, usize)) {
        match self {
            Self::Stored(values) => show("", values, 1),
            Self::Product(product) => {
                let names = [".fields[0]", ".fields[1]"];
                for (name, values) in names.into_iter().zip(&product.of) {
                    if let Some(values) = values {
                        show(name, values, 1);
                    }
                }
                if let Some(values) = &product.per {
                    show(".per", values, 1);
                }
            }
            Self::Length(length) => show(".vectors", &length.vectors, 3),
            Self::Temperature(thermal) | Self::Entropy { thermal, .. } => {
                show(".internal_energy", &thermal.energy, 1);
                show(".electron_abundance", &thermal.electrons, 1);
                if let Self::Entropy { density, .. } = self {
                    show(".density", density, 1);
                }
            }
        }
    }

    /// The numbers of some particles, one for each place of `target`.
    #[inline(always)]
    fn load(&self, rows: &Rows<'_>, target: &mut [f64], [first, second]: &mut Scratch) {
        let (first, second) = (&mut first[..target.len()], &mut second[..target.len()]);
        match self {
            Self::Stored(values) => values.load(rows, target),
            Self::Product(product) => product.load(rows, target, first),
            Self::Length(length) => length.load(rows, target),
            Self::Temperature(thermal) => thermal.load(rows, target, first),
            Self::Entropy {
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
    }
}

impl Channel<'_> {
    /// How many columns of sums it has.
    #[must_use]
    pub fn columns(&self) -> usize {
        1 + usize::from(self.is_mean)
    }

    #[inline(always)]
    fn visit(&self, mut show: impl FnMut(&'static str, &'static str, &Values<'_>, usize)) {
        self.quantity
            .visit(|name, values, width| show("", name, values, width));
        if let Some(times) = &self.times {
            times.visit(|name, values, width| show(".times", name, values, width));
        }
        if let Some(values) = &self.without {
            show(".without", "", values, 1);
        }
    }

    /// Fails unless every field has one entry per particle.
    pub(crate) fn check(&self, what: &str, particles: usize) -> Result<(), Error> {
        let mut result = Ok(());
        self.visit(|part, name, values, width| {
            if result.is_ok() {
                let name = format!("{what}{part}{name}");
                result = check_length(name, values.len(), width * particles);
            }
        });
        result
    }

    /// Asks for fields that will be needed soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, start: usize, count: usize) {
        self.visit(|_, _, values, width| values.prefetch(start * width, count * width));
    }

    /// The numbers of some particles, one for each place of `target`, and of `divisor` for a mean.
    #[inline(always)]
    pub(crate) fn load(
        &self,
        rows: &Rows<'_>,
        target: &mut [f64],
        divisor: &mut [f64],
        scratch: &mut Scratch,
    ) {
        self.quantity.load(rows, target, scratch);
        if self.log10 {
            math::log10(target);
        }
        if let Some(times) = &self.times {
            times.load(rows, divisor, scratch);
            for (t, w) in target.iter_mut().zip(&*divisor) {
                *t *= *w;
            }
        } else if self.is_mean {
            divisor.fill(1.0);
        }
        if let Some(without) = &self.without {
            let found = &mut scratch[0][..target.len()];
            without.load(rows, found);
            for ((t, w), v) in target.iter_mut().zip(divisor).zip(&*found) {
                let is_in = u64::from(*v > 0.0) ^ 1;
                *t = keep_if(is_in, *t);
                *w = keep_if(is_in, *w);
            }
        }
    }
}
