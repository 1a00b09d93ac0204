// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]

#[path = "../properties/mod.rs"]
#[allow(dead_code, reason = "each target has one property")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::nar(data));
