// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mounts the merged view with kernel OverlayFS: validates one request, makes one mount.
