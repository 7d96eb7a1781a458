//! `varu restore --in-place`: every set goes back to where it came from.

use std::path::PathBuf;

use varu::progress::Progress;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::restore::{Args, Options, What};
use crate::config::{Set, Source};

/// Where a set came from.
enum Home {
    /// Below the root folder.
    Root,
    /// A service, by its name.
    Service(&'static str),
    /// A program's output has none: this folder.
    Folder(PathBuf),
}

impl Args {
    /// Restores what is meant, set by set in `restore_order`. The first set that fails ends it: later ones may need it.
    pub(super) fn in_place(self, context: &Context) -> Result<ExitStatus, Failure> {
        let options = self.clone().options(context)?;
        let mut order = sets(&options, context)?;
        order.sort_by_key(|(_, set)| set.restore_order.unwrap_or(u32::MAX));
        let names: Vec<&String> = order.iter().map(|(name, _)| *name).collect();
        let mut worst = ExitStatus::Done;
        for (number, (name, set)) in order.iter().enumerate() {
            let home = home(name, set, context)?;
            let restored = self.of_home((*name).clone(), home).run(context);
            let status = restored.map_err(|failure| left(failure, name, &names[number..]))?;
            worst = if worst == ExitStatus::Done { status } else { worst };
        }
        Ok(worst)
    }

    fn of_home(&self, set: String, home: Home) -> Self {
        let mut args = self.clone();
        (args.set, args.all, args.in_place) = (Some(set), false, false);
        match home {
            Home::Root => args.to = Some(PathBuf::from("/")),
            Home::Folder(folder) => args.to = Some(folder),
            Home::Service(service) => args.into = self.into.clone().for_service(service),
        }
        args
    }
}

/// What is meant: one set, or all that the configuration and the repository have.
fn sets<'c>(options: &Options, context: &'c Context) -> Result<Vec<(&'c String, &'c Set)>, Failure> {
    let configured = &context.config.sets;
    match &options.what {
        What::Set(name) => match configured.get_key_value(name) {
            Some(set) => Ok(vec![set]),
            None => Err(Failure::usage(format!(
                "where {name} came from isn't known: the configuration has no such set; name a place with --to or --into"
            ))),
        },
        What::All => {
            let watch = context.watch();
            let stored = context.open_to_read(&options.trust, &watch)?.sets()?;
            for name in stored.iter().filter(|name| !configured.contains_key(*name)) {
                watch.warn(&format!("{name} is left out: the configuration has no such set (varu restore {name} --to DIR)"));
            }
            Ok(configured.iter().filter(|(name, _)| stored.contains(name)).collect())
        }
        What::SetOfSnapshot | What::Configuration => {
            Err(Failure::usage("--in-place goes with a SET or with --all"))
        }
    }
}

fn home(name: &str, set: &Set, context: &Context) -> Result<Home, Failure> {
    Ok(match &set.source {
        Source::Files(_) => Home::Root,
        Source::Command(_) => Home::Folder(context.state()?.join("restored").join(name)),
        service => Home::Service(service.kind().name()),
    })
}

/// The failure, and what wasn't restored.
fn left(failure: Failure, name: &str, names: &[&String]) -> Failure {
    let left: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let message = format!("{name}: {}\nNot restored: {}", failure.message, left.join(", "));
    Failure { message, ..failure }
}
