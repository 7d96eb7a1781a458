//! Exit statuses, and failures with their texts.

use std::fmt;
use std::io;
use std::process::ExitCode;

use varu::class::{Class, Classified};
use varu::disk::takes_nothing;

/// The exit status. Each number has one meaning, in every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// All was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// It was done, with warnings.
    Warnings = 3,
    /// An objective is broken: the age of the newest backup, a verification, a drill.
    Objective = 4,
    /// A guard refused it: a policy, a confirmation, a foreign writer or repository.
    Refused = 5,
    /// The remote can't be reached.
    Unreachable = 6,
    /// The repository is damaged.
    Damaged = 7,
    /// There is no room, or the disk can only be read.
    NoSpace = 8,
    /// Somebody interrupted it.
    Interrupted = 130,
}

impl ExitStatus {
    /// Its name in JSON documents.
    pub const fn name(self) -> &'static str {
        match self {
            ExitStatus::Done => "done",
            ExitStatus::Failed => "failed",
            ExitStatus::Usage => "usage",
            ExitStatus::Warnings => "warnings",
            ExitStatus::Objective => "objective",
            ExitStatus::Refused => "refused",
            ExitStatus::Unreachable => "unreachable",
            ExitStatus::Damaged => "damaged",
            ExitStatus::NoSpace => "no-room",
            ExitStatus::Interrupted => "interrupted",
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        ExitCode::from(status as u8)
    }
}

/// Why a command ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// With which status the program ends.
    pub status: ExitStatus,
    /// What was tried, on what, why it failed, what to do next. Empty where nobody is left to read it.
    pub message: String,
}

impl Failure {
    /// A failure with its words.
    pub fn new(status: ExitStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, message)
    }

    /// A failure to print a result. Who closed the pipe has seen enough: that ends the program quietly.
    pub fn printing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(ExitStatus::Done, ""),
            _ if takes_nothing(error) => {
                Self::new(ExitStatus::NoSpace, format!("writing to standard output failed: {error}; make room there"))
            }
            _ => Self::new(ExitStatus::Failed, format!("writing to standard output failed: {error}")),
        }
    }

    /// The document that `--json` prints instead of a result.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "status": self.status as u8, "kind": self.status.name(), "message": self.message }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Class> for ExitStatus {
    fn from(class: Class) -> Self {
        match class {
            Class::Failed => ExitStatus::Failed,
            Class::Usage => ExitStatus::Usage,
            Class::Refused => ExitStatus::Refused,
            Class::Unreachable => ExitStatus::Unreachable,
            Class::Damaged => ExitStatus::Damaged,
            Class::NoSpace => ExitStatus::NoSpace,
            Class::Interrupted => ExitStatus::Interrupted,
        }
    }
}

impl<E: Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.class().into(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use varu::remote;

    use super::*;

    #[test]
    fn a_remote_that_has_no_room_or_is_away_has_its_status() {
        let status = |kind| Failure::from(remote::Error::new(kind, "writing", "/srv/vault", "why")).status;
        assert_eq!(status(remote::ErrorKind::Unreachable), ExitStatus::Unreachable);
        assert_eq!(status(remote::ErrorKind::NoEntry), ExitStatus::Unreachable);
        assert_eq!(status(remote::ErrorKind::NoSpace), ExitStatus::NoSpace);
        assert_eq!(status(remote::ErrorKind::ReadOnly), ExitStatus::NoSpace);
        assert_eq!(status(remote::ErrorKind::Refused), ExitStatus::Refused);
        assert_eq!(status(remote::ErrorKind::Short), ExitStatus::Damaged);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = Failure::printing(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.status, closed.message.as_str()), (ExitStatus::Done, ""));
        assert_eq!(Failure::printing(&io::ErrorKind::StorageFull.into()).status, ExitStatus::NoSpace);
    }

    #[test]
    fn a_failure_is_a_document() {
        let document = Failure::usage("no such set").json();
        assert_eq!(document.to_string(), r#"{"error":{"kind":"usage","message":"no such set","status":2}}"#);
    }
}
