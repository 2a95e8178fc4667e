//! The disjunctive normal form of a condition, each branch of which is a family of buckets.

use crate::plan::{
    Instantiation, LookupUse, Parameter, ParameterSource, RequestExpression, RequestKey,
    RowExpression, RowKey,
};

/// Most branches of a condition.
pub(super) const BRANCHES_MAX: usize = 100;

/// A condition as AND and OR over terms; NOT is within terms.
pub(super) enum Tree {
    And(Vec<Tree>),
    Or(Vec<Tree>),
    Term(Term),
}

#[derive(Clone)]
pub(super) enum Term {
    Filter(RowExpression),
    Request(RequestExpression),
    /// The row's key must be among the values of the source.
    Key {
        row: RowKey,
        source: Source,
    },
    /// The lookup must have an answer.
    Exists(LookupUse),
}

#[derive(Clone, PartialEq)]
pub(super) enum Source {
    Request(RequestKey),
    /// The first output of a lookup.
    Lookup(LookupUse),
    /// A parameter of a bucket definition.
    Bucket(usize),
}

/// One branch of a condition.
#[derive(Debug, Default)]
pub(super) struct Branch {
    pub(super) filter: Vec<RowExpression>,
    pub(super) requests: Vec<RequestExpression>,
    pub(super) exists: Vec<LookupUse>,
    pub(super) keys: Vec<(RowKey, Vec<Source>)>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(key) => key.fmt(f),
            Self::Lookup(lookup) => lookup.fmt(f),
            Self::Bucket(index) => write!(f, "bucket {index}"),
        }
    }
}

/// OR of ANDs; `None` when there are too many.
pub(super) fn disjunction(tree: &Tree) -> Option<Vec<Vec<Term>>> {
    match tree {
        Tree::Term(term) => Some(vec![vec![term.clone()]]),
        Tree::Or(list) => {
            let mut branches = Vec::new();
            for operand in list {
                branches.extend(disjunction(operand)?);
                if branches.len() > BRANCHES_MAX {
                    return None;
                }
            }
            Some(branches)
        }
        Tree::And(list) => {
            let mut branches = vec![Vec::new()];
            for operand in list {
                let alternatives = disjunction(operand)?;
                if branches.len() * alternatives.len() > BRANCHES_MAX {
                    return None;
                }
                let mut product = Vec::with_capacity(branches.len() * alternatives.len());
                for branch in &branches {
                    for alternative in &alternatives {
                        let mut terms: Vec<Term> = branch.clone();
                        terms.extend(alternative.iter().cloned());
                        product.push(terms);
                    }
                }
                branches = product;
            }
            Some(branches)
        }
    }
}

impl Branch {
    pub(super) fn new(terms: Vec<Term>) -> Self {
        let mut branch = Self::default();
        for term in terms {
            match term {
                Term::Filter(filter) => push_new(&mut branch.filter, filter),
                Term::Request(request) => push_new(&mut branch.requests, request),
                Term::Exists(lookup) => push_new(&mut branch.exists, lookup),
                Term::Key { row, source } => branch.push_key(row, source),
            }
        }
        branch
    }

    /// Two sources for one value mean that both must have it. Not so for elements of an array: two
    /// different ones may be in it.
    fn push_key(&mut self, row: RowKey, source: Source) {
        let is_each = matches!(row, RowKey::Each(_));
        let known = self
            .keys
            .iter_mut()
            .find(|(known, sources)| *known == row && (!is_each || *sources == [source.clone()]));
        match known {
            Some((_, sources)) => push_new(sources, source),
            None => self.keys.push((row, vec![source])),
        }
    }

    /// The request's side, and the row's key for each parameter.
    pub(super) fn instantiate(&self) -> (Instantiation, Vec<RowKey>) {
        let mut instantiation = Instantiation {
            filters: self.requests.clone(),
            uses: self.exists.clone(),
            parameters: Vec::new(),
        };
        let mut rows = Vec::new();
        for (row, sources) in &self.keys {
            let mut all_of = Vec::new();
            for source in sources {
                all_of.push(match source {
                    Source::Request(key) => ParameterSource::Request(key.clone()),
                    Source::Lookup(lookup) => {
                        instantiation.uses.push(lookup.clone());
                        let lookup_use = instantiation.uses.len() - 1;
                        ParameterSource::Output { lookup_use, column: 0 }
                    }
                    // Only in data queries, which are not instantiated.
                    Source::Bucket(_) => continue,
                });
            }
            instantiation.parameters.push(Parameter { all_of });
            rows.push(row.clone());
        }
        (instantiation, rows)
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The filter of branches that differ in nothing else: any of them must hold.
pub(super) fn any_of(filters: Vec<Option<RowExpression>>) -> Option<RowExpression> {
    let mut alternatives = Vec::with_capacity(filters.len());
    for filter in filters {
        push_new(&mut alternatives, filter?);
    }
    match alternatives.len() {
        1 => alternatives.pop(),
        _ => Some(RowExpression::Or(alternatives)),
    }
}
