//! A row is in one of a user's buckets exactly when the query, asked naively, gives it to the user.

mod fixed;
mod items;
mod random_configs;
mod store;
