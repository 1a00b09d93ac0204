//! Room sys.

pub mod process;
