//! The identity on its way to a safe: the exported text, and the recovery sheet for paper.

use std::fmt::Write;

use zeroize::Zeroizing;

use crate::id::RepositoryId;

const EXPORT_HEADING: [&str; 2] = [
    "# varu identity, for a safe: it opens all backups of its repositories, and without it nobody opens them.",
    "# To restore, save these lines in a file and name it: varu --repo URL --identity FILE restore --all --to DIR",
];

/// The text of an identity file with the repositories that it belongs to, and a word on how to use it. The result is
/// itself an identity file, and exporting it again changes nothing.
pub fn export_text(identity_text: &str, repositories: &[RepositoryId]) -> Zeroizing<String> {
    let headings = EXPORT_HEADING.map(str::to_owned);
    let repositories = repositories.iter().map(|id| format!("# varu repository {id}"));
    let says = |known: &str, line: &str| {
        known.trim().strip_prefix(line).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let is_new = |line: &String| !identity_text.lines().any(|known| says(known, line));
    let before: String = headings.into_iter().chain(repositories).filter(is_new).map(|line| line + "\n").collect();
    secret_text(&before, identity_text, "")
}

/// A key object on a sheet: with it and the identity, the packs are enough where `keys/` is lost.
pub struct SheetKey<'a> {
    /// The repository that it opens.
    pub id: &'a RepositoryId,
    /// Its armor.
    pub armor: &'a str,
    /// The armor as a QR code.
    pub qr: String,
}

/// The content of a recovery sheet.
pub struct SheetInput<'a> {
    /// The key objects of the repositories.
    pub key_objects: &'a [SheetKey<'a>],
    /// The identity file, as it is.
    pub identity_text: &'a str,
    /// The repositories that it opens there, the newest first.
    pub repositories: &'a [RepositoryId],
    /// Where they are.
    pub url: &'a str,
    /// The line of `known_hosts` that belongs to the URL's host, and the key's fingerprint, if it is reached by SSH.
    pub host_key: Option<(&'a str, &'a str)>,
    /// The shell command that installs varu.
    pub install: &'a str,
    /// The version of varu that writes the repository.
    pub version: &'a str,
    /// The day of printing, as a person reads it.
    pub printed: &'a str,
}

/// A page of plain text for a safe: all that is needed to restore on a fresh machine, and the three commands that do.
pub fn recovery_sheet(input: &SheetInput<'_>) -> Zeroizing<String> {
    secret_text(&before_identity(input), input.identity_text, &after_identity(input))
}

const RULE: &str = "------------------------------------------------------------------------------\n";

fn before_identity(input: &SheetInput<'_>) -> String {
    let mut text = format!(
        "VARU RECOVERY SHEET, printed {}\n\n\
         Whoever has this sheet and can reach the backups can read them all. Whoever has\n\
         lost it, and every other copy of the identity, can't read them any more. Keep it\n\
         in a safe, away from the machine that it restores.\n\n\
         Backups:     {}\n",
        input.printed, input.url
    );
    for id in input.repositories {
        // Writing to a String does not fail.
        let _ = writeln!(text, "Repository:  {id}");
    }
    if let Some((line, fingerprint)) = input.host_key {
        let _ = writeln!(text, "Host key:    {line}\n             {fingerprint}");
    }
    text + "\nIdentity: all lines between the rules.\n" + RULE
}

fn after_identity(input: &SheetInput<'_>) -> String {
    let varu = format!("varu --repo {} --identity identity.txt", quoted(input.url));
    let mut steps = vec![format!(
        "Install varu, version {} or later. Its package belongs beside this sheet:\n\n    {}\n",
        input.version, input.install
    )];
    if let Some((line, fingerprint)) = input.host_key {
        steps.push(
            "Make an SSH key, and have the administrator of the backup host let it in with\n   `varu host prepare`, and the \
             lost machine's not any more:\n\n    ssh-keygen -t ed25519 -f ~/.ssh/id_ed25519; cat ~/.ssh/id_ed25519.pub\n"
                .to_owned(),
        );
        steps.push(format!(
            "Know the backup host by its key, {fingerprint}:\n\n    \
             echo {} >> ~/.ssh/known_hosts\n",
            quoted(line)
        ));
    }
    steps.push(
        "Start this, type the lines between the rules, and end with Ctrl-D:\n\n    (umask 077; cat > identity.txt)\n"
            .to_owned(),
    );
    steps.push(format!("See what there is:\n\n    {varu} list\n"));
    steps.push(format!("Restore all sets into the folder `restored`:\n\n    {varu} restore --all --to restored\n"));
    let mut text = format!("{RULE}\nTo restore everything on a fresh machine, in this order:\n");
    for (number, step) in steps.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = write!(text, "\n{}. {step}", number + 1);
    }
    text += "\nShould varu not trust a repository, compare its id with this sheet. How a whole machine\n\
             comes back, databases and all: docs/restore.md, in the package below /usr/share/doc/varu.\n";
    for SheetKey { id, armor, qr } in input.key_objects {
        let _ = write!(
            text,
            "\n{RULE}\n\
             Key object of {id}. It is no secret: only the identity opens it.\n\
             Should varu say that the repository has lost its key objects, save these lines as\n\
             key.txt (scan the code, or type them) and put it back:\n\n    {varu} key import key.txt\n\n{armor}\n{qr}\n"
        );
    }
    text
}

/// One word for a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Three texts, the second a secret that ends with its line. With its whole length reserved the result never moves, so no
/// copy of the secret is left behind.
fn secret_text(before: &str, secret: &str, after: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(before.len() + secret.len() + 1 + after.len()));
    text.push_str(before);
    text.push_str(secret);
    if !secret.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(after);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: RepositoryId = RepositoryId::from_bytes([0x11; 16]);
    const NEW: RepositoryId = RepositoryId::from_bytes([0x22; 16]);

    fn identity() -> String {
        format!("# varu repository {OLD}\nAGE-SECRET-KEY-1EXAMPLE\n")
    }

    #[test]
    fn an_export_names_each_repository_once_and_exports_to_itself() {
        let text = export_text(&identity(), &[NEW, OLD]);
        for id in [OLD, NEW] {
            assert_eq!(text.matches(&format!("# varu repository {id}\n")).count(), 1);
        }
        assert!(text.ends_with(&identity()));
        assert_eq!(*export_text(&text, &[NEW, OLD]), *text);
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>(), ["AGE-SECRET-KEY-1EXAMPLE"]);
    }

    #[test]
    fn a_sheet_holds_all_that_a_fresh_machine_needs() {
        let armor = crate::format::armor::armor(b"key object");
        let key = SheetKey { id: &NEW, armor: &armor, qr: "CODE".to_owned() };
        let sheet = recovery_sheet(&SheetInput {
            key_objects: &[key],
            identity_text: identity().trim_end(),
            repositories: &[NEW, OLD],
            url: "sftp://vm1@backup.example/re'po",
            host_key: Some(("backup.example ssh-ed25519 AAAA", "SHA256:abc")),
            install: "apt-get install --yes ./varu_0.1.0_amd64.deb",
            version: "0.1.0",
            printed: "2026-11-21",
        });
        for line in [
            "VARU RECOVERY SHEET, printed 2026-11-21",
            "Backups:     sftp://vm1@backup.example/re'po",
            &format!("Repository:  {NEW}"),
            &format!("Repository:  {OLD}"),
            "Host key:    backup.example ssh-ed25519 AAAA",
            "AGE-SECRET-KEY-1EXAMPLE",
            "    apt-get install --yes ./varu_0.1.0_amd64.deb",
            "             SHA256:abc",
            "    (umask 077; cat > identity.txt)",
            r"    varu --repo 'sftp://vm1@backup.example/re'\''po' --identity identity.txt restore --all --to restored",
            "    echo 'backup.example ssh-ed25519 AAAA' >> ~/.ssh/known_hosts",
        ] {
            assert!(sheet.lines().any(|known| known == line), "{line} is not in\n{}", *sheet);
        }
        let steps =
            ["1. Install", "2. Make an SSH key", "3. Know the backup host", "4. Start this", "5. See", "6. Restore"];
        let places: Vec<usize> = steps.iter().map(|step| sheet.find(&format!("\n{step}")).unwrap()).collect();
        assert!(places.is_sorted(), "{}", *sheet);
        assert_eq!(sheet.matches(RULE).count(), 3);
        assert_eq!(crate::format::armor::unarmor(&sheet).unwrap(), b"key object");
        assert!(sheet.contains("identity.txt key import key.txt\n") && sheet.contains("CODE\n"), "{}", *sheet);
    }

    #[test]
    fn a_sheet_for_a_local_folder_speaks_of_no_host() {
        let sheet = recovery_sheet(&SheetInput {
            key_objects: &[],
            identity_text: &identity(),
            repositories: &[NEW],
            url: "/mnt/usb/vault",
            host_key: None,
            install: "apt-get install --yes ./varu_0.1.0_amd64.deb",
            version: "0.1.0",
            printed: "2026-11-21",
        });
        assert!(!sheet.contains("SSH") && !sheet.contains("Host key"));
        assert!(sheet.contains("--repo '/mnt/usb/vault'"));
    }
}
