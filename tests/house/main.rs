//! Rules that the source and its dependencies keep.

mod layering;
mod supply;
