//! Rules that the source and its dependencies keep.

mod documents;
mod layering;
mod supply;
mod vocabulary;
