//! The language's reference, sentence by sentence.

mod expressions;
