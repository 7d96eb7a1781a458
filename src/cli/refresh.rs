//! `varu refresh`.

use clap::Args as ClapArgs;
use clap_complete::ArgValueCandidates;
use varu::job::hooks::after_refresh;

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::restore;
use super::values::set_name;
use varu::job::nearest;

/// Bring another environment's newest data in, as [restores.NAME] of the configuration says.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Its name.
    #[arg(value_name = "NAME", value_parser = set_name, add = ArgValueCandidates::new(complete::refreshes))]
    name: String,
}

impl Args {
    /// Restores, without a question.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let restores = &context.machine.configuration.restores;
        let Some(refresh) = restores.get(&self.name) else {
            let known = match nearest(&self.name, restores.keys().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("it has {} of them", restores.len()),
            };
            return Err(Failure::usage(format!("the configuration has no [restores.{}]; {known}", self.name)));
        };
        let context = context.on(context.machine.elsewhere(refresh.repository.as_deref(), &refresh.identity));
        let status = restore::Args::of_refresh(&self.name, refresh).run(&context)?;
        after_refresh(&refresh.after, &refresh.set, &context.machine)?;
        Ok(status)
    }
}
