// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands in README and docs are ones that the program takes.

use super::args::Arguments;
use clap::{CommandFactory, Parser};
use std::fs;
use std::path::{Path, PathBuf};

/// README and the pages of docs/.
fn pages() -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(home.join("docs")).expect("the folder docs");
    let docs = docs.map(|entry| entry.expect("a page").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md"));
    pages.chain([home.join("README.md")]).collect()
}

/// The commands `overstore ...` in fenced blocks of a page, with their line numbers.
fn commands(text: &str) -> Vec<(usize, String)> {
    let (mut fenced, mut found) = (false, Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        let line = line
            .trim()
            .trim_start_matches("$ ")
            .trim_start_matches("sudo ");
        let line = line.split(" # ").next().unwrap_or_default();
        for command in line.split([';', '|']).flat_map(|part| part.split("&&")) {
            if fenced && command.trim().starts_with("overstore ") {
                found.push((number, command.trim().to_owned()));
            }
        }
    }
    found
}

/// Splits as a shell does, as far as the pages need it: blanks, quotes, redirections.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in command.chars() {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => quote = Some(letter),
            (' ', None) => words.extend([std::mem::take(&mut word)]),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| {
        !word.is_empty() && !word.starts_with(['<', '>']) && !word.starts_with("2>")
    });
    words
}

#[test]
fn every_command_of_the_pages_is_one_that_is_taken() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for (line, command) in commands(&text) {
            count += 1;
            if let Err(why) = Arguments::try_parse_from(words(&command))
                && why.use_stderr()
            {
                wrong.push(format!("{}:{line}: {command}\n{why}", page.display()));
            }
        }
    }
    assert!(count > 40, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_for_users_is_told_in_the_pages() {
    let texts = pages()
        .into_iter()
        .map(|page| fs::read_to_string(page).expect("a page"));
    let texts = texts.collect::<String>();
    let program = Arguments::command();
    let missing = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .filter(|command| !texts.contains(&format!("overstore {}", command.get_name())));
    let missing: Vec<_> = missing.map(clap::Command::get_name).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
