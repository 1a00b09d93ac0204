// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layouts from every spelling, row by row.
use super::*;

/// A layout with these directories and nothing else.
pub(super) fn overlay(lower: &str, upper: &str, merged: &str) -> Layout {
    Layout {
        lower: PathBuf::from(lower),
        lower_store: LowerStore::Directory,
        upper: PathBuf::from(upper),
        work: None,
        merged: PathBuf::from(merged),
        store_dir: PathBuf::from("/nix/store"),
        state: None,
        check_mount: true,
        read_only: false,
        settings: Settings::default(),
    }
}

fn env_with(vars: &[(&str, &str)], probe: Probe) -> LayoutEnv {
    let vars = vars
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    LayoutEnv::new(vars, PathBuf::from("/cwd"), false, probe)
}

/// A host where the state may be written, so that `auto` is the local store.
fn env() -> LayoutEnv {
    env_with(
        &[("HOME", "/home/u")],
        Probe {
            usable: |_| true,
            exists: |_| true,
        },
    )
}

fn parse(url: &str) -> (Layout, Vec<String>) {
    let (layout, warnings) =
        Layout::from_url(url, &env()).unwrap_or_else(|error| panic!("{url}: {error}"));
    (layout, warnings.iter().map(Warning::to_string).collect())
}

fn refused(url: &str) -> String {
    let error = Layout::from_url(url, &env()).expect_err(url).to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

fn local(state: &str, read_only: bool) -> LowerStore {
    LowerStore::Local {
        state: PathBuf::from(state),
        read_only,
    }
}

fn daemon(socket: &str) -> LowerStore {
    LowerStore::Daemon {
        socket: PathBuf::from(socket),
    }
}

/// Returns the lower store that a row of the table means: its type and its path.
fn named(text: &str) -> LowerStore {
    match text.split_once(' ').expect("a row has two words") {
        ("local", state) => local(state, false),
        ("local-ro", state) => local(state, true),
        ("daemon", socket) => daemon(socket),
        _ => LowerStore::Directory,
    }
}

const UPPER_SIDES: &[(&str, &str, &str, &str, &str)] = &[
    (
        "local-overlay://?upper-layer=/u",
        "/nix/store",
        "/nix/var/nix",
        "/nix/store",
        "/nix/var/log/nix",
    ),
    (
        "local-overlay:?upper-layer=/u",
        "/nix/store",
        "/nix/var/nix",
        "/nix/store",
        "/nix/var/log/nix",
    ),
    (
        "local-overlay:///r?upper-layer=/u",
        "/r/nix/store",
        "/r/nix/var/nix",
        "/nix/store",
        "/r/nix/var/log/nix",
    ),
    (
        "local-overlay:/r?upper-layer=/u",
        "/r/nix/store",
        "/r/nix/var/nix",
        "/nix/store",
        "/r/nix/var/log/nix",
    ),
    (
        "local-overlay://?root=/r&upper-layer=/u",
        "/r/nix/store",
        "/r/nix/var/nix",
        "/nix/store",
        "/r/nix/var/log/nix",
    ),
    (
        "local-overlay:///p?root=/r&upper-layer=/u",
        "/r/nix/store",
        "/r/nix/var/nix",
        "/nix/store",
        "/r/nix/var/log/nix",
    ),
    (
        "local-overlay:///p?root=&upper-layer=/u",
        "/nix/store",
        "/nix/var/nix",
        "/nix/store",
        "/nix/var/log/nix",
    ),
    (
        "local-overlay://?root=/r&store=/s&upper-layer=/u",
        "/r/nix/store",
        "/r/nix/var/nix",
        "/s",
        "/r/nix/var/log/nix",
    ),
    (
        "local-overlay://?store=/s//x/&upper-layer=/u",
        "/s/x",
        "/nix/var/nix",
        "/s/x",
        "/nix/var/log/nix",
    ),
    (
        "local-overlay://?root=/r&real=/m&state=/st&log=/lg&upper-layer=/u",
        "/m",
        "/st",
        "/nix/store",
        "/lg",
    ),
    (
        "local-overlay://?root=/r/../q/&upper-layer=/u",
        "/q/nix/store",
        "/q/nix/var/nix",
        "/nix/store",
        "/q/nix/var/log/nix",
    ),
    (
        "local-overlay://?root=/&upper-layer=/u",
        "/nix/store",
        "/nix/var/nix",
        "/nix/store",
        "/nix/var/log/nix",
    ),
];

#[test]
fn finds_the_upper_side_of_every_url() {
    // url, merged, state, store directory, log
    for (url, merged, state, store_dir, log) in UPPER_SIDES {
        let layout = parse(url).0;
        assert_eq!(layout.merged, Path::new(merged), "{url}");
        assert_eq!(layout.state.as_deref(), Some(Path::new(state)), "{url}");
        assert_eq!(layout.store_dir, Path::new(store_dir), "{url}");
        assert_eq!(
            layout.settings.log.as_deref(),
            Some(Path::new(log)),
            "{url}"
        );
        assert_eq!(layout.upper, Path::new("/u"), "{url}");
        assert_eq!(layout.work, None);
        assert!(layout.check_mount && !layout.read_only);
    }
}

const LOWER_STORES: &[(&str, &str, &str)] = &[
    ("", "/nix/store", "local /nix/var/nix"),
    ("auto", "/nix/store", "local /nix/var/nix"),
    ("auto?root=/l", "/l/nix/store", "local /l/nix/var/nix"),
    ("local", "/nix/store", "local /nix/var/nix"),
    ("/l", "/l/nix/store", "local /l/nix/var/nix"),
    ("./l", "/cwd/l/nix/store", "local /cwd/l/nix/var/nix"),
    (
        "/l?read-only=true",
        "/l/nix/store",
        "local-ro /l/nix/var/nix",
    ),
    (
        "/l%3Fread-only%3Dtrue",
        "/l/nix/store",
        "local-ro /l/nix/var/nix",
    ),
    ("local?root=/l", "/l/nix/store", "local /l/nix/var/nix"),
    (
        "local://?root=/l%26read-only=1",
        "/l/nix/store",
        "local-ro /l/nix/var/nix",
    ),
    (
        "local%3A%2F%2F%3Froot%3D/l%26read-only%3Dtrue",
        "/l/nix/store",
        "local-ro /l/nix/var/nix",
    ),
    ("local:///l", "/l/nix/store", "local /l/nix/var/nix"),
    ("local?real=/ro%26state=/st", "/ro", "local /st"),
    (
        "daemon",
        "/nix/store",
        "daemon /nix/var/nix/daemon-socket/socket",
    ),
    (
        "unix://",
        "/nix/store",
        "daemon /nix/var/nix/daemon-socket/socket",
    ),
    ("unix:///run/s", "/nix/store", "daemon /run/s"),
    (
        "unix%3A%2F%2F/run/s%3Froot%3D/l",
        "/l/nix/store",
        "daemon /run/s",
    ),
    (
        "daemon?real=/l%26max-connections=2",
        "/l",
        "daemon /nix/var/nix/daemon-socket/socket",
    ),
    (
        "mounted-ssh-ng://host?real=/l%26max-connections=2",
        "/l",
        "directory -",
    ),
];

#[test]
fn finds_the_lower_store_in_every_form() {
    for (lower, directory, store) in LOWER_STORES {
        let (layout, warnings) = parse(&format!(
            "local-overlay://?upper-layer=/u&lower-store={lower}"
        ));
        assert_eq!(layout.lower, Path::new(directory), "{lower}");
        assert_eq!(layout.lower_store, named(store), "{lower}");
        let expected = usize::from(lower.starts_with("mounted"));
        assert_eq!(warnings.len(), expected, "{lower}: {warnings:?}");
    }
}

#[test]
fn auto_chooses_as_nix_does() {
    let lower = |vars: &[(&str, &str)], probe: Probe| {
        let env = env_with(vars, probe);
        let (layout, warnings) = Layout::from_url("local-overlay://?upper-layer=/u", &env).unwrap();
        (layout.lower, layout.lower_store, warnings.len())
    };
    let no_state = Probe {
        usable: |_| false,
        exists: |path| path.ends_with("socket"),
    };
    let nothing = Probe {
        usable: |_| false,
        exists: |_| false,
    };
    let store = PathBuf::from("/nix/store");
    let socket = daemon("/nix/var/nix/daemon-socket/socket");
    assert_eq!(lower(&[], no_state), (store.clone(), socket, 0));
    let named = [("NIX_DAEMON_SOCKET_PATH", "/run/socket")];
    assert_eq!(
        lower(&named, no_state),
        (store.clone(), daemon("/run/socket"), 0)
    );
    let home = [("HOME", "/h")];
    let private = "/h/.local/share/nix/root/nix";
    let expected = local(&format!("{private}/var/nix"), false);
    assert_eq!(
        lower(&home, nothing),
        (PathBuf::from(format!("{private}/store")), expected, 1)
    );
    let chosen = [("HOME", "/h"), ("NIX_STATE_DIR", "/st")];
    assert_eq!(lower(&chosen, nothing), (store, local("/st", false), 0));
}

#[test]
fn overlays_nest_to_any_depth() {
    let inner = "local-overlay://?lower-store=/l&upper-layer=/u1&root=/m1";
    let middle = nested(inner, "/u2", "/m2");
    assert_eq!(parse(&middle).1, [""; 0]);
    let (layout, warnings) = parse(&nested(&middle, "/u3", "/m3"));
    assert_eq!(warnings.len(), 1, "an older Nix cannot read three levels");
    assert_eq!(layout.lower, Path::new("/m2/nix/store"));
    let LowerStore::Overlay(layout) = layout.lower_store else {
        panic!("the lower store is an overlay");
    };
    assert_eq!(
        (layout.lower.as_path(), layout.upper.as_path()),
        (Path::new("/m1/nix/store"), Path::new("/u2"))
    );
    let LowerStore::Overlay(layout) = layout.lower_store else {
        panic!("the lower store of the lower store is an overlay");
    };
    assert_eq!(*layout, parse(inner).0);
}

fn nested(lower: &str, upper: &str, root: &str) -> String {
    let lower = crate::store::percent::encode_query_value(lower.as_bytes());
    format!("local-overlay://?lower-store={lower}&upper-layer={upper}&root={root}")
}

#[test]
fn endless_nesting_is_refused() {
    let url = "local-overlay:?lower-store=".repeat(5000);
    assert!(refused(&format!("{}&upper-layer=/u", &url[..url.len() - 1])).contains("upper-layer"));
    let mut url = "local-overlay://?upper-layer=/u".to_owned();
    for _ in 0..8 {
        url = nested(&url, "/u", "/m");
    }
    assert_eq!(parse(&url).0.lower, Path::new("/m/nix/store"));
}

#[test]
fn tells_where_an_older_nix_decodes_differently() {
    let (layout, warnings) = parse("local-overlay://?upper-layer=/u&lower-store=/a%252Fb");
    assert_eq!(layout.lower, Path::new("/a%2Fb/nix/store"));
    assert_eq!(
        warnings,
        [
            "Nix before 2.34 decodes lower-store twice and takes another lower store \
         (/a/b/nix/store); with such a Nix avoid percent signs and deeper nesting"
        ]
    );
    let (_, warnings) = parse("local-overlay://?upper-layer=/u&lower-store=/a%25");
    assert_eq!(
        warnings,
        [
            "Nix before 2.34 decodes lower-store twice and refuses it; with such a Nix avoid percent signs and deeper nesting"
        ]
    );
    assert_eq!(
        parse("local-overlay://?upper-layer=/a%252F&lower-store=/l").1,
        [""; 0]
    );
    let twice = refused(
        "local-overlay://?upper-layer=/u&lower-store=local%253A%252F%252F%253Froot%253D%252Fl",
    );
    assert!(
        twice.ends_with(
            "; lower-store is percent-encoded twice, as Nix before 2.34 wants it; encode it once"
        ),
        "{twice}"
    );
}

#[test]
fn reads_every_setting_of_nix() {
    let (layout, warnings) = parse(
        "local-overlay://?upper-layer=/u&lower-store=/l&check-mount=false&remount-hook=/h&require-sigs=no\
         &read-only=yes&build-dir=/b&ignore-gc-delete-failure=1&use-roots-daemon=true\
         &path-info-cache-size=2K&trusted=true&priority=-3&want-mass-query=true\
         &system-features=kvm%20%20big-parallel&root=/r",
    );
    assert_eq!(warnings, [""; 0]);
    assert!(layout.read_only && !layout.check_mount);
    let expected = Settings {
        root: Some(PathBuf::from("/r")),
        log: Some(PathBuf::from("/r/nix/var/log/nix")),
        remount_hook: Some(PathBuf::from("/h")),
        require_sigs: Some(false),
        build_dir: Some(PathBuf::from("/b")),
        ignore_gc_delete_failure: true,
        use_roots_daemon: true,
        path_info_cache_size: 2048,
        trusted: true,
        priority: -3,
        want_mass_query: true,
        system_features: Some(vec![OsString::from("kvm"), OsString::from("big-parallel")]),
    };
    assert_eq!(layout.settings, expected);
    assert_eq!(
        parse("local-overlay://?upper-layer=/u&remount-hook=")
            .0
            .settings
            .remount_hook,
        None
    );
}

#[test]
fn warns_about_what_has_no_effect() {
    let table = [
        ("typo=1", "unknown setting 'typo' of the store is ignored"),
        (
            "max-connections=1",
            "unknown setting 'max-connections' of the store is ignored",
        ),
        (
            "lower-store=/l?check-mount=true",
            "unknown setting 'check-mount' of the lower store is ignored",
        ),
        (
            "upper-layer=/v",
            "store: setting upper-layer is given twice; the first counts",
        ),
        ("read-only", "store: 'read-only' has no '=' and is ignored"),
        (
            "lower-store=/l?x",
            "lower-store: 'x' has no '=' and is ignored",
        ),
        (
            "root=/r#x",
            "store: '#x' is ignored, as Nix does; write %23 for a '#' that belongs to a value",
        ),
        (
            "lower-store=/l?store=/s",
            "the lower store's objects are named /s/..., not /nix/store/...; set store= alike for both",
        ),
    ];
    for (part, warning) in table {
        let (layout, warnings) = parse(&format!("local-overlay://?upper-layer=/u&{part}"));
        assert_eq!(warnings, [warning], "{part}");
        assert_eq!(layout.upper, Path::new("/u"));
    }
}

const REFUSED_URLS: &[(&str, &str)] = &[
    (
        "local-overlay://",
        "setting upper-layer: missing, and it has no default; add upper-layer=/DIR to the store URL",
    ),
    (
        "local-overlay://?upper-layer=u",
        "setting upper-layer=u: not an absolute path; write the path from the root, as /dir/name",
    ),
    (
        "local-overlay://?upper-layer=",
        "setting upper-layer=: the path is empty; write the path from the root, as /dir/name",
    ),
    (
        "local-overlay://?upper-layer=/a%00",
        "setting upper-layer=/a\\x00: no path holds a NUL byte; write the path from the root, as /dir/name",
    ),
    (
        "local-overlay://h/m?upper-layer=/u",
        "setting root=h/m: not an absolute path; write the path from the root, as /dir/name",
    ),
    (
        "local-overlay://?upper-layer=/u&read-only=maybe",
        "setting read-only=maybe: not a boolean; write true or false",
    ),
    (
        "local-overlay://?upper-layer=/u&priority=1x",
        "setting priority=1x: not a number, or out of range; write digits, with K, M, G or T behind them for powers of 1024",
    ),
    (
        "local-overlay://?upper-layer=/u&path-info-cache-size=-1",
        "setting path-info-cache-size=-1: not a number, or out of range; write digits, with K, M, G or T behind them for powers of 1024",
    ),
    (
        "local-overlay://?upper-layer=/u&lower-store=store-a",
        "lower-store store-a: neither a store URL nor a path; write local-overlay://, local://, unix://, daemon, or a path with a '/'",
    ),
    (
        "local-overlay://?upper-layer=/u&lower-store=ssh://h",
        "setting lower-store=ssh://h: this store type has no store directory on this host; use a path, local://, daemon, unix:// or local-overlay://",
    ),
    (
        "local-overlay://?upper-layer=/u&lower-store=/l?read-only=x",
        "setting read-only=x: not a boolean; write true or false",
    ),
    (
        "local-overlay?upper-layer=/u",
        "store local-overlay?upper-layer=/u: neither a store URL nor a path; write local-overlay://?NAME=VALUE",
    ),
    (
        "local-overlay://?upper-layer=/u{",
        "store local-overlay://?upper-layer=/u{: '{' must be written as %7B behind the '?'",
    ),
    (
        "local://?root=/r",
        "store local://?root=/r: not a local overlay store; write local-overlay://?lower-store=STORE&upper-layer=/DIR",
    ),
    (
        "auto",
        "store auto: not a local overlay store; write local-overlay://?lower-store=STORE&upper-layer=/DIR",
    ),
];

#[test]
fn refusals_name_setting_value_and_way_out() {
    for (url, message) in REFUSED_URLS {
        assert_eq!(&refused(url), message, "{url}");
    }
}

#[test]
fn variables_give_the_defaults() {
    let probe = Probe {
        usable: |_| true,
        exists: |_| true,
    };
    let vars = [
        ("NIX_STORE", "/s1"),
        ("NIX_STATE_DIR", "/st/"),
        ("NIX_LOG_DIR", "/lg"),
    ];
    let url = "local-overlay://?upper-layer=/u";
    let (layout, _) = Layout::from_url(url, &env_with(&vars, probe)).unwrap();
    assert_eq!(
        (layout.merged.as_path(), layout.store_dir.as_path()),
        (Path::new("/s1"), Path::new("/s1"))
    );
    assert_eq!(layout.state.as_deref(), Some(Path::new("/st")));
    let both = env_with(&[("NIX_STORE", "/s1"), ("NIX_STORE_DIR", "/s2")], probe);
    assert_eq!(
        Layout::from_url(url, &both).unwrap().0.store_dir,
        Path::new("/s2")
    );
    let bad = env_with(&[("NIX_STATE_DIR", "st")], probe);
    let error = Layout::from_url(url, &bad).unwrap_err().to_string();
    assert_eq!(
        error,
        "variable NIX_STATE_DIR=st: not an absolute path; unset it, or write it from the root, as /nix/var/nix"
    );
}

fn options(list: &[&str]) -> crate::error::Result<(Layout, MountOptions)> {
    let list: Vec<OsString> = list.iter().map(OsString::from).collect();
    Layout::from_mount_options(&list, Path::new("m"), &env())
}

#[test]
fn mount_options_give_a_layout() {
    let (layout, mount) = options(&[
        "lowerdir=/l\\,1\\:x,upperdir=u\\\\",
        "workdir=/w,ro,rw,nosuid",
    ])
    .unwrap();
    assert_eq!(layout.lower, Path::new("/l,1:x"));
    assert_eq!(layout.lower_store, LowerStore::Directory);
    assert_eq!(layout.upper, Path::new("/cwd/u\\"));
    assert_eq!(layout.work.as_deref(), Some(Path::new("/w")));
    assert_eq!(layout.merged, Path::new("/cwd/m"));
    assert_eq!(layout.state, None);
    assert_eq!(layout.store_dir, Path::new("/nix/store"));
    assert_eq!(mount, MountOptions::default());
}

#[test]
fn later_options_win() {
    let (layout, mount) = options(&[
        "lowerdir=/a,upperdir=/u,xattr,lower-ttl=5,watch=off,repair,record,nix-check=off,allow_other,noatime",
        "lowerdir=/b,lower-ttl=250ms,noallow_other,strictatime,suid,dev,noexec,sync,dirsync,nodiratime,ro,nofail,x-systemd.automount,_netdev,comment=x",
    ])
    .unwrap();
    assert_eq!(layout.lower, Path::new("/b"));
    let expected = MountOptions {
        xattr: true,
        lower_ttl: std::time::Duration::from_millis(250),
        watch: false,
        repair: true,
        record: true,
        nix_check: false,
        allow_other: Some(false),
        attributes: mount.attributes,
        driver_only: mount.driver_only.clone(),
    };
    assert_eq!(mount, expected);
    let words = |mount: &MountOptions| mount.attributes.words().collect::<Vec<_>>().join(",");
    assert_eq!(
        words(&mount),
        "ro,noexec,sync,dirsync,strictatime,nodiratime"
    );
    let taken_back =
        options(&["lowerdir=/a,upperdir=/u,repair,record,xattr,norepair,norecord,xattr=off"]);
    assert_eq!(taken_back.unwrap().1.driver_only.first(), None);
    assert_eq!(mount.driver_only.first(), Some("lower-ttl"));
    let (_, user) = options(&["lowerdir=/a,upperdir=/u,user"]).unwrap();
    assert_eq!(words(&user), "nosuid,nodev,noexec");
}

const REFUSED_OPTIONS: &[(&str, &str)] = &[
    (
        "upperdir=/u",
        "option lowerdir: missing, and it has no default; add -o lowerdir=/DIR, or mount a store URL",
    ),
    (
        "lowerdir=/l",
        "option upperdir: missing, and it has no default; add -o upperdir=/DIR, or mount a store URL",
    ),
    (
        "lowerdir=/a:/b",
        "option lowerdir=/a:/b: there can be only one lower directory; nest overlay stores instead, or write a colon of a path as \\:",
    ),
    (
        "lowerdir+=/a",
        "option lowerdir+=/a: there can be only one lower directory; nest overlay stores instead, or write a colon of a path as \\:",
    ),
    (
        "lowerdir=/a\\",
        "option lowerdir=/a\\\\: ends in a lone backslash; write a backslash of a path as two",
    ),
    ("upperdir=", "option upperdir=: the path is empty"),
    (
        "lowerdir",
        "option lowerdir: needs a value; write lowerdir=VALUE",
    ),
    (
        "nix-check=maybe",
        "option nix-check=maybe: neither on nor off; write on or off",
    ),
    (
        "lower-ttl=soon",
        "option lower-ttl=soon: not a time; write a time such as 0, 500ms, 1s or 2m",
    ),
    (
        "lower-ttl=-1",
        "option lower-ttl=-1: not a time; write a time such as 0, 500ms, 1s or 2m",
    ),
    (
        "lower-ttl=9999h",
        "option lower-ttl=9999h: longer than a day; write a time such as 0, 500ms, 1s or 2m",
    ),
];

#[test]
fn wrong_options_are_named() {
    for (list, message) in REFUSED_OPTIONS {
        assert_eq!(
            &options(&[list]).unwrap_err().to_string(),
            message,
            "{list}"
        );
    }
    for unknown in ["repairs", "records", "remount", "metacopy=on", "xattrs"] {
        let error = options(&[unknown]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("option {unknown}: unknown; options are ")),
            "{error}"
        );
    }
}

#[test]
fn a_url_takes_a_work_directory_and_no_layers() {
    let url = "local-overlay://?upper-layer=/u&lower-store=/l";
    let from = |list: &str| Layout::from_url_and_options(url, &[OsString::from(list)], &env());
    let (layout, mount, warnings) = from("workdir=/w,xattr").unwrap();
    assert_eq!(
        (layout.work_or_default(), mount.xattr, warnings.len()),
        (PathBuf::from("/w"), true, 0)
    );
    assert_eq!(from("").unwrap().0.work_or_default(), Path::new("/u.work"));
    let error = from("lowerdir=/x").unwrap_err().to_string();
    assert_eq!(
        error,
        "option lowerdir=/x: the store URL names the layers already; leave it out, or mount without a URL"
    );
}

#[test]
fn settings_given_plain_need_no_escapes() {
    let settings = [
        ("upper-layer", OsString::from("/u&%41")),
        ("lower-store", OsString::from("/l?read-only=true")),
    ];
    let (layout, warnings) = Layout::from_settings(&settings, &env()).unwrap();
    assert_eq!(layout.upper, Path::new("/u&%41"));
    assert_eq!(layout.lower_store, local("/l/nix/var/nix", true));
    assert_eq!(warnings, []);
}

mod properties {
    use super::*;
    use crate::store::percent::encode_query_value;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    /// An absolute canonical path with many bytes that mean something somewhere.
    fn path() -> impl Strategy<Value = PathBuf> {
        let special = prop::sample::select(b"\\,:#%&=+? \t\n\"(".to_vec());
        let byte = prop_oneof![
            special,
            (1..=255u8).prop_filter("one component", |byte| *byte != b'/')
        ];
        let part = prop::collection::vec(byte, 1..12)
            .prop_filter("no dots", |part| part != b"." && part != b"..");
        prop::collection::vec(part, 1..4).prop_map(|parts| {
            PathBuf::from(OsString::from_vec(
                [b"/".as_slice(), &parts.join(&b'/')].concat(),
            ))
        })
    }

    proptest! {
        #[test]
        fn any_paths_survive_a_url(lower in path(), upper in path(), root in path()) {
            let encode = |path: &Path| encode_query_value(path.as_os_str().as_bytes());
            let inner = format!("local://?real={}", encode(&lower));
            let url = format!(
                "local-overlay://?lower-store={}&upper-layer={}&root={}",
                encode_query_value(inner.as_bytes()), encode(&upper), encode(&root)
            );
            let layout = Layout::from_url(&url, &env()).unwrap().0;
            prop_assert_eq!(layout.lower, lower);
            prop_assert_eq!(layout.upper, upper);
            prop_assert_eq!(layout.merged, root.join("nix/store"));
        }

        #[test]
        fn any_paths_survive_options(lower in path(), upper in path(), work in path()) {
            let encode = |path: &Path| escape_option_value(path.as_os_str().as_bytes());
            let list = [
                b"lowerdir=".as_slice(), &encode(&lower), b",upperdir=", &encode(&upper),
                b",workdir=", &encode(&work), b",xattr",
            ].concat();
            let list = [OsString::from_vec(list)];
            let (layout, mount) = Layout::from_mount_options(&list, Path::new("/m"), &env()).unwrap();
            prop_assert_eq!((layout.lower, layout.upper, layout.work), (lower, upper, Some(work)));
            prop_assert!(mount.xattr);
        }

        #[test]
        fn any_text_is_judged_in_one_line(text in "[a-z:/?&=%#,\\\\ 0-9\n]{0,60}") {
            let url = format!("local-overlay://?upper-layer=/u&lower-store={text}");
            if let Err(error) = Layout::from_url(&url, &env()) {
                prop_assert!(!error.to_string().contains('\n'));
            }
            if let Err(error) = options(&[&text]) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }

        #[test]
        fn a_path_that_passes_the_check_is_found_by_nix(lower in path(), upper in path(), merged in path()) {
            let mut layout = overlay("/", "/", "/");
            (layout.lower, layout.upper, layout.merged) = (lower, upper, merged);
            if layout.nix_check().is_ok() {
                let fstype = layout.fuse_type().unwrap();
                let shown = escape_mount_field(fstype.as_bytes());
                let text = |path: &Path| path.as_os_str().as_bytes().to_vec();
                let wanted = [b"fuse.overstore,lowerdir=".as_slice(), &text(&layout.lower), b",upperdir=", &text(&layout.upper)].concat();
                prop_assert_eq!(shown, wanted);
                prop_assert_eq!(unescape_mount_field(&text(&layout.merged)), text(&layout.merged));
            }
        }
    }
}
