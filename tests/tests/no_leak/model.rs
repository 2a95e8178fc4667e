//! What each user may see, derived from the changes alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rand::Rng;
use rand::rngs::StdRng;

pub(super) const CREATE_SQL: &str = "
    CREATE TABLE notes (id text PRIMARY KEY, owner text, text text);
    CREATE TABLE docs (id text PRIMARY KEY, org text, text text);
    CREATE TABLE files (id text PRIMARY KEY, tenant text, text text);
    CREATE TABLE tasks (id text PRIMARY KEY, tenant text, project text, text text);
    CREATE TABLE news (id text PRIMARY KEY, text text);
    CREATE TABLE members (usr text, org text, PRIMARY KEY (usr, org));
    CREATE TABLE banned (usr text PRIMARY KEY);
    CREATE PUBLICATION powersync FOR ALL TABLES;
";

/// Users and the tenant of each. Names of which one could be mistaken for a part of another.
pub(super) const USERS: [(&str, &str); 4] =
    [("u", "t"), ("u\"", "t\",\"p"), ("u\",\"v", "t]"), ("u][", "t")];
pub(super) const ORGS: [&str; 3] = ["o", "o\",\"p", "o]"];
pub(super) const TENANTS: [&str; 4] = ["t", "t\",\"p", "t]", "nobody's"];
pub(super) const PROJECTS: [&str; 3] = ["p", "\"p", "p]"];

/// Rows of each table.
const IDS: usize = 6;

/// A set of rows that are granted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Own(usize),
    Org(usize),
    Tenant(usize),
    Project(usize, usize),
    Open,
}

#[derive(Default)]
pub(super) struct Model {
    next_marker: u32,
    /// The place and the marker of each row, by table and id.
    rows: BTreeMap<(&'static str, usize), (Scope, u32)>,
    /// Markers of all rows that were ever in a scope. Its history has them until it is compacted.
    history: BTreeMap<Scope, BTreeSet<u32>>,
    members: BTreeSet<(usize, usize)>,
    banned: BTreeSet<usize>,
}

impl Model {
    /// Returns SQL for enough rows in each scope that snapshots are built.
    pub(super) fn fill(&mut self, random: &mut StdRng) -> String {
        let mut sql = String::new();
        for user in 0..USERS.len() {
            self.join(user, user % ORGS.len(), &mut sql);
        }
        for _ in 0..100 {
            self.write(random, &mut sql);
        }
        sql
    }

    /// Returns SQL for one transaction of random changes, which the model contains from now on.
    pub(super) fn commit(&mut self, random: &mut StdRng) -> String {
        let mut sql = String::from("BEGIN;");
        for _ in 0..random.random_range(1..12) {
            let user = random.random_range(0..USERS.len());
            let org = random.random_range(0..ORGS.len());
            match random.random_range(0..10) {
                0 | 1 => self.join(user, org, &mut sql),
                2 | 3 => {
                    self.members.remove(&(user, org));
                    let (usr, org) = (quoted(USERS[user].0), quoted(ORGS[org]));
                    let _ = write!(sql, "DELETE FROM members WHERE usr = {usr} AND org = {org};");
                }
                4 => {
                    self.banned.insert(user);
                    let usr = quoted(USERS[user].0);
                    let _ =
                        write!(sql, "INSERT INTO banned VALUES ({usr}) ON CONFLICT DO NOTHING;");
                }
                5 => {
                    self.banned.remove(&user);
                    let _ =
                        write!(sql, "DELETE FROM banned WHERE usr = {};", quoted(USERS[user].0));
                }
                6 => self.delete(random, &mut sql),
                _ => self.write(random, &mut sql),
            }
        }
        sql + "COMMIT;"
    }

    fn join(&mut self, user: usize, org: usize, sql: &mut String) {
        self.members.insert((user, org));
        let (usr, org) = (quoted(USERS[user].0), quoted(ORGS[org]));
        let _ = write!(sql, "INSERT INTO members VALUES ({usr}, {org}) ON CONFLICT DO NOTHING;");
    }

    /// Writes a row at a random place. A row that was elsewhere moves.
    fn write(&mut self, random: &mut StdRng, sql: &mut String) {
        self.next_marker += 1;
        let marker = self.next_marker;
        let id = random.random_range(0..IDS);
        let text = quoted(&format!("secret-{marker:06}-"));
        let tenant = random.random_range(0..TENANTS.len());
        let project = random.random_range(0..PROJECTS.len());

        let (table, columns, scope) = match random.random_range(0..5) {
            0 => {
                let owner = random.random_range(0..USERS.len());
                ("notes", vec![("owner", USERS[owner].0)], Scope::Own(owner))
            }
            1 => {
                let org = random.random_range(0..ORGS.len());
                ("docs", vec![("org", ORGS[org])], Scope::Org(org))
            }
            2 => ("files", vec![("tenant", TENANTS[tenant])], Scope::Tenant(tenant)),
            3 => (
                "tasks",
                vec![("tenant", TENANTS[tenant]), ("project", PROJECTS[project])],
                Scope::Project(tenant, project),
            ),
            _ => ("news", vec![], Scope::Open),
        };

        let mut names = String::from("id, text");
        let mut values = format!("'{id}', {text}");
        let mut set = format!("text = {text}");
        for (name, value) in columns {
            let value = quoted(value);
            let _ = write!(names, ", {name}");
            let _ = write!(values, ", {value}");
            let _ = write!(set, ", {name} = {value}");
        }
        let _ = write!(
            sql,
            "INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT (id) DO UPDATE SET {set};"
        );

        self.history.entry(scope.clone()).or_default().insert(marker);
        self.rows.insert((table, id), (scope, marker));
    }

    fn delete(&mut self, random: &mut StdRng, sql: &mut String) {
        let place = random.random_range(0..self.rows.len().max(1));
        let Some((table, id)) = self.rows.keys().nth(place).copied() else { return };
        self.rows.remove(&(table, id));
        let _ = write!(sql, "DELETE FROM {table} WHERE id = '{id}';");
    }

    fn is_granted(&self, user: usize, scope: &Scope) -> bool {
        match scope {
            Scope::Own(owner) => *owner == user,
            Scope::Org(org) => self.members.contains(&(user, *org)),
            Scope::Tenant(tenant) | Scope::Project(tenant, _) => TENANTS[*tenant] == USERS[user].1,
            Scope::Open => !self.banned.contains(&user),
        }
    }

    /// Returns the markers that a user may receive: of rows that are in the user's buckets, or were.
    pub(super) fn allowed(&self, user: usize) -> BTreeSet<u32> {
        let granted = self.history.iter().filter(|(scope, _)| self.is_granted(user, scope));
        granted.flat_map(|(_, markers)| markers).copied().collect()
    }

    /// Returns the markers that a user must receive who subscribes to all projects.
    pub(super) fn current(&self, user: usize) -> BTreeSet<u32> {
        let granted = self.rows.values().filter(|(scope, _)| self.is_granted(user, scope));
        granted.map(|(_, marker)| *marker).collect()
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
