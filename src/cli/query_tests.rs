// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the words of a command line ask, and what is printed.

use super::args::query::{PathInfoArgs, QueryArgs};
use super::query::{path_info_text, query_text};
use crate::error::{Kind, Result};
use crate::layout::{Layout, LayoutEnv, Probe};
use crate::metadata::Source;
use crate::roots::Root;
use crate::store::{ObjectName, Outputs, PathInfo, Sha256};
use clap::{Args, Command, FromArgMatches};
use std::collections::BTreeSet;
use std::path::Path;

const BASE: &str = "00000000000000000000000000000002-b";
const TOP: &str = "00000000000000000000000000000005-y";
const DRV: &str = "00000000000000000000000000000007-m.drv";

/// A store with these three; `TOP` refers to `BASE`.
#[derive(Debug)]
struct Three;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text.as_bytes()).unwrap()
}

impl Source for Three {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        let mut info = PathInfo::new(name.clone(), Sha256::of(b""), 160);
        if name.as_str() == TOP {
            info.references.insert(self::name(BASE));
        }
        Ok([BASE, TOP, DRV].contains(&name.as_str()).then_some(info))
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        Ok(self.path_info(name)?.is_some())
    }

    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        let referrers = (name.as_str() == BASE).then(|| self::name(TOP));
        Ok(referrers.into_iter().collect())
    }

    fn valid_derivers(&self, _: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        Ok(BTreeSet::new())
    }

    fn outputs(&self, _: &ObjectName) -> Result<Outputs> {
        Ok(Outputs::new())
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        Ok(self
            .all_valid()?
            .into_iter()
            .find(|name| name.hash_part() == hash_part))
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        Ok([BASE, TOP, DRV].map(name).into())
    }
}

fn parse<A: Args + FromArgMatches>(words: &[&str]) -> std::result::Result<A, clap::Error> {
    let command = A::augment_args(Command::new("it").no_binary_name(true));
    A::from_arg_matches(&command.try_get_matches_from(words)?)
}

/// A layout whose lower directory has the derivation.
fn layout(home: &Path) -> Layout {
    let list = format!("lowerdir={0}/l,upperdir={0}/u", home.display());
    let probe = Probe {
        usable: |_| true,
        exists: |_| true,
    };
    let env = LayoutEnv::new([], home.to_owned(), false, probe);
    let merged = home.join("m/nix/store");
    let (layout, _) = Layout::from_mount_options(&[list.into()], &merged, &env).unwrap();
    std::fs::create_dir(&layout.lower).unwrap();
    let text = format!(r#"Derive([("out","/nix/store/{BASE}","","")],[],[],"x","/b",[],[])"#);
    std::fs::write(layout.lower.join(DRV), text).unwrap();
    layout
}

fn ask(words: &[&str]) -> Result<String> {
    let home = tempfile::tempdir().unwrap();
    let layout = layout(home.path());
    let words: Vec<String> = words
        .iter()
        .map(|word| word.replace("MERGED", &layout.merged.display().to_string()))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let roots = || {
        Ok([Root {
            link: "/r".into(),
            object: name(TOP),
        }]
        .into())
    };
    let text = query_text(
        &parse::<QueryArgs>(&words).unwrap(),
        &layout,
        &Three,
        &roots,
    )?;
    Ok(text.replace("/nix/store/", ""))
}

#[test]
fn questions() {
    let (base, top) = (format!("/nix/store/{BASE}"), format!("MERGED/{TOP}/bin/x"));
    let drv = format!("/nix/store/{DRV}");
    let both = format!("{BASE}\n{TOP}\n");
    for (words, expected) in [
        (&["--references", &top][..], format!("{BASE}\n")),
        (&["--referrers", &base], format!("{TOP}\n")),
        (&["--requisites", &top], both.clone()),
        (
            &["-R", "--include-outputs", &drv],
            format!("{BASE}\n{DRV}\n"),
        ),
        (&["--referrers-closure", &base], both.clone()),
        (&["--deriver", &base], "unknown-deriver\n".to_owned()),
        (&["--valid-derivers", &base], String::new()),
        (&["--outputs", &drv], format!("{BASE}\n")),
        (&["--hash", &base], format!("{}\n", Sha256::of(b""))),
        (&["--size", &base, &top], "160\n160\n".to_owned()),
        (&["--roots", &base], format!("/r -> {TOP}\n")),
        (&["--tree", &base], format!("{BASE}\n")),
        (&["--path-from-hash-part", &BASE[..32]], format!("{BASE}\n")),
    ] {
        assert_eq!(ask(words), Ok(expected), "{words:?}");
    }
    assert!(
        ask(&["--graph", &base])
            .unwrap()
            .starts_with("digraph G {\n")
    );
    let why = ask(&["--hash", &base.replace("-b", "-none")]).unwrap_err();
    assert_eq!(why.kind(), Kind::Negative);
    let why = ask(&["--hash", "/elsewhere"]).unwrap_err();
    assert_eq!(why.kind(), Kind::Usage);
}

#[test]
fn one_question_at_a_time() {
    for wrong in [
        &["/nix/store/x"][..],
        &["--hash"],
        &["--hash", "--size", "/nix/store/x"],
        &["--hash", "--include-outputs", "/nix/store/x"],
    ] {
        assert!(parse::<QueryArgs>(wrong).is_err(), "{wrong:?}");
    }
    for wrong in [
        &[][..],
        &["--all", "/nix/store/x"],
        &["--json-format", "1", "x"],
        &["--json", "--json-format", "3", "x"],
    ] {
        assert!(parse::<PathInfoArgs>(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn path_infos() {
    let home = tempfile::tempdir().unwrap();
    let layout = layout(home.path());
    let tell = |words: &[&str]| {
        let wanted = parse::<PathInfoArgs>(words).unwrap();
        path_info_text(&wanted, &layout, &Three).map(|(text, code)| {
            let text = text.replace("/nix/store/", "");
            (text, code)
        })
    };
    let (base, top) = (format!("/nix/store/{BASE}"), format!("/nix/store/{TOP}"));
    let none = format!("{base}x");
    let sizes = format!("{BASE}\t   0.2 KiB\t   0.2 KiB\n{TOP}\t   0.2 KiB\t   0.3 KiB\n");
    let recursive = tell(&["-rsS", "--human-readable", &top]);
    assert_eq!(recursive, Ok((sizes, 0)));
    let all = format!("{BASE}\n{TOP}\n{DRV}\n");
    assert_eq!(tell(&["--all"]), Ok((all, 0)));
    assert_eq!(tell(&[&none]).unwrap_err().kind(), Kind::Negative);
    let (json, code) = tell(&["--json", "--json-format", "2", "-S", &top, &none]).unwrap();
    assert!(json.contains(&format!("\"{BASE}x\":null")), "{json}");
    assert!(json.contains("\"closureSize\":320"), "{json}");
    assert!(json.ends_with("\"version\":2}\n") && code == 1, "{json}");
    let (json, code) = tell(&["--json", &top]).unwrap();
    assert!(!json.contains("version") && code == 0, "{json}");
}
