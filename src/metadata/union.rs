// SPDX-License-Identifier: MIT OR Apache-2.0
//! The metadata of an overlay store: its upper database's, and its lower store's.
//!
//! Decides which of the two answers, as Nix does. Invariants: asking copies nothing up; what either
//! half could not be asked is an error, also where the other half has an answer to add to it.

use super::source::Source;
use super::{Local, Realisation, lower};
use crate::error::Result;
use crate::layout::Layout;
use crate::store::{ObjectName, Outputs, PathInfo};
use std::collections::BTreeSet;

/// The metadata of both halves of an overlay store.
#[derive(Debug)]
pub struct Union<U = Local> {
    upper: Option<U>,
    lower: Option<Box<dyn Source>>,
}

/// Opens the metadata of the store `layout` for reading. An upper database that has not been made
/// yet has no rows.
pub fn open_union(layout: &Layout) -> Result<Union> {
    let upper = match layout.state.as_deref() {
        Some(state) => Local::open(state, &lower::store_dir(layout)?)?,
        None => None,
    };
    Ok(Union::new(upper, lower::open(layout)?))
}

impl<U: Source> Union<U> {
    /// Puts `upper` before `lower`; either may be missing.
    pub fn new(upper: Option<U>, lower: Option<Box<dyn Source>>) -> Union<U> {
        Union { upper, lower }
    }

    /// Returns the upper half alone, which is what Nix lists, verifies and collects.
    pub fn upper(&self) -> Option<&U> {
        self.upper.as_ref()
    }

    /// Returns both halves, the upper for writing.
    pub fn halves_mut(&mut self) -> (Option<&mut U>, Option<&dyn Source>) {
        (self.upper.as_mut(), self.lower.as_deref())
    }

    /// Returns the lower half alone.
    pub fn lower(&self) -> Option<&dyn Source> {
        self.lower.as_deref()
    }

    fn halves(&self) -> impl Iterator<Item = &dyn Source> {
        let upper = self.upper.as_ref().map(|upper| upper as &dyn Source);
        upper.into_iter().chain(self.lower.as_deref())
    }

    /// Returns the first answer of upper and lower.
    fn first<T>(&self, ask: impl Fn(&dyn Source) -> Result<Option<T>>) -> Result<Option<T>> {
        for half in self.halves() {
            if let Some(answer) = ask(half)? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Returns the answers of both.
    fn all<T: Ord>(&self, ask: impl Fn(&dyn Source) -> Result<BTreeSet<T>>) -> Result<BTreeSet<T>> {
        let mut all = BTreeSet::new();
        for half in self.halves() {
            all.append(&mut ask(half)?);
        }
        Ok(all)
    }
}

impl<U: Source> Source for Union<U> {
    fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
        self.first(|half| half.path_info(name))
    }

    fn is_valid(&self, name: &ObjectName) -> Result<bool> {
        let valid = self.first(|half| Ok(half.is_valid(name)?.then_some(())))?;
        Ok(valid.is_some())
    }

    fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.all(|half| half.referrers(name))
    }

    fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
        self.all(|half| half.valid_derivers(name))
    }

    /// Nix asks its upper database alone, and fails on a derivation that only the lower has.
    fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
        let found = self.first(|half| {
            let outputs = half.outputs(drv)?;
            Ok((!outputs.is_empty()).then_some(outputs))
        })?;
        Ok(found.unwrap_or_default())
    }

    fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
        self.first(|half| half.with_hash_part(hash_part))
    }

    fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
        self.all(|half| half.all_valid())
    }

    fn realisation(&self, derivation: &str, output: &str) -> Result<Option<Realisation>> {
        self.first(|half| half.realisation(derivation, output))
    }

    fn finish(&self) -> Result<()> {
        self.halves().try_for_each(|half| half.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Sha256;
    use std::collections::BTreeMap;

    fn object(digit: char, name: &str) -> ObjectName {
        let hash = digit.to_string().repeat(32);
        ObjectName::parse(format!("{hash}-{name}").as_bytes()).unwrap()
    }

    /// A store in memory; `None` for one that answers nothing.
    #[derive(Debug, Default)]
    struct Table {
        infos: BTreeMap<ObjectName, PathInfo>,
        outputs: BTreeMap<ObjectName, Outputs>,
        broken: bool,
    }

    impl Table {
        fn with(mut self, name: &ObjectName, size: u64, references: &[&ObjectName]) -> Table {
            let mut info = PathInfo::new(name.clone(), Sha256::of(b""), size);
            info.references = references.iter().map(|name| (*name).clone()).collect();
            self.infos.insert(name.clone(), info);
            self
        }

        fn making(mut self, drv: &ObjectName, out: &ObjectName) -> Table {
            let outputs = Outputs::from([("out".to_owned(), out.clone())]);
            self.outputs.insert(drv.clone(), outputs);
            self
        }

        fn rows(&self) -> Result<&BTreeMap<ObjectName, PathInfo>> {
            match self.broken {
                false => Ok(&self.infos),
                true => Err(crate::error::Error::environment("ask", "broken")),
            }
        }

        fn those(&self, fits: impl Fn(&PathInfo) -> bool) -> Result<BTreeSet<ObjectName>> {
            let infos = self.rows()?.values().filter(|info| fits(info));
            Ok(infos.map(|info| info.name.clone()).collect())
        }
    }

    impl Source for Table {
        fn path_info(&self, name: &ObjectName) -> Result<Option<PathInfo>> {
            Ok(self.rows()?.get(name).cloned())
        }

        fn is_valid(&self, name: &ObjectName) -> Result<bool> {
            Ok(self.rows()?.contains_key(name))
        }

        fn referrers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
            self.those(|info| info.references.contains(name))
        }

        fn valid_derivers(&self, name: &ObjectName) -> Result<BTreeSet<ObjectName>> {
            let makes = |drv: &ObjectName| {
                let outputs = self.outputs.get(drv);
                outputs.is_some_and(|outputs| outputs.values().any(|out| out == name))
            };
            self.those(|info| makes(&info.name))
        }

        fn outputs(&self, drv: &ObjectName) -> Result<Outputs> {
            self.rows()?;
            Ok(self.outputs.get(drv).cloned().unwrap_or_default())
        }

        fn with_hash_part(&self, hash_part: &str) -> Result<Option<ObjectName>> {
            let mut names = self.rows()?.keys();
            Ok(names.find(|name| name.hash_part() == hash_part).cloned())
        }

        fn all_valid(&self) -> Result<BTreeSet<ObjectName>> {
            self.those(|_| true)
        }

        fn finish(&self) -> Result<()> {
            self.rows().map(drop)
        }
    }

    fn union(upper: Table, lower: Table) -> Union<Table> {
        Union::new(Some(upper), Some(Box::new(lower)))
    }

    #[test]
    #[expect(
        clippy::too_many_lines,
        reason = "a table, or one story from end to end"
    )]
    fn each_question_has_its_rule() {
        let [both, below, above, drv] = [
            ('0', "both"),
            ('1', "below"),
            ('2', "above"),
            ('3', "x.drv"),
        ]
        .map(|(digit, name)| object(digit, name));
        let (made, other) = (object('4', "made"), object('5', "y.drv"));
        let upper = Table::default()
            .with(&both, 1, &[])
            .with(&above, 1, &[&both, &above])
            .with(&other, 1, &[])
            .making(&other, &made);
        let lower = Table::default()
            .with(&both, 2, &[])
            .with(&below, 2, &[&both])
            .with(&drv, 2, &[])
            .making(&drv, &made);
        let union = union(upper, lower);
        let size = |name| Ok::<_, crate::error::Error>(union.path_info(name)?.map(|i| i.nar_size));
        assert_eq!(size(&both), Ok(Some(1)), "the upper's row wins");
        assert_eq!(size(&below), Ok(Some(2)));
        assert_eq!(size(&made), Ok(None));
        for (name, valid) in [
            (&both, true),
            (&below, true),
            (&above, true),
            (&made, false),
        ] {
            assert_eq!(union.is_valid(name), Ok(valid), "{name}");
        }
        let all = |names: &[&ObjectName]| -> Result<BTreeSet<ObjectName>> {
            Ok(names.iter().map(|name| (*name).clone()).collect())
        };
        assert_eq!(union.referrers(&both), all(&[&below, &above]));
        assert_eq!(union.referrers(&above), all(&[&above]));
        assert_eq!(union.valid_derivers(&made), all(&[&drv, &other]));
        let out = Outputs::from([("out".to_owned(), made.clone())]);
        assert_eq!(
            union.outputs(&drv),
            Ok(out.clone()),
            "also of the lower's derivation"
        );
        assert_eq!(union.outputs(&other), Ok(out));
        assert_eq!(union.outputs(&both), Ok(Outputs::new()));
        assert_eq!(
            union.with_hash_part(below.hash_part()),
            Ok(Some(below.clone()))
        );
        assert_eq!(union.with_hash_part(made.hash_part()), Ok(None));
        assert_eq!(
            union.all_valid(),
            all(&[&both, &below, &above, &drv, &other])
        );
        let upper = union.upper().unwrap();
        assert_eq!(upper.all_valid(), all(&[&both, &above, &other]));
    }

    #[test]
    fn what_fails_is_never_absent() {
        let name = object('0', "a");
        let broken = || Table {
            broken: true,
            ..Table::default()
        };
        let (here, gone) = (|| Table::default().with(&name, 1, &[]), Table::default);
        for (union, first_found) in [
            (union(broken(), here()), false),
            (union(gone(), broken()), false),
            (union(here(), broken()), true),
        ] {
            assert_eq!(union.path_info(&name).is_ok(), first_found);
            assert_eq!(union.is_valid(&name).is_ok(), first_found);
            assert_eq!(union.with_hash_part(name.hash_part()).is_ok(), first_found);
            assert!(union.outputs(&name).is_err());
            assert!(union.referrers(&name).is_err());
            assert!(union.valid_derivers(&name).is_err());
            assert!(union.all_valid().is_err());
            assert!(union.finish().is_err());
        }
        let empty: Union<Table> = Union::new(None, None);
        assert_eq!(empty.is_valid(&name), Ok(false));
        assert_eq!(empty.finish(), Ok(()));
    }
}
