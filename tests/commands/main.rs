//! The source `command` and its way back: several streams, the gates, and the recipes of `docs/recipes`, each as it stands
//! there, with the programs themselves.

#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/site.rs"]
mod site;

mod gates;
mod recipes;
