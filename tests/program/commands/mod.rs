//! The source `command` and its restores: several streams, the conditions, and the recipes of `docs/recipes`, with the
//! programs themselves.

mod gates;
mod recipes;
