//! The language's reference, sentence by sentence.

mod definitions;
mod expressions;
mod values;
