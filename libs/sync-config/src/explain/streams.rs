//! Streams and bucket definitions, with their families of buckets.

use super::names::RequestSyntax;
use super::{Explanation, FamilyExplanation, StreamExplanation, access_path, rows};
use crate::plan::{StreamPlan, SyncPlan};

/// Describes a plan.
pub(crate) fn explain_plan(plan: &SyncPlan) -> Explanation {
    Explanation {
        streams: plan.streams.iter().map(|stream| explain_stream(plan, stream)).collect(),
        tables: (0..plan.tables.len()).map(|table| rows::explain_table(plan, table)).collect(),
    }
}

fn explain_stream(plan: &SyncPlan, stream: &StreamPlan) -> StreamExplanation {
    // The families of a stream have a number after the name, bucket definitions do not.
    let own = plan.definitions.iter().position(|definition| definition.name == stream.name);
    let syntax =
        if own.is_some() { RequestSyntax::BucketDefinition } else { RequestSyntax::Stream };
    let mut definitions: Vec<usize> = own.into_iter().collect();
    for variant in &stream.variants {
        if !definitions.contains(&variant.definition) {
            definitions.push(variant.definition);
        }
    }

    StreamExplanation {
        name: stream.name.clone(),
        is_bucket_definition: own.is_some(),
        auto_subscribe: stream.auto_subscribe,
        priority: stream.priority.get(),
        families: definitions
            .into_iter()
            .map(|definition| explain_family(plan, stream, definition, syntax))
            .collect(),
    }
}

fn explain_family(
    plan: &SyncPlan,
    stream: &StreamPlan,
    definition: usize,
    syntax: RequestSyntax,
) -> FamilyExplanation {
    let variants = stream.variants.iter().filter(|variant| variant.definition == definition);
    let found_by = variants.map(|variant| {
        let priority = variant.priority.unwrap_or(stream.priority);
        access_path::explain(plan, &variant.instantiation, priority, syntax)
    });

    let definition = &plan.definitions[definition];
    FamilyExplanation {
        name: definition.name.clone(),
        rows: definition.queries.iter().map(|query| rows::explain(plan, query)).collect(),
        found_by: found_by.collect(),
    }
}
