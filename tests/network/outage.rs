// SPDX-License-Identifier: MIT OR Apache-2.0
//! "Kill and restart it under load": nothing that exists is told to be absent, no listing is short,
//! no byte is wrong, the upper works throughout, and everything is back without a remount.

use super::load::{Outage, under_load};
use super::server::Server;
use super::sshd::Sshd;
use super::world;
use crate::common::fixture::Fixture;
use crate::common::for_each_mode;
use std::cell::RefCell;

const OPTIONS: &str = ",lower-ttl=100ms";

/// Serves a store as the lower, over a network.
fn served(fx: &Fixture, options: &str) -> (Sshd, Server) {
    let store = world::store(fx);
    let sshd = Sshd::new(fx.mode(), &fx.scratch("ssh"));
    let server = sshd.sshfs(fx.mode(), &store.path(""), &fx.scratch("low"), options);
    (sshd, server)
}

for_each_mode!(
    /// The server's side of the connection is killed; sshfs connects anew.
    sessions_are_killed,
    [root, user],
    |fx| {
        let (sshd, _server) = served(fx, "reconnect");
        let view = world::mount(fx, &fx.scratch("low"), OPTIONS);
        under_load(fx, &view, &mut Outage {
            down: &mut || sshd.kill_sessions(),
            up: &mut || {},
            felt: false,
        });
    }
);

for_each_mode!(
    /// The server is down for a while; then sshfs connects anew.
    the_server_is_down,
    [root, user],
    |fx| {
        let (sshd, _server) = served(fx, "reconnect");
        let view = world::mount(fx, &fx.scratch("low"), OPTIONS);
        let sshd = RefCell::new(sshd);
        under_load(fx, &view, &mut Outage {
            down: &mut || sshd.borrow_mut().stop(),
            up: &mut || sshd.borrow_mut().start(),
            felt: true,
        });
    }
);

/// The program that serves the lower is killed; its mount is removed and made anew.
fn killed(fx: &Fixture, server: Server) {
    let view = world::mount(fx, &fx.scratch("low"), OPTIONS);
    let server = RefCell::new(server);
    under_load(
        fx,
        &view,
        &mut Outage {
            down: &mut || server.borrow_mut().kill(),
            up: &mut || server.borrow_mut().restart(),
            felt: true,
        },
    );
}

for_each_mode!(
    /// sshfs is killed, and mounted again at the same path.
    sshfs_is_killed,
    [root, user],
    |fx| {
        let (_sshd, server) = served(fx, "reconnect");
        killed(fx, server);
    }
);

for_each_mode!(
    /// bindfs is killed, and mounted again at the same path.
    bindfs_is_killed,
    |fx| {
        let store = world::store(fx);
        killed(fx, Server::bindfs(fx.mode(), &store.path(""), &fx.scratch("low")));
    }
);

for_each_mode!(
    /// Without `reconnect` sshfs ends with its session and takes its mount away: what is left is an
    /// empty directory, which is not the lower.
    sshfs_ends_by_itself,
    [root, user],
    |fx| {
        let (sshd, server) = served(fx, "dir_cache=no");
        let view = world::mount(fx, &fx.scratch("low"), OPTIONS);
        let server = RefCell::new(server);
        under_load(fx, &view, &mut Outage {
            down: &mut || sshd.kill_sessions(),
            up: &mut || server.borrow_mut().restart(),
            felt: true,
        });
    }
);
