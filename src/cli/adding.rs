// SPDX-License-Identifier: MIT OR Apache-2.0
//! `overstore add`, `import`, `export`, `copy-up`, `dump-db`, `load-db`, `register`, `seal`, `sign`.

use super::args::adding::{
    AddArgs, DumpDbArgs, ExportArgs, ImportArgs, ManyArgs, RegisterArgs, RootedArgs, SealArgs,
    SignArgs, StoreUrlArgs,
};
use super::request;
use crate::error::{Error, Result};
use crate::operations::add::{Interruptible, Recipe, plan};
use crate::operations::{self, Store, Trust, registration, store_dir};
use crate::roots::Interrupt;
use crate::store::registration::Form;
use crate::store::signature::SecretKey;
use crate::store::{ObjectName, StoreDir, path};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// How often the line on the terminal is drawn; short work ends without one.
const TICK: Duration = Duration::from_millis(500);

/// A file with a key has no reason to be larger, in bytes.
const KEY_BYTES: u64 = 4096;

/// Adds files; prints their store paths.
pub(super) fn add(wanted: &AddArgs) -> Result<u8> {
    if wanted.name.is_some() && wanted.files.len() > 1 {
        let why = "several files cannot have the same one";
        return Err(Error::usage("--name", why).hint("add them one by one"));
    }
    let layout = request::for_query(wanted.at.store.as_deref())?;
    let dir = store_dir(&layout)?;
    let recipe = Recipe {
        name: wanted.name.clone(),
        method: wanted.mode.into(),
        algorithm: wanted.algorithm(),
        references: request::objects(&layout, &wanted.reference)?,
    };
    let files = absolute(&wanted.files)?;
    let interrupt = Interrupt::on_signals()?;
    if wanted.dry_run {
        for file in &files {
            let info = plan(&dir, file, &recipe, &interrupt)?;
            print_path(&dir, &info.name)?;
        }
        return Ok(0);
    }
    let mut store = Store::open(&layout, interrupt)?;
    let mut done = Done::new("adding", Some(files.len()), &wanted.at)?;
    for file in &files {
        let (name, _) = operations::add::add(&mut store, file, &recipe)?;
        done.with(&store, &name)?;
    }
    Ok(0)
}

/// Adds the objects of a stream; prints their store paths.
pub(super) fn import(wanted: &ImportArgs) -> Result<u8> {
    let (mut store, interrupt) = open(wanted.at.store.as_deref())?;
    let mut trust = Trust::new(store.layout(), &wanted.trusted_public_keys)?;
    if let Some(file) = &wanted.signatures {
        let refused = |why| Error::on("read signatures", file, why);
        let opened = File::open(file).map_err(refused)?;
        let mut json = String::new();
        let mut opened = Interruptible::new(opened, interrupt.clone());
        opened.read_to_string(&mut json).map_err(refused)?;
        trust.add_signatures(store.dir(), &json)?;
    }
    let mut done = Done::new("importing", None, &wanted.at)?;
    let stream = Interruptible::new(io::stdin(), interrupt);
    operations::import(&mut store, stream, &trust, |store, name, _| {
        done.with(store, name)
    })?;
    Ok(0)
}

/// Writes objects.
pub(super) fn export(wanted: &ExportArgs) -> Result<u8> {
    let layout = request::for_query(wanted.store.as_deref())?;
    let names = request::objects(&layout, &wanted.paths)?;
    let out = io::stdout();
    if out.is_terminal() {
        let why = "a stream of objects is not for a terminal";
        return Err(Error::usage("write to standard output", why).hint("write it to a file"));
    }
    operations::export(&layout, &names, out.lock())?;
    Ok(0)
}

/// Copies metadata up.
pub(super) fn copy_up(wanted: &ManyArgs) -> Result<u8> {
    let (mut store, _) = open(wanted.store.as_deref())?;
    let names = request::objects(store.layout(), &wanted.paths)?;
    let count = operations::copy_up(&mut store, &names)?;
    log::info!("copied the metadata of {count} objects");
    Ok(0)
}

/// Writes what is registered.
pub(super) fn dump_db(wanted: &DumpDbArgs) -> Result<u8> {
    let layout = request::for_query(wanted.store.as_deref())?;
    let names: Option<Vec<_>> = match wanted.paths.is_empty() {
        true => None,
        false => Some(request::objects(&layout, &wanted.paths)?),
    };
    registration::dump(&layout, names.as_deref(), io::stdout().lock())?;
    Ok(0)
}

/// Registers what a dump says.
pub(super) fn load_db(wanted: &StoreUrlArgs) -> Result<u8> {
    let wish = registration::Wish {
        again: true,
        canonicalise: false,
    };
    register_input(wanted.store.as_deref(), Form::WithHashes, wish)
}

/// Registers objects that are in place.
pub(super) fn register(wanted: &RegisterArgs) -> Result<u8> {
    let form = match wanted.hash_given {
        true => Form::WithHashes,
        false => Form::WithoutHashes,
    };
    let wish = registration::Wish {
        again: wanted.reregister,
        canonicalise: true,
    };
    register_input(wanted.store.as_deref(), form, wish)
}

fn register_input(store: Option<&OsStr>, form: Form, wish: registration::Wish) -> Result<u8> {
    let (mut store, interrupt) = open(store)?;
    let input = BufReader::new(Interruptible::new(io::stdin(), interrupt));
    let registrations = registration::read(store.dir(), form, input)?;
    let count = registration::register(&mut store, registrations, wish)?;
    log::info!("registered {count} objects");
    Ok(0)
}

/// Makes objects valid; prints their store paths.
pub(super) fn seal(wanted: &SealArgs) -> Result<u8> {
    let (mut store, _) = open(wanted.at.store.as_deref())?;
    let names: BTreeSet<_> = request::objects(store.layout(), &wanted.paths)?;
    let mut done = Done::new("sealing", Some(names.len()), &wanted.at)?;
    for (name, _) in operations::seal(&mut store, &names)? {
        done.with(&store, &name)?;
    }
    Ok(0)
}

/// Signs objects.
pub(super) fn sign(wanted: &SignArgs) -> Result<u8> {
    let key = read_key(&wanted.key_file)?;
    let (mut store, _) = open(wanted.store.as_deref())?;
    let names = request::objects(store.layout(), &wanted.paths)?;
    operations::sign(&mut store, &names, &key)?;
    Ok(0)
}

fn open(url: Option<&OsStr>) -> Result<(Store, Interrupt)> {
    let layout = request::for_query(url)?;
    let interrupt = Interrupt::on_signals()?;
    Ok((Store::open(&layout, interrupt.clone())?, interrupt))
}

fn read_key(path: &Path) -> Result<SecretKey> {
    let refused = |why: io::Error| Error::on("read key", path, why);
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(refused)?;
    file.take(KEY_BYTES)
        .read_to_string(&mut text)
        .map_err(refused)?;
    SecretKey::parse(&text)
        .map_err(|why| Error::usage(format!("secret key in {}", path.display()), why))
}

/// Paths as Nix takes them: canonical by their text, a link at the end not followed.
fn absolute(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let cwd = cwd()?;
    let absolute = |given: &PathBuf| {
        path::absolute(given.as_os_str().as_bytes(), &cwd)
            .ok_or_else(|| Error::usage(format!("file {}", given.display()), "it is no path"))
    };
    paths.iter().map(absolute).collect()
}

fn cwd() -> Result<PathBuf> {
    std::env::current_dir().map_err(|why| Error::environment("find the current directory", why))
}

fn print_path(dir: &StoreDir, name: &ObjectName) -> Result<()> {
    super::print(format!("{}\n", dir.store_path(name).display()).as_bytes())
}

/// What is done with each object that is in the store now.
struct Done {
    link: Option<PathBuf>,
    count: usize,
    bar: ProgressBar,
}

impl Done {
    fn new(verb: &str, total: Option<usize>, at: &RootedArgs) -> Result<Done> {
        let link = match &at.add_root {
            Some(link) => absolute(std::slice::from_ref(link))?.pop(),
            None => None,
        };
        let template = match total {
            Some(_) => format!("{verb}: {{pos}} of {{len}} objects, {{elapsed}}"),
            None => format!("{verb}: {{pos}} objects, {{elapsed}}"),
        };
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style);
        if let Some(total) = total {
            bar.set_length(total as u64);
        }
        bar.enable_steady_tick(TICK);
        Ok(Done {
            link,
            count: 0,
            bar,
        })
    }

    fn with(&mut self, store: &Store, name: &ObjectName) -> Result<()> {
        self.count += 1;
        self.bar.inc(1);
        if let Some(link) = &self.link {
            let mut link = link.clone().into_os_string();
            if self.count > 1 {
                link.push(format!("-{}", self.count));
            }
            store.add_root(Path::new(&link), name)?;
        }
        self.bar.suspend(|| print_path(store.dir(), name))
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
