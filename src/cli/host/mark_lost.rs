//! `varu host mark-lost`.

use serde_json::json;
use varu::host::Places;
use varu::host::mark_lost::{MarkLostOptions, mark_lost};
use varu::time::SystemClock;

use super::{PATIENCE, account};
use crate::cli::context::Context;
use crate::cli::exit::{ExitStatus, Failure};
use varu::job::amount::counted;

/// Mark a damaged object without a second copy as lost, so that the machine's next backup stores its content again.
///
/// What is whole is refused. The snapshots that need the object are named: they can't be restored whole any more.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The objects, as `varu host verify` names them.
    #[arg(value_name = "OBJECT", required = true)]
    objects: Vec<String>,

    /// The account, where several have such an object.
    #[arg(long, value_name = "ACCOUNT", value_parser = account)]
    account: Option<String>,
}

impl Args {
    /// Gives them up, and names what is lost with them.
    pub fn run(self, context: &Context, places: Places) -> Result<ExitStatus, Failure> {
        let accounts = self.account.into_iter().collect();
        let options = MarkLostOptions { places, accounts, objects: self.objects, wait: PATIENCE };
        let progress = context.progress();
        let done = mark_lost(&options, &SystemClock, &*progress, &context.machine.interrupt)?;
        progress.end(&[]);
        let objects: Vec<String> = done.objects.iter().map(ToString::to_string).collect();
        match context.json {
            true => context.print_json(&json!({
                "account": done.account, "objects": objects, "snapshots": done.snapshots.keys().collect::<Vec<_>>()
            }))?,
            false => {
                let mut text = format!("{}: {} marked lost\n", done.account, counted(objects.len() as u64, "object"));
                for name in done.snapshots.values() {
                    text += &format!("{}: {name} can't be restored whole any more\n", done.account);
                }
                context.tell(&(text + "the machine's next backup stores again what it still has\n"))?;
            }
        }
        Ok(progress.say_warnings())
    }
}
