//! The source `command` and its way back: several streams, the gates, and the recipes of `docs/recipes`, each as it stands
//! there, with the programs themselves.

mod gates;
mod recipes;
