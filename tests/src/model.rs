//! The reference model: the rows that a user must see after a commit.
//!
//! [`expected_rows`] is written by hand for the one sync config in `schema.rs`: for each query a loop
//! over all rows and an `if`. It shares no code with the system under test.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::history::History;
use crate::history::{Row, Version};
use crate::local_buckets::Rows;
use crate::schema::Table;

/// A user as the claims and subscriptions of a client describe him.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// The claim `sub`.
    pub id: String,
    /// The claim `role` is `admin`.
    pub admin: bool,
    /// The list to whose comments the user has subscribed.
    pub comments_of: Option<String>,
}

impl User {
    /// Creates a user without the admin role and without subscriptions.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), admin: false, comments_of: None }
    }
}

/// Returns the rows that a user sees after commit number `commit` of a history.
#[must_use]
pub fn expected_rows(history: &History, commit: usize, user: &User) -> Rows {
    View { version: history.version(commit), user }.rows()
}

struct View<'a> {
    version: &'a Version,
    user: &'a User,
}

impl View<'_> {
    fn rows(&self) -> Rows {
        let mut out = Rows::new();
        self.add_rows_of_everyone(&mut out);
        self.add_own_rows(&mut out);

        let lists = self.lists_of_memberships();
        for row in self.version.rows(Table::Lists) {
            let mine = self.is_user(&row[1]);
            let member = row[0].as_ref().is_some_and(|id| lists.contains(id));
            if row[3].as_deref() == Some("f") && (mine || member) {
                add(&mut out, Table::Lists, row);
            }
        }

        for row in self.version.rows(Table::Todos) {
            if row[1].as_ref().is_some_and(|list| lists.contains(list)) {
                add(&mut out, Table::Todos, row);
            }
        }

        if self.user.admin {
            self.version.rows(Table::Audit).for_each(|row| add(&mut out, Table::Audit, row));
        }
        if let Some(list) = self.user.comments_of.as_ref().filter(|list| lists.contains(*list)) {
            for row in self.version.rows(Table::Comments) {
                if row[1].as_ref() == Some(list) {
                    add(&mut out, Table::Comments, row);
                }
            }
        }
        out
    }

    fn add_rows_of_everyone(&self, out: &mut Rows) {
        for row in self.version.rows(Table::Settings) {
            if row[1].as_deref() == Some("public") {
                add_as(out, Table::Settings, row, &row[0], &["value"]);
            }
        }

        for row in self.version.rows(Table::Stock) {
            add_as(out, Table::Stock, row, &row[2], &["site", "item", "qty"]);
        }

        for row in self.version.rows(Table::Events) {
            let level: Option<i64> = row[1].as_deref().map(|level| level.parse().expect("a level"));
            if level.is_some_and(|level| level >= 3) {
                add_as(out, Table::Events, row, &row[0], &["level", "message"]);
            }
        }
    }

    fn add_own_rows(&self, out: &mut Rows) {
        for row in self.version.rows(Table::Todos) {
            if self.is_user(&row[2]) {
                add(out, Table::Todos, row);
            }
        }

        for row in self.version.rows(Table::Notes) {
            if self.is_user(&row[1]) {
                add_as(out, Table::Notes, row, &row[0], &["body"]);
            }
        }

        for row in self.version.rows(Table::Documents) {
            if self.is_user(&row[1]) && row[2].is_none() {
                add(out, Table::Documents, row);
            }
        }

        for row in self.version.rows(Table::Memberships) {
            if self.is_user(&row[2]) {
                add(out, Table::Memberships, row);
            }
        }

        for row in self.version.rows(Table::Drafts) {
            if self.is_user(&row[1]) {
                add(out, Table::Drafts, row);
            }
        }
    }

    fn is_user(&self, value: &Option<String>) -> bool {
        value.as_ref() == Some(&self.user.id)
    }

    fn lists_of_memberships(&self) -> BTreeSet<String> {
        let rows = self.version.rows(Table::Memberships);
        rows.filter(|row| self.is_user(&row[2])).filter_map(|row| row[1].clone()).collect()
    }
}

/// Adds a row with all of its columns, of which the first is `id`.
fn add(out: &mut Rows, table: Table, row: &Row) {
    let columns = table.columns().iter().zip(row);
    let data =
        columns.map(|((name, kind), text)| ((*name).to_owned(), kind.value(text.as_deref())));
    insert(out, table, &row[0], data.collect());
}

/// Adds a row with an `id` from another column and with the columns in `names`.
fn add_as(out: &mut Rows, table: Table, row: &Row, id: &Option<String>, names: &[&str]) {
    let mut data = Map::new();
    data.insert("id".to_owned(), Value::from(id.clone()));
    for ((name, kind), text) in table.columns().iter().zip(row) {
        if names.contains(name) {
            data.insert((*name).to_owned(), kind.value(text.as_deref()));
        }
    }
    insert(out, table, id, data);
}

fn insert(out: &mut Rows, table: Table, id: &Option<String>, data: Map<String, Value>) {
    let id = id.clone().expect("the ids of the tests are not null");
    out.insert((table.name().to_owned(), id), data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Effect;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| (*value != "-").then(|| (*value).to_owned())).collect()
    }

    fn seen(effects: &[Effect], user: &User) -> Vec<String> {
        let mut history = History::default();
        history.commit(1, effects.to_vec());
        let rows = expected_rows(&history, 1, user);
        rows.keys().map(|(table, id)| format!("{table} {id}")).collect()
    }

    #[test]
    fn a_member_sees_the_list_and_its_todos_but_not_the_documents() {
        let effects = [
            Effect::Put(Table::Lists, row(&["l1", "u1", "groceries", "f"])),
            Effect::Put(Table::Lists, row(&["l2", "u1", "old", "t"])),
            Effect::Put(Table::Memberships, row(&["7", "l1", "u2"])),
            Effect::Put(Table::Todos, row(&["t1", "l1", "u1", "-", "-", "-", "-", "-", "-"])),
            Effect::Put(Table::Documents, row(&["1", "u1", "-", "x"])),
        ];
        let owner = seen(&effects, &User::new("u1"));
        assert_eq!(owner, ["documents 1", "lists l1", "todos t1"]);
        let member = seen(&effects, &User::new("u2"));
        assert_eq!(member, ["lists l1", "memberships 7", "todos t1"]);
        assert_eq!(seen(&effects, &User::new("u3")), [""; 0]);
    }

    #[test]
    fn comments_need_a_subscription_and_a_membership() {
        let effects = [
            Effect::Put(Table::Memberships, row(&["7", "l1", "u2"])),
            Effect::Put(Table::Comments, row(&["1", "l1", "{}"])),
            Effect::Put(Table::Comments, row(&["2", "l2", "{}"])),
        ];
        let without_subscription = User::new("u2");
        let to_a_list_of_his = subscriber("u2", "l1");
        let to_another_list = subscriber("u2", "l2");
        assert_eq!(seen(&effects, &without_subscription), ["memberships 7"]);
        assert_eq!(seen(&effects, &to_a_list_of_his), ["comments 1", "memberships 7"]);
        assert_eq!(seen(&effects, &to_another_list), ["memberships 7"]);
    }

    fn subscriber(id: &str, list: &str) -> User {
        User { comments_of: Some(list.to_owned()), ..User::new(id) }
    }
}
