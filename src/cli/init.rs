//! `varu init`.

use varu::init::{Made, init};

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::words::Trust;

/// Make a repository, a writer key and, unless --recipient is given, an identity.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An age recipient (age1…) that can open the repository's backups; may be given several times.
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,

    #[command(flatten)]
    trust: Trust,
}

impl Args {
    /// Makes the repository and says where everything is.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let (keyring, forget) = (context.keyring(), self.trust.trust_repository);
        let watch = context.watch();
        let remote = context.make_remote(&keyring, forget, &watch)?;
        let made = init(&*remote, &keyring, &self.recipients, forget)?;
        match context.json {
            true => context.print_json(&document(&made))?,
            false => context.tell(&text(&made))?,
        }
        Ok(ExitStatus::Done)
    }
}

/// Says where everything is, and what is lost with the identity.
pub fn text(made: &Made) -> String {
    let mut text = format!("made the repository {} in {}\n", made.id, made.place);
    text += &format!("  writer key  {}: this machine adds backups with it\n", made.writer_key.display());
    match &made.identity {
        Some(identity) => {
            text += &format!("  identity    {}: it opens all backups\n", identity.display());
            text += "Without the identity nobody can restore anything, you neither: there is no other way in. Keep copies of it in \
                     safe places (varu key export), and move it away from this machine: whoever breaks in here reads all \
                     backups with it.\n";
        }
        None => {
            for recipient in &made.recipients {
                text += &format!("  recipient   {recipient}\n");
            }
            text +=
                "Only the identities of these recipients open the backups; without them nobody can restore anything.\n";
        }
    }
    text
}

fn document(made: &Made) -> serde_json::Value {
    serde_json::json!({
        "repository": made.id,
        "place": made.place,
        "recipients": made.recipients,
        "writer_key": made.writer_key,
        "identity": made.identity,
    })
}
