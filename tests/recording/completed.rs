// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is completed becomes valid, with the row that is true of it.

use crate::common::check::within;
use crate::common::for_each_mode;
use crate::world::{PATIENCE, Sure, World, name, recorder_ended, seal};
use overstore::store::derivation::Derivation;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

for_each_mode!(
    /// A file, a tree and a symlink that refer to each other, to themselves and to the lower.
    objects_of_every_kind_are_recorded,
    |fx| {
        let world = World::new(fx);
        let below = name(9, "below");
        world.below(&below, "lower");
        let [file, tree, link] = [name(1, "file"), name(2, "tree"), name(3, "link")];
        let view = world.mount();
        world.file(&file, "hello");
        let top = world.merged.join(&tree);
        fs::create_dir_all(top.join("sub/empty")).sure();
        fs::write(top.join("sub/refers"), format!("{file} and {tree}/sub")).sure();
        fs::write(top.join("to-below"), format!("/nix/store/{below}")).sure();
        fs::write(top.join("run"), "#!/bin/sh\n").sure();
        fs::set_permissions(
            top.join("run"),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .sure();
        seal(&top);
        let at = world.merged.join(&link);
        symlink(format!("/nix/store/{tree}/run"), &at).sure();
        seal(&at);
        for (object, references) in [
            (&file, vec![]),
            (&tree, vec![&*file, &tree, &below]),
            (&link, vec![&*tree]),
        ] {
            let row = world.recorded(&view, object);
            assert_eq!(row, world.expected(object, &references), "{object}");
        }
        let copied = world.row(&below).expect("the lower's row was copied up");
        assert_eq!(copied.size, 7);
        let mut names: Vec<_> = fs::read_dir(&world.upper)
            .sure()
            .map(|entry| entry.sure().file_name().into_string().expect("ASCII"))
            .collect();
        names.sort();
        // The locks go when the rows are there.
        within(PATIENCE, || fs::read_dir(&world.upper).sure().count() == 3);
        let left: BTreeSet<_> = fs::read_dir(&world.upper)
            .sure()
            .map(|entry| entry.sure().file_name().into_string().expect("ASCII"))
            .collect();
        assert_eq!(left, [file, tree, link].into());
        let rooted = || fs::read_dir(world.state.join("temproots")).sure().count();
        assert!(within(PATIENCE, || rooted() == 0), "temporary roots stay");
        drop(view);
        recorder_ended();
    }
);

for_each_mode!(
    /// What was completed while nobody recorded is found when the view is mounted, and a chain of
    /// objects becomes valid whatever the order of its names.
    a_chain_that_is_there_already_is_recorded,
    |fx| {
        let world = World::new(fx);
        let names: Vec<_> = (0..300).map(|n| name(n, "chain")).collect();
        for pair in names.windows(2) {
            fs::write(world.upper.join(&pair[0]), &pair[1]).sure();
            seal(&world.upper.join(&pair[0]));
        }
        let view = world.mount();
        // The end of the chain comes last, through the view.
        let last = names.last().expect("there are some");
        world.file(last, "end");
        for (n, object) in names.iter().enumerate().rev() {
            let references: Vec<&str> = names.get(n + 1).map(|next| &**next).into_iter().collect();
            let row = world.recorded(&view, object);
            assert_eq!(row, world.expected(object, &references), "{object}");
        }
    }
);

for_each_mode!(
    /// A derivation refers to its inputs, whatever else its text names, and its content fixes its
    /// name; one whose content does not is never recorded.
    derivations_are_what_their_text_says,
    [userns],
    |fx| {
        let world = World::new(fx);
        let source = name(4, "source");
        let text = format!(
            "Derive([(\"out\",\"/nix/store/{out}\",\"\",\"\")],[],[\"/nix/store/{source}\"],\
             \"x\",\"/bin/sh\",[],[(\"out\",\"/nix/store/{out}\")])",
            out = name(5, "d"),
        );
        let dir = overstore::store::StoreDir::new("/nix/store".as_ref()).expect("absolute");
        let derivation = Derivation::parse(&dir, text.as_bytes()).sure();
        assert_eq!(derivation.to_bytes(&dir), text.as_bytes());
        let address = overstore::store::ContentAddress {
            method: overstore::store::Method::Text,
            hash: overstore::store::Sha256::of(text.as_bytes()).into(),
        };
        let others = derivation.input_sources.clone();
        let references = overstore::store::make::References {
            others: &others,
            itself: false,
        };
        let true_name = overstore::store::make::for_content(&dir, &address, "d.drv", references);
        let true_name = true_name.expect("it has a name").to_string();
        let false_name = name(6, "d.drv");
        let view = world.mount();
        world.file(&name(5, "d"), "output");
        world.recorded(&view, &name(5, "d"));
        world.file(&false_name, &text);
        world.file(&true_name, &text);
        world.file(&source, "source");
        let row = world.recorded(&view, &true_name);
        let mut expected = world.expected(&true_name, &[&source]);
        expected.ca = Some(address.to_string());
        assert_eq!(row, expected);
        assert_eq!(world.row(&false_name), None);
        assert!(view.said().contains("its content leads to another name"), "{}", view.said());
    }
);
