//! The library on repositories in memory and in folders: backups, bases, packs, chains, damage, kills, the format.

mod adversarial;
mod adversarial_pages;
mod age;
mod backup_restore;
mod bases;
mod beside;
mod clones;
mod corpus;
mod crash;
mod damage;
mod example;
mod format_by_hand;
mod guards;
mod history;
mod hostile;
mod hostile_recipes;
mod parent_guided;
mod prune;
mod races;
mod random_access;
mod rebase;
mod restore_targets;
mod sharing;
mod similarity;
mod vectors;
mod weeks;
