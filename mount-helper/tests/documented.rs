// SPDX-License-Identifier: MIT OR Apache-2.0
//! The options that the help and docs/mount-helper.md list are those that are taken.

mod common;

use common::{Place, text};

const PAGE: &str = include_str!("../../docs/mount-helper.md");

/// Every word by what the kernel backend does with it.
const TAKEN: &str = "ro rw suid nosuid dev nodev exec noexec sync async dirsync atime noatime relatime \
    norelatime strictatime nostrictatime diratime nodiratime user users owner group noxattr norepair \
    norecord allow_other xattr=off repair=off record=off allow_other=on nix-check=on nix-check=off x-a X-a=b comment=c user=u defaults \
    auto noauto nofail _netdev nouser noowner nogroup silent loud lazytime nolazytime iversion noiversion mand \
    nomand default_permissions";
const OF_THE_DRIVER: &str = "lower-ttl=1 watch=off xattr xattr=on repair repair=on record record=on noallow_other \
    allow_other=off";

#[test]
fn every_option_is_taken_as_the_page_and_the_help_say() {
    let place = Place::new();
    let merged = place.path("m").display().to_string();
    let help = text(&place.helper(&["--help"]).stdout);
    let table = PAGE
        .split("\n## ")
        .find(|part| part.starts_with("Options\n"));
    let table = table.unwrap_or_default();
    let asked = |option: &str| {
        let options = format!("{},backend=kernel,{option}", place.layers());
        place.helper(&["overlay", &merged, "-fo", &options])
    };
    for (list, code) in [(TAKEN, 0), (OF_THE_DRIVER, 1)] {
        for option in list.split_whitespace() {
            let output = asked(option);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{option}: {said}");
            assert!(!said.contains("unknown"), "{said}");
            let (name, rest) = option.split_at(option.find('=').map_or(option.len(), |at| at + 1));
            let known = match name {
                "x-a" => "x-*",
                "X-a=" => "X-*",
                "nix-check=" => option,
                name => name,
            };
            let listed = |page: &str, marks: &[char]| {
                let mut words = page.split(|c: char| c.is_whitespace() || marks.contains(&c));
                words.any(|word| word == known || word == option)
            };
            assert!(
                listed(table, &['`', ',', '|']),
                "{option} is not in the page"
            );
            // What a value turns off is in the page alone.
            if rest.is_empty() || option == "lower-ttl=1" || option == "nix-check=off" {
                assert!(listed(&help, &[',']), "{option} is not in the help");
            }
        }
    }
    let options = help.split("\n  -o ").nth(1).unwrap_or_default();
    for list in [table, options] {
        assert!(list.contains("diratime") && !list.contains("..."), "{list}");
    }
}
