//! Room layer.
