//! Minimal server state: the output of rows, maintained row by row, and what a request gets from
//! it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::value::RawValue;

use super::super::TestRequest;
use super::super::random::{Rows, Schema};
use crate::{Question, RowOutput, SyncConfig, TableEvaluator};

/// Name of an object's table, and its id.
type Object = (String, String);
/// Synced objects with their columns by name, each as JSON.
pub(super) type Synced = BTreeMap<Object, BTreeSet<BTreeMap<String, String>>>;

pub(super) struct Store<'c> {
    config: &'c SyncConfig,
    /// One for each table of the schema.
    evaluators: Vec<Option<TableEvaluator>>,
    contents: Contents,
}

/// Bucket contents and lookup answers, each with the number of rows that yield it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    buckets: HashMap<(usize, String), BTreeMap<(Object, String), usize>>,
    answers: HashMap<(usize, String), BTreeMap<String, usize>>,
}

impl<'c> Store<'c> {
    pub(super) fn new(config: &'c SyncConfig, schema: &Schema) -> Self {
        let live = schema.live();
        let evaluators = live.iter().map(|table| config.bind(table).unwrap()).collect();
        Self { config, evaluators, contents: Contents::default() }
    }

    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Replaces the old rows by the new ones. Evaluates only rows that differ.
    pub(super) fn replace(&mut self, old: &Rows, new: &Rows) {
        let mut out = RowOutput::default();
        for (index, evaluator) in self.evaluators.iter().enumerate() {
            let Some(evaluator) = evaluator else { continue };
            let none = Vec::new();
            let old = old.get(index).unwrap_or(&none);

            let new = new.get(index).unwrap_or(&none);
            for row in old.iter().filter(|row| !new.contains(row)) {
                evaluator.evaluate(row, &mut out);
                self.contents.remove(&out);
            }

            for row in new.iter().filter(|row| !old.contains(row)) {
                evaluator.evaluate(row, &mut out);
                assert!(out.errors().is_empty(), "{:?}", out.errors());
                self.contents.add(&out);
            }
        }
    }

    fn outputs_of(&self, question: &Question) -> Vec<String> {
        let key = (question.lookup, question.key.clone());
        let found = self.contents.answers.get(&key).into_iter();
        found.flat_map(|outputs| outputs.keys().cloned()).collect()
    }

    /// Returns what is granted to a request.
    pub(super) fn synced(&self, request: &TestRequest) -> Synced {
        let mut evaluation = self
            .config
            .prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED)
            .unwrap()
            .evaluation();
        while !evaluation.questions().is_empty() {
            let questions = evaluation.questions().iter();
            let answers: Vec<Vec<String>> =
                questions.map(|question| self.outputs_of(question)).collect();
            evaluation.answer(&answers);
        }

        let granted = evaluation.finish().unwrap();
        assert!(granted.streams.iter().all(|stream| stream.errors.is_empty()), "{granted:?}");

        let mut names = BTreeSet::new();

        let mut synced = Synced::new();
        for bucket in granted.buckets {
            let name = (bucket.definition, bucket.params);
            assert!(names.insert(name.clone()), "each bucket once");
            for (object, data) in
                self.contents.buckets.get(&name).into_iter().flat_map(BTreeMap::keys)
            {
                synced.entry(object.clone()).or_default().insert(members(data));
            }
        }

        synced
    }
}

impl Contents {
    fn add(&mut self, out: &RowOutput) {
        for bucket in out.buckets() {
            let name = (bucket.definition, bucket.params.to_owned());
            let object = (bucket.object_type.to_owned(), bucket.object_id.to_owned());
            let object = (object, bucket.data.to_owned());
            let count = self.buckets.entry(name).or_default().entry(object).or_default();
            *count += 1;
            assert_eq!(*count, 1, "each object once in a bucket");
        }
        for lookup in out.lookups() {
            let question = (lookup.lookup, lookup.key.to_owned());
            let outputs = self.answers.entry(question).or_default();
            *outputs.entry(lookup.output.to_owned()).or_default() += 1;
        }
    }

    fn remove(&mut self, out: &RowOutput) {
        for bucket in out.buckets() {
            let name = (bucket.definition, bucket.params.to_owned());
            let object = (bucket.object_type.to_owned(), bucket.object_id.to_owned());
            let object = (object, bucket.data.to_owned());
            decrement(&mut self.buckets, name, &object);
        }
        for lookup in out.lookups() {
            let question = (lookup.lookup, lookup.key.to_owned());
            decrement(&mut self.answers, question, &lookup.output.to_owned());
        }
    }
}

fn decrement<K: Eq + std::hash::Hash, V: Ord>(
    all: &mut HashMap<K, BTreeMap<V, usize>>,
    key: K,
    value: &V,
) {
    let counts = all.get_mut(&key).expect("what goes was there");
    let count = counts.get_mut(value).expect("what goes was there");
    *count -= 1;
    if *count == 0 {
        counts.remove(value);
    }
    if counts.is_empty() {
        all.remove(&key);
    }
}

/// Returns the members of a JSON object, each as JSON.
fn members(data: &str) -> BTreeMap<String, String> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(data).unwrap();
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}
