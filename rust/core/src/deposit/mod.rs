//! Ways of leaving on a picture what particles hold.

pub mod smoothed;
