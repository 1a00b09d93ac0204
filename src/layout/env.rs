// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a layout depends on besides its own text: variables, working directory, the host.
//!
//! Invariant: handed in by the caller and never read here, so that parsing can be repeated.

use crate::error::{Error, Result};
use crate::store::path::{absolute, canonical};
use rustix::fs::{Access, access};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The surroundings in which a layout is parsed.
#[derive(Debug, Clone)]
pub struct LayoutEnv {
    vars: HashMap<OsString, OsString>,
    cwd: PathBuf,
    is_root: bool,
    probe: Probe,
}

/// The two questions about the host that `lower-store=auto` asks.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Whether this path may be read and written.
    pub usable: fn(&Path) -> bool,
    /// Whether this path exists.
    pub exists: fn(&Path) -> bool,
}

impl Probe {
    /// Returns the probe that asks the real host.
    pub fn host() -> Probe {
        Probe {
            usable: |path| access(path, Access::READ_OK | Access::WRITE_OK).is_ok(),
            exists: |path| match rustix::fs::lstat(path) {
                Ok(_) => true,
                // What may not be looked at is there: taking it for absent would choose another store.
                Err(errno) => errno != Errno::NOENT && errno != Errno::NOTDIR,
            },
        }
    }
}

impl LayoutEnv {
    /// Takes the variables of the process (`NIX_STORE_DIR` and others), its working directory
    /// and whether it runs as root.
    pub fn new(
        vars: impl IntoIterator<Item = (OsString, OsString)>,
        cwd: PathBuf,
        is_root: bool,
        probe: Probe,
    ) -> LayoutEnv {
        LayoutEnv {
            vars: vars.into_iter().collect(),
            cwd,
            is_root,
            probe,
        }
    }

    /// Returns the working directory, against which relative paths are read.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// Returns the default logical store directory.
    pub(super) fn store_dir(&self) -> Result<PathBuf> {
        self.directory(&["NIX_STORE_DIR", "NIX_STORE"], "/nix/store")
    }

    /// Returns the default state directory.
    pub(super) fn state_dir(&self) -> Result<PathBuf> {
        self.directory(&["NIX_STATE_DIR"], "/nix/var/nix")
    }

    /// Returns the default log directory.
    pub(super) fn log_dir(&self) -> Result<PathBuf> {
        self.directory(&["NIX_LOG_DIR"], "/nix/var/log/nix")
    }

    /// Returns the socket of the daemon of this host.
    pub(super) fn daemon_socket(&self) -> Result<PathBuf> {
        if self.var("NIX_DAEMON_SOCKET_PATH").is_some() {
            return self.directory(&["NIX_DAEMON_SOCKET_PATH"], "/");
        }
        Ok(self.state_dir()?.join("daemon-socket/socket"))
    }

    /// Tells whether `path` may be read and written.
    pub(super) fn usable(&self, path: &Path) -> bool {
        (self.probe.usable)(path)
    }

    /// Tells whether `path` exists.
    pub(super) fn exists(&self, path: &Path) -> bool {
        (self.probe.exists)(path)
    }

    /// Returns the store that Nix gives a user who has neither `/nix` nor a daemon: `None` where
    /// it would not (root, or a store was chosen by variable).
    pub(super) fn private_root(&self) -> Option<PathBuf> {
        if self.is_root
            || ["NIX_STORE_DIR", "NIX_STATE_DIR"]
                .iter()
                .any(|n| self.raw(n).is_some())
        {
            return None;
        }
        let data = match self.var("XDG_DATA_HOME") {
            Some(dir) => canonical(dir.as_bytes())?,
            None => canonical(self.var("HOME")?.as_bytes())?.join(".local/share"),
        };
        Some(data.join("nix/root"))
    }

    /// Returns `path` in absolute canonical form.
    pub(super) fn absolute(&self, path: &[u8]) -> Option<PathBuf> {
        absolute(path, &self.cwd)
    }

    fn raw(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    fn var(&self, name: &str) -> Option<&OsStr> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    fn directory(&self, names: &[&str], default: &str) -> Result<PathBuf> {
        for name in names {
            if let Some(value) = self.var(name) {
                let shown = value.as_bytes().escape_ascii();
                return canonical(value.as_bytes()).ok_or_else(|| {
                    Error::usage(format!("variable {name}={shown}"), "not an absolute path")
                        .hint(format!("unset it, or write it from the root, as {default}"))
                });
            }
        }
        Ok(PathBuf::from(default))
    }
}
