//! Values of a request, as leaves of expressions.

use serde_json::{Map, Value as Json};
use tidewater_protocol::{Priority, Subscription};

use super::Request;
use super::bindings::{BindingTable, Bindings, ValueId, ValuePool};
use super::limits::Budget;
use super::search::{AntiJoin, PendingStep, Search, needed};
use crate::edition::Edition;
use crate::expression::Leaves;
use crate::expression::items::{Items, items};
use crate::functions;
use crate::plan::{
    Instantiation, RequestExpression, RequestLeaf, RequestMember, RequestSource, Step, SyncPlan,
};
use crate::value::{Engine, EvaluationError, Value, json};

/// Subscription to one stream, with the request it belongs to.
pub(super) struct Subscriber<'r> {
    pub(super) edition: Edition,
    pub(super) engine: Engine,
    pub(super) request: &'r Request<'r>,
    pub(super) budget: &'r Budget,
    /// Parameters of an explicit subscription.
    pub(super) parameters: Option<&'r Map<String, Json>>,
    pub(super) reason: Subscription,
    /// Priority that overrides the stream's.
    pub(super) priority: Option<Priority>,
}

impl Subscriber<'_> {
    /// Runs the steps that need the request only. Returns `None` if no row remains.
    pub(super) fn instantiate(
        &self,
        plan: &SyncPlan,
        instantiation: &Instantiation,
        values: &mut ValuePool,
    ) -> Result<Option<Search>, EvaluationError> {
        self.budget.spend(1 + instantiation.filters.len())?;
        for filter in &instantiation.filters {
            if !filter.is_true(self)? {
                return Ok(None);
            }
        }

        // Steps bind their slots in the order of the plan, whether they run now or wait for answers.
        let mut pending = Vec::new();
        let mut tables = Vec::new();
        let mut slot = 0;
        for (index, step) in instantiation.steps.iter().enumerate() {
            let first_slot = slot;
            match step {
                Step::Value(expression) => {
                    slot += 1;
                    tables.push(self.values_of(expression, first_slot, values)?);
                }
                Step::Elements { array, filters, outputs } => {
                    slot += outputs.len();
                    let mut table = BindingTable::new((first_slot..slot).collect());
                    self.elements(array, filters, outputs, values, &mut table)?;
                    tables.push(table);
                }
                Step::Lookup { lookup, .. } => {
                    slot += plan.lookups[*lookup].outputs.len();
                    pending.push(PendingStep { index, first_slot });
                }
                Step::Equal(..) => pending.push(PendingStep { index, first_slot }),
            }
        }

        let needed = needed(&pending, instantiation);
        let mut bindings = Bindings::default();
        for table in tables {
            if !bindings.put(&table, &needed, self.budget)? {
                return Ok(None);
            }
        }

        // An anti-join that has no row already withholds nothing, so it is left out.
        let mut not_exists = Vec::new();
        for (index, part) in instantiation.not_exists.iter().enumerate() {
            if let Some(search) = self.instantiate(plan, part, values)? {
                not_exists.push(AntiJoin { index, search });
            }
        }

        Ok(Some(Search { pending, bindings, not_exists }))
    }

    /// Returns the values of an expression, as rows of one slot: one, or two for a user whom the token
    /// names by a number. Lookups, buckets and anti-joins then find the number and its text.
    fn values_of(
        &self,
        expression: &RequestExpression,
        slot: usize,
        values: &mut ValuePool,
    ) -> Result<BindingTable, EvaluationError> {
        let mut table = BindingTable::new(vec![slot]);
        let row = row(std::slice::from_ref(expression), self, self.budget, values)?;
        row.into_iter().for_each(|row| table.push(row));

        if let RequestExpression::Leaf(leaf) = expression
            && let Some(second) = self.second_value(leaf)
        {
            let mut text = String::new();
            json::push_parameter(&second, &mut text);
            self.budget.spend_text(text.len())?;
            table.push([values.id(&text)]);
        }
        Ok(table)
    }

    fn elements(
        &self,
        array: &RequestExpression,
        filters: &[RequestExpression],
        outputs: &[RequestExpression],
        values: &mut ValuePool,
        table: &mut BindingTable,
    ) -> Result<(), EvaluationError> {
        let items = items(array, self)?;

        'items: for place in 0..items.len() {
            self.budget.spend(1 + filters.len())?;
            let leaves = ElementLeaves { subscriber: self, items: &items, place };

            for filter in filters {
                if !filter.is_true(&leaves)? {
                    continue 'items;
                }
            }
            let row = row(outputs, &leaves, self.budget, values)?;
            row.into_iter().for_each(|row| table.push(row));
        }

        Ok(())
    }

    fn member(&self, source: RequestSource, names: &[String]) -> Option<&Json> {
        let map = match source {
            RequestSource::UserId => return None,
            RequestSource::Claims => self.request.claims,
            RequestSource::TokenParameters => self.request.claims.get("parameters")?.as_object()?,
            RequestSource::ConnectionParameters => self.request.parameters?,
            RequestSource::SubscriptionParameters => self.parameters?,
        };
        let (first, rest) = names.split_first()?;
        functions::walk(map.get(first)?, rest)
    }

    /// Returns whether the value exists. Before edition 3 a subscription without parameters has an
    /// empty object.
    fn has(&self, source: RequestSource) -> bool {
        source != RequestSource::SubscriptionParameters
            || self.parameters.is_some()
            || self.edition < Edition::Three
    }

    /// Returns the whole value, as JSON text unless it is the user id.
    fn text(&self, source: RequestSource) -> String {
        let empty = Map::new();

        match source {
            RequestSource::UserId => self.request.user_id.to_owned(),
            RequestSource::Claims => json::object_to_text(self.request.claims),
            RequestSource::TokenParameters => {
                let parameters = self.request.claims.get("parameters").and_then(Json::as_object);
                let mut map = parameters.unwrap_or(&empty).clone();
                map.insert("user_id".to_owned(), Json::String(self.request.user_id.to_owned()));
                json::object_to_text(&map)
            }
            RequestSource::ConnectionParameters => {
                json::object_to_text(self.request.parameters.unwrap_or(&empty))
            }
            RequestSource::SubscriptionParameters => {
                json::object_to_text(self.parameters.unwrap_or(&empty))
            }
        }
    }
}

/// Request with the current element of one of its arrays.
struct ElementLeaves<'e> {
    subscriber: &'e Subscriber<'e>,
    items: &'e Items,
    place: usize,
}

impl<'e> Leaves<'e, RequestLeaf> for ElementLeaves<'e> {
    fn value(&self, leaf: &RequestLeaf) -> Result<Value<'e>, EvaluationError> {
        match leaf {
            RequestLeaf::Element => Ok(self.items.value(self.place)),
            RequestLeaf::Key => Ok(self.items.key(self.place)),
            RequestLeaf::Given { .. } => self.subscriber.value(leaf),
        }
    }

    fn second_value(&self, leaf: &RequestLeaf) -> Option<Value<'e>> {
        self.subscriber.second_value(leaf)
    }

    fn engine(&self) -> Engine {
        self.subscriber.engine
    }

    fn spend_text(&self, bytes: usize) -> Result<(), EvaluationError> {
        self.subscriber.budget.spend_text(bytes)
    }
}

impl<'v> Leaves<'v, RequestLeaf> for Subscriber<'_> {
    fn value(&self, leaf: &RequestLeaf) -> Result<Value<'v>, EvaluationError> {
        let RequestLeaf::Given { source, member } = leaf else { return Ok(Value::Null) };
        let (names, as_value) = match member {
            Some(RequestMember { names, as_value }) if !names.is_empty() => (names, *as_value),
            Some(_) | None => {
                if !self.has(*source) {
                    return Ok(Value::Null);
                }
                let text = self.text(*source);
                self.budget.spend_text(text.len())?;
                return Ok(Value::text(text));
            }
        };

        if *source == RequestSource::TokenParameters && names.as_slice() == ["user_id"] {
            return Ok(Value::text(self.request.user_id.to_owned()));
        }

        let member = self.member(*source, names);
        let value = member.map_or(Value::Null, |member| functions::output(member, as_value));
        self.budget.spend_text(value.made_bytes())?;
        Ok(value)
    }

    /// Returns the number of the user if the claim `sub` is one. Numbers beyond 64 bits would be
    /// rounded, and then equal the numbers of other users.
    fn second_value(&self, leaf: &RequestLeaf) -> Option<Value<'v>> {
        let RequestLeaf::Given { source, member } = leaf else { return None };
        let is_user = match (source, member) {
            (RequestSource::UserId, _) => true,
            (RequestSource::TokenParameters, Some(member)) => member.names == ["user_id"],
            (RequestSource::TokenParameters, None)
            | (
                RequestSource::Claims
                | RequestSource::ConnectionParameters
                | RequestSource::SubscriptionParameters,
                _,
            ) => false,
        };
        let number = self.request.claims.get("sub").filter(|_| is_user)?.as_i64()?;
        Some(Value::Integer(number))
    }

    fn engine(&self) -> Engine {
        self.engine
    }

    fn spend_text(&self, bytes: usize) -> Result<(), EvaluationError> {
        self.budget.spend_text(bytes)
    }
}

/// Returns the values of a row, or `None` if one is NULL or a blob, which equal nothing.
fn row<'v, S: Leaves<'v, RequestLeaf>>(
    expressions: &'v [RequestExpression],
    leaves: &S,
    budget: &Budget,
    values: &mut ValuePool,
) -> Result<Option<Vec<ValueId>>, EvaluationError> {
    let mut row = Vec::with_capacity(expressions.len());
    let mut text = String::new();

    for expression in expressions {
        text.clear();
        if !json::push_parameter(&expression.evaluate(leaves)?, &mut text) {
            return Ok(None);
        }
        budget.spend_text(text.len())?;
        row.push(values.id(&text));
    }

    Ok(Some(row))
}
