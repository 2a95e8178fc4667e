//! Official SDKs, unmodified, from npm: each scenario runs on all of them, or on the newest and the oldest.

mod changes;
mod everyday;
mod fleet;
mod random;
mod streams;
mod tokens;
