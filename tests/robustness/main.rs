//! Attackers' inputs, and repositories that are damaged, cut off or lost.

mod attacks;
mod sweep;
mod untrusted;
mod wreckage;
