//! The parameters of buckets out of sets of values and of rows found.

use std::collections::HashSet;

use crate::expression::EvaluationError;

/// Most buckets that one variant of a stream may grant to one subscription.
const BUCKETS_MAX: usize = 10_000;

/// What a parameter's value must be among; values are canonical JSON.
#[derive(Clone, Debug)]
pub(crate) enum Constraint {
    Among(Vec<String>),
    /// The values of a column of the rows that a lookup found.
    Output {
        lookup_use: usize,
        column: usize,
    },
}

/// The rows that each lookup found and the constraints of each parameter.
pub(crate) struct Choices<'a> {
    pub(crate) rows: &'a [Vec<&'a Vec<String>>],
    pub(crate) parameters: &'a [Vec<Constraint>],
}

/// Parameters that are chosen at once: one, or all that come from one row.
struct Dimension<'a> {
    parameters: Vec<usize>,
    choices: Vec<Vec<&'a str>>,
}

impl<'a> Choices<'a> {
    /// All arrays of parameters, each once.
    ///
    /// # Errors
    /// [`EvaluationError::TooMany`].
    pub(crate) fn arrays(&self) -> Result<Vec<String>, EvaluationError> {
        let dimensions = self.dimensions();
        let mut partial: Vec<Vec<Option<&str>>> = vec![vec![None; self.parameters.len()]];
        for dimension in &dimensions {
            let mut extended = Vec::new();
            for assigned in &partial {
                for choice in &dimension.choices {
                    let chosen = || dimension.parameters.iter().zip(choice);
                    // A parameter that another row decides must be the same here.
                    let agrees = chosen()
                        .all(|(at, value)| assigned[*at].is_none_or(|known| known == *value));
                    if !agrees {
                        continue;
                    }
                    let mut assigned = assigned.clone();
                    for (at, value) in chosen() {
                        assigned[*at] = Some(value);
                    }
                    extended.push(assigned);
                    if extended.len() > BUCKETS_MAX {
                        return Err(EvaluationError::TooMany);
                    }
                }
            }
            partial = extended;
        }
        let mut seen = HashSet::new();
        let mut arrays = Vec::with_capacity(partial.len());
        for assigned in partial {
            // Every parameter has a source, so every one is assigned.
            let values: Vec<&str> = assigned.into_iter().flatten().collect();
            let array = format!("[{}]", values.join(","));
            if seen.insert(array.clone()) {
                arrays.push(array);
            }
        }
        Ok(arrays)
    }

    fn dimensions(&self) -> Vec<Dimension<'a>> {
        let mut dimensions: Vec<Dimension<'a>> =
            (0..self.rows.len()).filter_map(|index| self.row_dimension(index)).collect();
        for (index, constraints) in self.parameters.iter().enumerate() {
            let mut sets = constraints.iter().filter_map(|constraint| self.set(constraint));
            let Some(mut values) = sets.next() else { continue };
            for set in sets {
                let set: HashSet<&str> = set.into_iter().collect();
                values.retain(|value| set.contains(value));
            }
            let choices = values.into_iter().map(|value| vec![value]).collect();
            dimensions.push(Dimension { parameters: vec![index], choices });
        }
        dimensions
    }

    /// The parameters that a lookup's rows decide together, when they are several.
    fn row_dimension(&self, index: usize) -> Option<Dimension<'a>> {
        let columns = self.columns(index);
        if columns.len() < 2 {
            return None;
        }
        let row = |row: &&'a Vec<String>| {
            columns.iter().map(|(_, column)| row.get(*column).map(String::as_str)).collect()
        };
        let choices = self.rows[index].iter().filter_map(row).collect();
        let parameters = columns.iter().map(|(parameter, _)| *parameter).collect();
        Some(Dimension { parameters, choices })
    }

    /// The parameters that a lookup gives values for, with its columns.
    fn columns(&self, index: usize) -> Vec<(usize, usize)> {
        let mut columns = Vec::new();
        for (parameter, constraints) in self.parameters.iter().enumerate() {
            for constraint in constraints {
                if let Constraint::Output { lookup_use, column } = constraint
                    && *lookup_use == index
                {
                    columns.push((parameter, *column));
                }
            }
        }
        columns
    }

    /// The values of a constraint that stands for itself.
    fn set(&self, constraint: &'a Constraint) -> Option<Vec<&'a str>> {
        match constraint {
            Constraint::Among(values) => Some(values.iter().map(String::as_str).collect()),
            Constraint::Output { lookup_use, column } => {
                if self.columns(*lookup_use).len() > 1 {
                    return None;
                }
                let rows = &self.rows[*lookup_use];
                Some(rows.iter().filter_map(|row| row.get(*column).map(String::as_str)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(values: &[&str]) -> Constraint {
        Constraint::Among(values.iter().map(|value| (*value).to_owned()).collect())
    }

    fn output(lookup_use: usize, column: usize) -> Constraint {
        Constraint::Output { lookup_use, column }
    }

    fn arrays(rows: &[&[&[&str]]], parameters: &[Vec<Constraint>]) -> Vec<String> {
        let owned: Vec<Vec<Vec<String>>> = rows
            .iter()
            .map(|rows| {
                rows.iter().map(|row| row.iter().map(|v| (*v).to_owned()).collect()).collect()
            })
            .collect();
        let rows: Vec<Vec<&Vec<String>>> = owned.iter().map(|rows| rows.iter().collect()).collect();
        Choices { rows: &rows, parameters }.arrays().unwrap()
    }

    #[test]
    fn no_parameters_are_one_bucket() {
        assert_eq!(arrays(&[], &[]), ["[]"]);
        assert_eq!(arrays(&[&[&[]]], &[]), ["[]"]);
    }

    #[test]
    fn values_of_one_row_stay_together() {
        let parameters = [vec![output(0, 0)], vec![output(0, 1)]];
        assert_eq!(arrays(&[&[&["1", "2"], &["3", "4"]]], &parameters), ["[1,2]", "[3,4]"]);
    }

    #[test]
    fn a_value_of_a_row_must_be_among_those_of_its_other_sources() {
        let parameters = [vec![output(0, 0), among(&["3", "5"])], vec![output(0, 1)]];
        assert_eq!(arrays(&[&[&["1", "2"], &["3", "4"]]], &parameters), ["[3,4]"]);
        let parameters = [vec![output(0, 0), output(1, 1)], vec![output(0, 1), output(1, 0)]];
        let found =
            arrays(&[&[&["1", "2"], &["3", "4"]], &[&["2", "1"], &["4", "9"]]], &parameters);
        assert_eq!(found, ["[1,2]"]);
    }

    #[test]
    fn values_of_different_sources_are_combined() {
        let parameters = [vec![output(0, 0)], vec![among(&["x", "y"])]];
        let found = arrays(&[&[&["1"], &["2"]]], &parameters);
        assert_eq!(found, ["[1,x]", "[1,y]", "[2,x]", "[2,y]"]);
    }
}
