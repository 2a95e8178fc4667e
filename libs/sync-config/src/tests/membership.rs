//! A row is in one of a user's buckets exactly when SQLite returns it for the user's query.

mod fixed;
mod items;
mod random_configs;
mod store;
