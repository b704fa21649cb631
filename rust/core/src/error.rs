//! What can go wrong, as fields; the sentence is written once, here.

use std::borrow::Cow;

/// Why a kernel gave no result. `name` is the argument at fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array does not have one entry per particle.
    #[error("{name}: {got} entries, expected {expected}, one per particle")]
    Length {
        /// The argument at fault.
        name: Cow<'static, str>,
        /// Entries found.
        got: usize,
        /// Entries that there must be.
        expected: usize,
    },
    /// A number is outside the range that makes sense for it.
    #[error("{name}: got {got}, allowed is {allowed}")]
    Range {
        /// The argument at fault.
        name: &'static str,
        /// What was found.
        got: String,
        /// What there may be.
        allowed: &'static str,
    },
    /// A value that must be finite is not.
    #[error("{name}: not finite at index {index}; drop or repair such entries first")]
    NonFinite {
        /// The argument at fault.
        name: &'static str,
        /// Position of the first such entry along the first axis.
        index: usize,
    },
    /// The result of finite input does not fit a double.
    #[error("{name}: overflows; scale the input down")]
    Overflow {
        /// The quantity that overflows.
        name: &'static str,
    },
    /// There is nothing to take a direction from.
    #[error("{name}: {why}")]
    Empty {
        /// The argument at fault.
        name: &'static str,
        /// What is missing.
        why: &'static str,
    },
    /// The result does not fit in memory.
    #[error("no memory for {values} values of 8 bytes; use fewer bins or fewer particles")]
    Memory {
        /// Values that were asked for.
        values: usize,
    },
    /// The system gave no worker threads.
    #[error("cannot start {threads} threads: {reason}; use threads=1")]
    Pool {
        /// Threads that were asked for.
        threads: usize,
        /// What the system says.
        reason: String,
    },
}

impl Error {
    pub(crate) fn range(
        name: &'static str,
        got: &impl std::fmt::Debug,
        allowed: &'static str,
    ) -> Self {
        Self::Range {
            name,
            got: format!("{got:?}"),
            allowed,
        }
    }
}

pub(crate) fn check_length(
    name: impl Into<Cow<'static, str>>,
    got: usize,
    expected: usize,
) -> Result<(), Error> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Length {
        name: name.into(),
        got,
        expected,
    })
}

pub(crate) fn check_finite(name: &'static str, values: &[f64]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NonFinite { name, index }),
        None => Ok(()),
    }
}
