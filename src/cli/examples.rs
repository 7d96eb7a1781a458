//! Examples of each command, for its man page.

/// A command line, and what it does.
type Example = (&'static str, &'static str);

/// The examples of each command, by its words.
pub const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("varu --repo backup@host:vm1 backup --init /etc /srv/www", "Make a repository and back folders up."),
            ("varu list", "What can be restored."),
            ("varu restore files@yesterday --to /tmp/old --only etc/fstab", "Bring one file of yesterday back."),
        ],
    ),
    (
        "init",
        &[("varu --repo sftp://vm1@backup.example/repo init", "Make the repository, the writer key and the identity.")],
    ),
    ("dump", &[("varu dump shop", "Refresh the local copy of the set shop.")]),
    (
        "backup",
        &[
            ("varu backup shop", "Back up a set of the configuration."),
            ("varu backup --set photos ./photos --exclude '*.tmp'", "Back a folder up as a set of its own."),
            ("varu backup --set ldap --stdin ldap.ldif", "Store standard input."),
            ("varu backup shop --accept-shrink", "It is right that the set shrank."),
        ],
    ),
    (
        "list",
        &[
            ("varu list shop --last 7", "The newest seven snapshots of a set."),
            ("varu list --since '2 days ago' -l", "What is new, with what it cost."),
        ],
    ),
    ("ls", &[("varu ls -l files@2026-11-27 etc/ssh", "What a folder held on that day.")]),
    (
        "restore",
        &[
            ("varu restore files --to /tmp/restored", "A set's newest snapshot, below a folder."),
            ("varu restore shop@yesterday --into mysql:shop_copy", "A database under another name."),
            (
                "varu restore shop --into mysql --only shop/orders --replace shop --reason 'lost rows'",
                "One table, in place.",
            ),
            ("varu restore shop --as-dump shop.sql", "One file that mariadb loads."),
            ("varu restore --all --overwrite changed", "Everything to where it was."),
        ],
    ),
    ("refresh", &[("varu refresh staging", "Bring another environment's data in, as the configuration says.")]),
    ("diff", &[("varu diff shop@yesterday shop@latest", "What changed in a set since yesterday.")]),
    ("verify", &[("varu verify --level data --sample 5%", "Decode a share of what is stored.")]),
    ("prune", &[("varu prune --dry-run", "What would go.")]),
    ("undelete", &[("varu undelete 0af3c2", "Take the mark off a chain that prune would take.")]),
    ("copy", &[("varu copy --to /mnt/disk/repo", "Bring a second repository up to date.")]),
    ("index", &[("varu index rebuild", "Rebuild the index from the repository.")]),
    ("key", &[("varu key show", "Which keys this machine has.")]),
    ("config", &[("varu config check", "Try all that the configuration names.")]),
    ("host", &[("varu host status", "What each machine's repository on this backup host is like.")]),
    (
        "schedule",
        &[
            ("varu schedule show", "What runs when, and what isn't installed."),
            ("varu schedule install", "Make systemd's timers as the configuration says."),
        ],
    ),
    ("completions", &[("varu completions bash", "A script for the shell, on standard output.")]),
    ("man", &[("varu man key export", "The page of a command.")]),
];

/// The section of a man page with the examples of a command, in roff; empty where it has none.
pub fn section(command: &str) -> String {
    let Some((_, examples)) = EXAMPLES.iter().find(|(name, _)| *name == command) else { return String::new() };
    let plain = |text: &str| text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let example = |(line, about): &Example| format!(".TP\n\\fB{}\\fR\n{}\n", plain(line), plain(about));
    format!(".SH EXAMPLES\n{}", examples.iter().map(example).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn every_command_has_examples_that_are_command_lines() {
        for command in Cli::command().get_subcommands().map(|command| command.get_name().to_owned()) {
            assert!(EXAMPLES.iter().any(|(name, _)| *name == command), "{command}");
        }
        for (name, examples) in EXAMPLES {
            for (line, about) in *examples {
                let words = shlex::split(line).unwrap();
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
                assert!(name.is_empty() || words.iter().any(|word| word == name), "{line} is of {name}");
                assert!(about.ends_with('.'), "{about}");
            }
        }
    }
}
