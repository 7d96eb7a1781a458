//! Warnings: events that did not end the work. Each has a kind with a stable name, which `acknowledge` in a set's
//! configuration takes.

use std::fmt;

/// Kinds, each with its name and what it means.
macro_rules! kinds {
    ($($(#[doc = $about:literal])+ $kind:ident = $name:literal,)+) => {
        /// What kind a warning is of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum WarningKind {
            $($(#[doc = $about])+ $kind,)+
        }

        impl WarningKind {
            /// All of them.
            pub const ALL: &[WarningKind] = &[$(WarningKind::$kind,)+];

            /// Its name, `changed-while-read`.
            pub fn name(self) -> &'static str {
                match self {
                    $(WarningKind::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A file, a folder, a database or what is in one could not be read or dumped, and isn't in the snapshot.
    LeftOut = "left-out",
    /// A file changed while it was read.
    ChangedWhileRead = "changed-while-read",
    /// A file or folder was there when its folder was listed, and was gone when it was to be read.
    Vanished = "vanished",
    /// A path of the set isn't there.
    MissingPath = "missing-path",
    /// A path of the set is a symbolic link that leads nowhere, and only the link is stored.
    SymbolicLink = "symbolic-link",
    /// A path of the set is a device, a named pipe or a socket, which is stored without content.
    SpecialFile = "special-file",
    /// Extended attributes or ACLs are not stored.
    Attributes = "attributes",
    /// A table's engine has no transactions, so its rows need not fit the others.
    NoTransactions = "no-transactions",
    /// Some values are not in a dump exactly as they are.
    Inexact = "inexact",
    /// The rows that tables had before are not in a dump.
    History = "history",
    /// Dumps of another job were made with different session settings, so they can be restored to files only.
    SessionSettings = "session-settings",
    /// Standard input was empty.
    EmptyInput = "empty-input",
    /// The stream is compressed or encrypted already.
    Precompressed = "precompressed",
    /// The set shrank so much that the snapshot is suspect.
    Suspect = "suspect",
    /// The base cache or copies of files couldn't be used or kept, so backups are larger.
    BaseCache = "base-cache",
    /// The snapshot before can't be built upon, so all is stored again.
    StoredAgain = "stored-again",
    /// A stored object can't be used.
    UnusableObject = "unusable-object",
    /// A stored object is damaged or can't be read, so what needs it isn't there to be restored.
    DamagedObject = "damaged-object",
    /// A key object was missing or damaged.
    KeyObject = "key-object",
    /// Newer keys or snapshots belong to a repository id that the keys here don't name.
    NewerRepository = "newer-repository",
    /// A snapshot that was seen before is missing.
    MissingSnapshot = "missing-snapshot",
    /// A newer snapshot than the one that was chosen is suspect.
    NewerSuspect = "newer-suspect",
    /// The old index was damaged.
    DamagedIndex = "damaged-index",
    /// A time of a snapshot or a dump is in the future, or the host's clock and this machine's are apart.
    WrongClock = "wrong-clock",
    /// A mark of a prune can't be read.
    UnreadableMark = "unreadable-mark",
    /// A command round a backup or a restore failed.
    Command = "command",
    /// A local copy couldn't be used or kept, so the data was read anew.
    LocalCopy = "local-copy",
    /// Old local copies couldn't be removed.
    OldCopies = "old-copies",
    /// What is stored of a stream is damaged, and it wasn't restored.
    Damaged = "damaged",
    /// A stream or a set wasn't restored.
    NotRestored = "not-restored",
    /// Something is in the backup, and the server's own programs are known to lose it in a restore.
    Unrestorable = "unrestorable",
    /// Files or folders were there already, or have not all that they had: owner, mode, an attribute.
    NotAsItWas = "not-as-it-was",
    /// Accounts or passwords of a service are not as they were.
    Accounts = "accounts",
    /// Not all of what a service had before could be kept.
    NotKept = "not-kept",
    /// Snapshots wait for the next copy.
    NotCopied = "not-copied",
    /// Something in a repository's folder on the backup host is no object.
    NoObject = "no-object",
    /// An object is of a later version of the format than this varu knows.
    NewerFormat = "newer-format",
    /// The ledger's last entry was cut, and was taken away.
    CutLedger = "cut-ledger",
    /// Something about an account's preparation on the backup host.
    Preparation = "preparation",
}

impl WarningKind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether it is about damage of what is stored: who reads the repository ends with the status for that.
    pub fn is_damage(self) -> bool {
        matches!(self, WarningKind::DamagedObject | WarningKind::Damaged)
    }

    /// A warning of this kind.
    pub fn warning(self, text: impl Into<String>) -> Warning {
        Warning { kind: self, text: text.into() }
    }
}

/// Something that went wrong without ending the work. Its text is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Of what kind it is.
    pub kind: WarningKind,
    /// What went wrong, and with what.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        for kind in WarningKind::ALL {
            assert_eq!(WarningKind::named(kind.name()), Some(*kind));
            assert!(kind.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        }
        assert_eq!(WarningKind::named("nonsense"), None);
        assert_eq!(WarningKind::Suspect.warning("it shrank").to_string(), "it shrank [suspect]");
    }
}
