//! Summary of metadata that could not be set and of entries that could not be made.

use std::collections::BTreeMap;
use std::io;

/// Failures that did not end the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ExtractProblem {
    Owner,
    SetId,
    Mode,
    Attribute,
    Time,
    Flags,
    Folder,
    Device,
    KeptFolder,
    LinkToForeign,
}

impl ExtractProblem {
    /// The subject, and the advice.
    fn words(self) -> (&'static str, &'static str) {
        let as_root = "; restoring as root sets it";
        match self {
            ExtractProblem::Owner => ("the owner or group could not be set", as_root),
            ExtractProblem::SetId => {
                ("setuid and setgid bits were left out, because the owner could not be set", as_root)
            }
            ExtractProblem::Mode => ("the mode could not be set", ""),
            ExtractProblem::Attribute => ("an extended attribute or ACL could not be set", ""),
            ExtractProblem::Time => ("the time could not be set", ""),
            ExtractProblem::Flags => {
                ("inode flags could not be set", "; restoring as root onto a file system that has them sets them")
            }
            ExtractProblem::Folder => ("the metadata of a folder could not be set", ""),
            ExtractProblem::Device => ("devices could not be made", "; restoring as root makes them"),
            ExtractProblem::KeptFolder => ("folders that were there already keep their owner, mode and times", ""),
            ExtractProblem::LinkToForeign => {
                ("hard links were not made, because the first name of their file was not restored", "")
            }
        }
    }
}

/// Counts problems, and remembers the first few of each.
#[derive(Default)]
pub(super) struct ExtractReport {
    problems: BTreeMap<ExtractProblem, Sum>,
}

#[derive(Default)]
struct Sum {
    count: u64,
    examples: Vec<String>,
    /// The path that was counted last: one that fails twice is one.
    last: String,
    error: Option<String>,
}

impl ExtractReport {
    /// How many are named.
    const EXAMPLES: usize = 3;

    pub(super) fn add(&mut self, problem: ExtractProblem, error: Option<&io::Error>, path: impl FnOnce() -> String) {
        let sum = self.problems.entry(problem).or_default();
        let path = path();
        if sum.last != path {
            sum.count += 1;
            if sum.examples.len() < Self::EXAMPLES {
                sum.examples.push(path.clone());
            }
            sum.last = path;
        }
        if sum.error.is_none() {
            sum.error = error.map(io::Error::to_string);
        }
    }

    /// A sentence for each problem.
    pub(super) fn lines(&self) -> Vec<String> {
        self.problems.iter().map(|(problem, sum)| sum.line(*problem)).collect()
    }
}

impl Sum {
    fn line(&self, problem: ExtractProblem) -> String {
        let (what, next) = problem.words();
        let error = self.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        let more = match self.count - self.examples.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{what}{error}: {}{more}{next}", self.examples.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_problems_are_one_line() {
        let mut report = ExtractReport::default();
        for n in 0..5000 {
            report.add(ExtractProblem::Owner, Some(&io::Error::other("no")), || format!("/r/{n}"));
        }
        report.add(ExtractProblem::KeptFolder, None, || "/r".into());
        report.add(ExtractProblem::KeptFolder, None, || "/r".into());
        let lines = report.lines();
        assert_eq!(
            lines[0],
            "the owner or group could not be set (no): /r/0, /r/1, /r/2 and 4997 more; restoring as root sets it"
        );
        assert_eq!(lines[1], "folders that were there already keep their owner, mode and times: /r");
    }
}
