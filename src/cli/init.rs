//! `varu init`.

use varu::init::{CreatedRepository, init};
use varu::progress::Progress;
use varu::remote::place::Location;
use varu::remote::sftp;

use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::progress::ProgressReporter;
use super::values::TrustArgs;

/// Make a repository, a writer key and, unless --recipient is given, an identity.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An age recipient (age1…) that can open the repository's backups; may be given several times.
    #[arg(long = "recipient", value_name = "RECIPIENT")]
    recipients: Vec<String>,

    /// Trust the SFTP host from now on if one of its keys has this fingerprint, SHA256:….
    #[arg(long, value_name = "FINGERPRINT")]
    trust_host_key: Option<String>,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Args {
    /// Makes the repository and says where everything is.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let (keyring, forget) = (context.machine.keyring(), self.trust.trust_repository);
        let progress = context.progress();
        if let Some(fingerprint) = &self.trust_host_key {
            trust_host(context, fingerprint, &progress)?;
        }
        let remote = context.machine.make_remote(&keyring, forget, &progress.shared())?;
        let made = init(&*remote, &keyring, &self.recipients, forget)?;
        match context.json {
            true => context.print_json(&document(&made))?,
            false => context.tell(&text(&made))?,
        }
        Ok(ExitStatus::Done)
    }
}

/// Enters the host's key among the known ones where it is the one that was named.
fn trust_host(context: &Context, fingerprint: &str, progress: &ProgressReporter) -> Result<(), Failure> {
    let Location::Sftp(place) = context.machine.place()? else {
        return Err(Failure::usage(
            "--trust-host-key goes with a repository on an SFTP host, and this one is a folder",
        ));
    };
    let (key, file) = sftp::trust_host_key(&place, &context.machine.remote_options(), fingerprint)?;
    progress.note(&format!(
        "{} is known from now on by its key {}, in {}",
        place.host(),
        key.fingerprint,
        file.display()
    ));
    Ok(())
}

/// Says where everything is, and what is lost with the identity.
pub fn text(made: &CreatedRepository) -> String {
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

fn document(made: &CreatedRepository) -> serde_json::Value {
    serde_json::json!({
        "repository": made.id,
        "place": made.place,
        "recipients": made.recipients,
        "writer_key": made.writer_key,
        "identity": made.identity,
    })
}
