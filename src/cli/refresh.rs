//! `varu refresh`.

use clap::Args as ClapArgs;
use clap_complete::ArgValueCandidates;
use varu::job::hooks::after_refresh;
use varu::job::refresh;

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::restore;
use super::values::set_name;

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
        let refresh = refresh::find(&self.name, &context.machine)?;
        let request = refresh::request(&self.name, refresh, restore::who())?;
        let context = context.on(context.machine.elsewhere(refresh.repository.as_deref(), &refresh.identity));
        let status = restore::run(&request, true, &context)?;
        after_refresh(&refresh.after, &refresh.set, &context.machine)?;
        Ok(status)
    }
}
