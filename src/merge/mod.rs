//! Room merge.
