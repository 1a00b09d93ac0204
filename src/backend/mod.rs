//! Room backend.
