//! Kernels that turn simulation particles into maps: slices in, freshly allocated vectors out.
//!
//! The numerics contract, kept by every function and tested line by line:
//!
//! - Arithmetic is f64 whatever the input type, without fused multiply-add.
//! - Results have the same bits for every [`Threads`]: sums are grouped in blocks of [`BLOCK`]
//!   particles by index, and the blocks are added in order.
//! - A frame and its bins are half-open, `[-half, half)`; the range test comes before the cast to
//!   an index, and an index that rounds up to the number of bins is the last bin.
//! - A particle with a NaN or infinite coordinate is in no frame and in no bin. A weight that is
//!   NaN or infinite adds nothing, and is counted.
//! - Nothing panics: what cannot be computed is an [`Error`].

#![deny(unsafe_code)]

mod accumulate;
mod batch;
mod channel;
mod cull;
mod deposit;
mod error;
mod frame;
mod grid;
mod math;
mod parallel;
mod project;
mod rotate;
#[allow(unsafe_code)]
mod simd;
mod spin;
mod sums;
mod values;

pub use channel::{Channel, Length, Product, Quantity, Thermal};
pub use cull::cull_box;
pub use error::Error;
pub use frame::Frame;
pub use parallel::{BLOCK, Threads};
pub use project::{Ledger, Projection, Projector, Way, project};
pub use rotate::{disk_normal, face_on_rotation, rotate};
pub use simd::Level;
pub use spin::{Sphere, Spin, spin};
pub use values::{Real, Values};

/// A point or a direction.
pub type Vector = [f64; 3];

/// A matrix by rows.
pub type Matrix = [[f64; 3]; 3];
