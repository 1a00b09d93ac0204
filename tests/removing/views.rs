// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions about a store whose view the kernel serves, and whose view is not mounted.

use super::*;
use crate::common::for_each_mode;
use crate::world::By;

/// Every question, and what is asked about.
fn answers(world: &World, names: &[&String]) -> Vec<(String, Option<i32>, String)> {
    let paths: Vec<String> = names.iter().map(|name| path(name)).collect();
    let questions: [&[&str]; 16] = [
        &["path-info"],
        &["path-info", "--json"],
        &["path-info", "--json", "-S"],
        &["path-info", "-r", "-s", "-S"],
        &["query", "--references"],
        &["query", "--referrers"],
        &["query", "--requisites"],
        &["query", "--referrers-closure"],
        &["query", "--deriver"],
        &["query", "--valid-derivers"],
        &["query", "--hash"],
        &["query", "--size"],
        &["query", "--tree"],
        &["query", "--graph"],
        &["query", "--roots"],
        &["query", "--outputs"],
    ];
    let ask = |question: &&[&str]| {
        let words = question
            .iter()
            .copied()
            .chain(paths.iter().map(String::as_str));
        let words: Vec<&str> = words.collect();
        let output = run(world, "", &words);
        let said = text(&output.stdout) + &text(&output.stderr);
        (question.join(" "), output.status.code(), said)
    };
    questions.iter().map(ask).collect()
}

for_each_mode!(the_kernels_view_is_asked_the_same, [root], |fx| {
    let mut world = World::new(fx, By::Kernel);
    let o = world.fill();
    rooted(&world, &o.user);
    let names = [&o.low, &o.bare, &o.dup, &o.up, &o.held, &o.user];
    let kernel = answers(&world, &names);
    for (question, code, said) in &kernel {
        let answered = *code == Some(0) && !said.is_empty();
        // None is a derivation.
        assert!(
            answered || question == "query --outputs" || question == "query --valid-derivers",
            "{question}: {code:?} {said}"
        );
    }
    let merged = world.merged(&o.user).display().to_string();
    let at = ends(&world, 0, &["query", "--references", &merged]);
    assert_eq!(at, path(&o.held));
    let found = ends(
        &world,
        0,
        &["query", "--path-from-hash-part", &o.bare[..32]],
    );
    assert_eq!(found, path(&o.bare));
    // Nothing of that depends on the view.
    world.unmount();
    assert_eq!(answers(&world, &names), kernel);
});
