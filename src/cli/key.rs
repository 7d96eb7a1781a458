//! `varu key`.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::json;
use varu::format::armor::{armor, unarmor};
use varu::format::layout::{MAX_KEY_OBJECT, key_name};
use varu::format::sheet::{SheetInput, SheetKey, export_text, recovery_sheet};
use varu::id::RepositoryId;
use varu::keyring::{RecipientAdded, Rotated, Rotation, Unlocked, add_recipient, recipients_with, recover};
use varu::remote::Remote;
use varu::remote::place::Location;
use varu::remote::sftp::known_host_key;
use varu::repository::{self, id_in, keep_copy};
use varu::time::{Clock, SystemClock};

use super::confirm::go_on;
use super::context::{Context, print};
use super::exit::{ExitStatus, Failure};
use super::progress::ProgressReporter;
use super::values::TrustArgs;

/// Work with the repository's keys.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: KeyCommand,

    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Show the repository's ids and recipients, and where the keys are. No secret is shown.
    Show,
    /// Print the identity for a safe, as text and as a QR code.
    Export {
        /// Print a recovery sheet: identity, repository ids, URL, host key, and the commands that restore.
        #[arg(long)]
        sheet: bool,
    },
    /// Let one more age recipient open all backups; needs the identity.
    AddRecipient {
        /// Its public half, age1….
        recipient: String,

        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// Restore a key object that the repository has lost: the one on the recovery sheet, or a copy. Needs the identity.
    Import {
        /// The key object: a file, or its lines from the recovery sheet.
        file: PathBuf,
    },
    /// Write the newest writer key to its place on this machine, from the repository; needs the identity. For a machine that
    /// was lost and is made again, not for one that was broken into.
    Recover,
    /// Make a new writer key and data key; what comes after shares nothing with what was before.
    Rotate {
        /// Who opens what comes after, beside the identity; may be given several times [default: who did before].
        #[arg(long = "recipient", value_name = "RECIPIENT")]
        recipients: Vec<String>,

        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

impl Args {
    /// Does it and says what came out.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let (keyring, trusted) = (context.machine.keyring(), self.trust.vouched().repositories);
        let place = context.machine.place()?.to_string();
        let progress = context.progress();
        let remote = context.machine.open_remote(&progress.shared())?;
        if matches!(self.what, KeyCommand::Show) {
            let keys = keyring.reader(&*remote, &trusted)?;
            return show(context, &place, &keys.keys);
        }
        if let KeyCommand::Import { file } = &self.what {
            return import(context, &*remote, file, &trusted);
        }
        let mut unlocked = keyring.unlock(&*remote, &trusted)?;
        if matches!(self.what, KeyCommand::Rotate { .. }) {
            keyring.know_begun_rotation(&mut unlocked)?;
        }
        if !self.trust.ignore_newer {
            unlocked.check_complete(&remote.place())?;
        }
        match self.what {
            KeyCommand::Show | KeyCommand::Import { .. } => {}
            KeyCommand::Export { sheet } => export(context, &place, &unlocked, sheet)?,
            KeyCommand::AddRecipient { recipient, yes } => {
                let after = recipients_with(&unlocked, &recipient)?;
                let ids: Vec<String> = unlocked.keys.iter().map(|keys| keys.id().to_string()).collect();
                progress.note_lines(&format!("{recipient} is going to open all of {}\n", ids.join(", ")));
                say_recipients(&progress, "From then on these open the backups", &after);
                go_on(yes)?;
                let added = add_recipient(&*remote, &keyring, &unlocked, &recipient)?;
                say_added(context, &recipient, &added)?;
            }
            KeyCommand::Recover => {
                let (id, path) = recover(&keyring, &*remote, &unlocked)?;
                match context.json {
                    true => context.print_json(&json!({ "repository": id, "writer_key": path }))?,
                    false => context.tell(&format!(
                        "{} writes the repository {id}\nNext: varu index adopt, once the machine is restored\n",
                        path.display()
                    ))?,
                }
            }
            KeyCommand::Rotate { recipients, yes } => {
                let rotation = Rotation::plan(&keyring, unlocked, &recipients)?;
                progress.note_lines(&format!("new keys are going to follow those of {}\n", rotation.follows()));
                say_recipients(&progress, "These, and nobody else, open what comes after", rotation.recipients());
                go_on(yes)?;
                let rotated = rotation.make(&*remote, &keyring)?;
                say_rotated(context, &rotated)?;
            }
        }
        Ok(ExitStatus::Done)
    }
}

/// Shows whom keys are going to be wrapped to.
fn say_recipients(progress: &ProgressReporter, what: &str, recipients: &[String]) {
    let lines: String = recipients.iter().map(|recipient| format!("  recipient   {recipient}\n")).collect();
    progress.note_lines(&format!("{what}:\n{lines}"));
}

/// Puts a key object back, on the remote and in the state folder.
fn import(
    context: &Context,
    remote: &dyn Remote,
    path: &Path,
    trusted: &[RepositoryId],
) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(ExitStatus::Failed, format!("reading the key object {} failed: {error}", path.display()))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // Base64 is a third longer, and a person may have typed more around it.
    file.take(2 * MAX_KEY_OBJECT).read_to_end(&mut bytes).map_err(failed)?;
    let object = unarmor(&String::from_utf8_lossy(&bytes)).unwrap_or(bytes);
    let (identity_path, identity) = context.machine.keyring().identity(remote)?;
    let id = id_in(&identity, &object).ok_or_else(|| {
        Failure::usage(format!(
            "{} is no key object that the identity {} opens: compare its lines with the sheet, from -----BEGIN AGE ENCRYPTED \
             FILE----- to the line that ends it",
            path.display(),
            identity_path.display()
        ))
    })?;
    if !identity.repositories().contains(&id) && !trusted.contains(&id) {
        return Err(Failure::new(
            ExitStatus::Refused,
            format!(
                "{} is of the repository {id}, which the identity doesn't name; if you know that it is yours, use \
                 --trust-repository {id}",
                path.display()
            ),
        ));
    }
    // A copy here is of use even where nothing can be written there.
    if let Ok(state) = context.machine.state() {
        keep_copy(state, &id, &object)?;
    }
    let name = key_name(&object);
    let was_missing = repository::import(remote, &object)?;
    match context.json {
        true => {
            context.print_json(&json!({ "repository": id, "object": name.to_string(), "put_back": was_missing }))?
        }
        false if was_missing => {
            context.tell(&format!("{name} of the repository {id} is in {} again\n", remote.place()))?
        }
        false => context.tell(&format!("{name} of the repository {id} is in {} already\n", remote.place()))?,
    }
    Ok(ExitStatus::Done)
}

fn show(context: &Context, place: &str, keys: &[varu::repository::Keys]) -> Result<ExitStatus, Failure> {
    let keyring = context.machine.keyring();
    let ids: Vec<RepositoryId> = keys.iter().map(|keys| *keys.id()).collect();
    let recipients = &keys[0].file().recipients;
    let writer_key = keyring.writer_key_path(&ids[0]).ok().filter(|path| path.exists());
    let identities = keyring.identities_here(&ids);
    if context.json {
        context.print_json(&json!({
            "place": place,
            "repositories": ids,
            "recipients": recipients,
            "writer_key": writer_key,
            "identities": identities,
        }))?;
        return Ok(ExitStatus::Done);
    }
    let mut text = format!("place       {place}\n");
    for (number, id) in ids.iter().enumerate() {
        text += &format!("repository  {id}{}\n", if number == 0 { "" } else { " (before a rotation)" });
    }
    recipients.iter().for_each(|recipient| text += &format!("recipient   {recipient}\n"));
    match writer_key {
        Some(path) => text += &format!("writer key  {}\n", path.display()),
        None => text += "writer key  not on this machine\n",
    }
    match identities.as_slice() {
        [] => text += "identity    not on this machine\n",
        paths => paths.iter().for_each(|path| text += &format!("identity    {}\n", path.display())),
    }
    context.print(&text)?;
    Ok(ExitStatus::Done)
}

fn export(context: &Context, place: &str, unlocked: &Unlocked, sheet: bool) -> Result<(), Failure> {
    let ids: Vec<RepositoryId> = unlocked.keys.iter().map(|keys| *keys.id()).collect();
    let identity = unlocked.identity.to_text();
    if sheet {
        let printed = context.machine.zone.stamp(SystemClock.now());
        let host_key = match context.machine.place()? {
            Location::Local(_) => None,
            Location::Sftp(place) => known_host_key(&place, &context.machine.remote_options())?,
        };
        let armored: Vec<(RepositoryId, String)> =
            unlocked.keys.iter().map(|keys| (*keys.id(), armor(&keys.file().key_object))).collect();
        let key_objects = armored
            .iter()
            .map(|(id, armor)| Ok(SheetKey { id, armor, qr: paper_code(armor)? }))
            .collect::<Result<Vec<_>, Failure>>()?;
        let sheet = recovery_sheet(&SheetInput {
            key_objects: &key_objects,
            identity_text: &identity,
            repositories: &ids,
            url: place,
            host_key: host_key.as_ref().map(|key| (key.line.as_str(), key.fingerprint.as_str())),
            install: &format!(
                "apt-get install --yes ./varu_{}_{}.deb",
                env!("CARGO_PKG_VERSION"),
                debian_architecture()
            ),
            version: env!("CARGO_PKG_VERSION"),
            printed: printed.split(' ').next().unwrap_or_default(),
        });
        return print(sheet.as_bytes());
    }
    let text = export_text(&identity, &ids);
    if context.json {
        return context.print_json(&json!({ "repositories": ids, "identity": *text }));
    }
    print(text.as_bytes())?;
    match std::io::stdout().is_terminal() {
        true => print(qr_code(&text)?.as_bytes()),
        false => Ok(()),
    }
}

/// The lines of the identity that matter, as a QR code: the repositories and the secret.
fn qr_code(text: &str) -> Result<String, Failure> {
    let matters = |line: &&str| !line.starts_with('#') || line.starts_with("# varu repository");
    let lines: zeroize::Zeroizing<String> =
        zeroize::Zeroizing::new(text.lines().filter(matters).map(|line| format!("{line}\n")).collect());
    let code = QrCode::new(lines.as_bytes()).map_err(|error| {
        Failure::new(ExitStatus::Failed, format!("the identity doesn't fit into a QR code: {error}; use its text"))
    })?;
    // On a dark terminal the light modules are what is drawn.
    let drawn = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(format!("\n{drawn}\n"))
}

/// What Debian calls this machine's architecture.
fn debian_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A text as a QR code for paper.
fn paper_code(text: &str) -> Result<String, Failure> {
    let code = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::L).map_err(|error| {
        Failure::new(ExitStatus::Failed, format!("a key object doesn't fit into a QR code: {error}"))
    })?;
    Ok(code.render::<Dense1x2>().build())
}

fn say_added(context: &Context, recipient: &str, added: &RecipientAdded) -> Result<(), Failure> {
    if context.json {
        return context.print_json(&json!({
            "recipient": recipient,
            "repositories": added.repositories,
            "recipients": added.recipients,
            "writer_keys": added.writer_keys,
        }));
    }
    let mut text = format!("{recipient} opens all backups now; no pack was touched\n");
    for id in &added.repositories {
        text += &format!("repository  {id}\n");
    }
    for path in &added.writer_keys {
        text += &format!("writer key  {} names it, too\n", path.display());
    }
    if added.writer_keys.is_empty() {
        text += "No writer key on this machine was changed. The next rotation takes the recipient from the key object, which \
             only somebody who opens the backups can make.\n";
    }
    text += &format!(
        "Its holder gives the repository's id at the first restore: --trust-repository {}\n",
        added.repositories.first().map(ToString::to_string).unwrap_or_default()
    );
    context.tell(&text)
}

fn say_rotated(context: &Context, rotated: &Rotated) -> Result<(), Failure> {
    if context.json {
        return context.print_json(&json!({
            "repository": rotated.id,
            "follows": rotated.follows,
            "recipients": rotated.recipients,
            "writer_key": rotated.writer_key,
            "identity": rotated.identity,
        }));
    }
    let mut text = format!("the repository goes on as {}, after {}\n", rotated.id, rotated.follows);
    text += &format!("writer key  {}: bring it to the machine that backs up\n", rotated.writer_key.display());
    text +=
        &format!("identity    {}: it names the new id; renew the copies in your safe\n", rotated.identity.display());
    for recipient in &rotated.recipients {
        text += &format!("recipient   {recipient}\n");
    }
    context.tell(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_fits_into_a_qr_code() {
        let ids = [RepositoryId::from_bytes([0x11; 16]), RepositoryId::from_bytes([0x22; 16])];
        let secret = format!("AGE-SECRET-KEY-1{}", "Q".repeat(58));
        let code = qr_code(&export_text(&secret, &ids)).unwrap();
        assert!(code.lines().count() > 20 && code.lines().all(|line| line.chars().count() < 80), "{code}");
    }
}
