// SPDX-License-Identifier: MIT OR Apache-2.0
//! Derivations: those of Nix, and what no derivation may be.

use super::super::make;
use super::*;
use proptest::prelude::*;
use std::path::Path;

/// Written by Nix, with two outputs, a source and every escape.
const A: &str = r#"Derive([("dev","/nix/store/90gd1bv2sivy6p2fmq7p4v5fynpjvjwh-a-dev","",""),("out","/nix/store/159gy149wgp0whkfwya8s1245950iwbk-a","","")],[],["/nix/store/msxrzymr8qp2fnwmmh9508yamambp3rn-src.txt"],"x86_64-linux","/bin/sh",["-c","echo \"hi\n\t\\\" > $out"],[("builder","/bin/sh"),("dev","/nix/store/90gd1bv2sivy6p2fmq7p4v5fynpjvjwh-a-dev"),("name","a"),("out","/nix/store/159gy149wgp0whkfwya8s1245950iwbk-a"),("outputs","out dev"),("src","/nix/store/msxrzymr8qp2fnwmmh9508yamambp3rn-src.txt"),("system","x86_64-linux"),("tricky","a\"b\\c\nd\te\rf$")])"#;

const FIXED: &str = r#"Derive([("out","/nix/store/mzi07pk0jwzcg713fpg8k38hccb9hf1b-recsha1","r:sha1","0000000000000000000000000000000000000001")],[("/nix/store/wdiqdhbjmrxw3fg5cnyqif6xaq2w4inw-fixed.drv",["out"]),("/nix/store/z9pgc9p57v82czp27vj96ziqn679n8zb-a.drv",["dev","out"])],[],"x86_64-linux","/bin/sh",[],[])"#;

const DYNAMIC: &str = r#"DrvWithVersion("xp-dyn-drv",[("a","","r:sha256",""),("b","","text:sha256","impure"),("c","","","")],[("/nix/store/wdiqdhbjmrxw3fg5cnyqif6xaq2w4inw-fixed.drv",(["out"],[("out",["x","y"]),("z",([],[("deep",["out"])]))])),("/nix/store/z9pgc9p57v82czp27vj96ziqn679n8zb-a.drv",["dev"])],[],"s","b",[],[])"#;

fn dir() -> StoreDir {
    StoreDir::new(Path::new("/nix/store")).unwrap()
}

fn parse(text: &str) -> Result<Derivation, Malformed> {
    Derivation::parse(&dir(), text.as_bytes())
}

#[test]
fn texts_of_nix_round_trip() {
    for text in [A, FIXED, DYNAMIC] {
        let derivation = parse(text).unwrap();
        let again = derivation.to_bytes(&dir());
        assert_eq!(
            again.escape_ascii().to_string(),
            text.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn strings_are_without_escapes() {
    let derivation = parse(A).unwrap();
    let tricky = &derivation.environment[b"tricky".as_slice()];
    assert_eq!(tricky, b"a\"b\\c\nd\te\rf$");
    assert_eq!(derivation.arguments[1], b"echo \"hi\n\t\\\" > $out");
    assert_eq!(derivation.input_sources.len(), 1);
}

#[test]
fn outputs_with_known_paths() {
    let known = |text: &str| -> Vec<(String, String)> {
        let outputs = parse(text).unwrap().known_outputs().into_iter();
        outputs
            .map(|(name, path)| (name, path.to_string()))
            .collect()
    };
    let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
    assert_eq!(
        known(A),
        [
            pair("dev", "90gd1bv2sivy6p2fmq7p4v5fynpjvjwh-a-dev"),
            pair("out", "159gy149wgp0whkfwya8s1245950iwbk-a"),
        ]
    );
    assert_eq!(
        known(FIXED),
        [pair("out", "mzi07pk0jwzcg713fpg8k38hccb9hf1b-recsha1")]
    );
    assert_eq!(known(DYNAMIC), []);
}

#[test]
fn a_fixed_output_leads_to_its_path() {
    let derivation = parse(FIXED).unwrap();
    let output = &derivation.outputs["out"];
    let address = output.address().unwrap();
    let made = make::fixed_output(&dir(), &address, "recsha1", "out").unwrap();
    assert_eq!(Some(&made), output.path());
    assert_eq!(parse(A).unwrap().outputs["out"].address(), None);
}

#[test]
fn inputs_are_told() {
    let derivation = parse(FIXED).unwrap();
    let inputs: Vec<_> = derivation
        .input_derivations
        .iter()
        .map(|(input, wanted)| (input.name_part(), wanted.outputs.len()))
        .collect();
    assert_eq!(inputs, [("fixed.drv", 1), ("a.drv", 2)]);
    assert!(derivation.input_derivations.keys().all(is_derivation));
    let dynamic = parse(DYNAMIC).unwrap();
    let nested = dynamic.input_derivations.values().next().unwrap();
    assert_eq!(nested.dynamic["z"].dynamic["deep"].outputs.len(), 1);
}

#[test]
fn what_is_no_derivation_is_refused() {
    let path = "/nix/store/159gy149wgp0whkfwya8s1245950iwbk-a";
    let cases = [
        ("", 0),
        ("Derive", 0),
        ("DrvWithVersion(\"xp-other\",", 0),
        (&A[..A.len() - 1], A.len() - 1),
        (&A[..50], 50),
        // Nothing may follow, not even a line break.
        (&format!("{A}\n"), A.len()),
    ];
    for (text, at) in cases {
        assert_eq!(parse(text).unwrap_err().at, at, "{text}");
    }
    for (from, to) in [
        ("(\"dev\",", "(\"zev\","),
        ("(\"dev\",", "(\"out\","),
        ("[],[\"/nix", "[],[\"/gnu"),
        ("[],[\"/nix", "[],[\"//nix"),
        ("\\t", "\t"),
        ("\\t", "\\v"),
        ("-a-dev\",\"\",\"\")", "-a-dev\",\"sha256\",\"\")"),
        ("-a-dev\",\"\",\"\")", "-a-dev\",\"sha256\",\"impure\")"),
        ("-a-dev\",\"\",\"\")", "-a-dev\",\"\",\"00\")"),
        (path, ""),
    ] {
        let text = A.replacen(from, to, 1);
        assert_ne!(text, A, "{from}");
        let deferred = from == path;
        assert_eq!(parse(&text).is_ok(), deferred, "{from} -> {to}");
    }
    // A plain derivation has no nested inputs, and nothing nested has one spelling.
    assert!(parse(&DYNAMIC.replace("DrvWithVersion(\"xp-dyn-drv\",", "Derive(")).is_err());
    assert!(parse(&DYNAMIC.replace(",[\"dev\"])", ",([\"dev\"],[]))")).is_err());
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let open = "([],[(\"o\",".repeat(depth);
        let close = ")])".repeat(depth);
        DYNAMIC.replace("[\"dev\"]", &format!("{open}[\"x\"]{close}"))
    };
    assert!(parse(&nested(32)).is_ok());
    let why = parse(&nested(33)).unwrap_err().why;
    assert_eq!(why, "inputs are nested too deeply");
    assert!(parse(&nested(100_000)).is_err());
}

proptest! {
    #[test]
    fn any_strings_round_trip(
        arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
        environment in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 0..8), prop::collection::vec(any::<u8>(), 0..8), 0..4),
    ) {
        let mut derivation = parse(FIXED).unwrap();
        derivation.arguments = arguments;
        derivation.environment = environment;
        let text = derivation.to_bytes(&dir());
        prop_assert_eq!(Derivation::parse(&dir(), &text), Ok(derivation));
    }
}
