//! Room metadata.
