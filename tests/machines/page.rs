//! Execution of a documentation page step by step, and comparison with the output that it shows.

use super::fleet::Machine;

/// A command of a page, and its expected output.
pub struct Step {
    /// The machine or person that runs it: the text before the prompt.
    pub who: String,
    pub line: String,
    /// The file that the page shows before it, for an editor.
    pub shown: String,
    /// Expected lines, in which `…` matches anything; alone on a line any lines.
    expected: Vec<String>,
}

/// A section of a page: the text below a heading, up to the next.
pub fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{heading} is a heading"));
    let part = &page[start + 1..];
    part[1..].find("\n## ").map_or(part, |end| &part[..=end])
}

/// The blocks of a kind of a page, one after the other.
pub fn blocks(page: &str, kind: &str) -> String {
    let (mut block, mut text) = (None, String::new());
    for line in page.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(_), Some(_)) => block = None,
            (Some(kind), None) => block = Some(kind),
            (None, _) if block == Some(kind) => text += &format!("{line}\n"),
            (None, _) => (),
        }
    }
    text
}

/// The steps in the `console` blocks of a page.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut block, mut shown) = ("", String::new());
    for line in page.lines() {
        if let Some(kind) = line.trim().strip_prefix("```") {
            block = kind;
            if kind == "toml" {
                shown.clear();
            }
            continue;
        }
        let line = line.trim_start();
        if block == "toml" {
            shown += &format!("{line}\n");
        }
        if block != "console" {
            continue;
        }
        let prompt = line.split_once("# ").filter(|(who, _)| who.chars().all(|c| c.is_ascii_alphanumeric()));
        if let Some((who, line)) = prompt.or_else(|| line.strip_prefix("you$ ").map(|line| ("you", line))) {
            steps.push(Step { who: who.to_owned(), line: line.to_owned(), shown: shown.clone(), expected: Vec::new() });
        } else if let Some(step) = steps.last_mut() {
            step.expected.push(line.to_owned());
        }
    }
    steps
}

impl Step {
    /// The step with one word in place of another.
    pub fn with(mut self, word: &str, by: &str) -> Self {
        self.line = self.line.replace(word, by);
        self
    }

    /// Runs it on a machine, after the lines of `before` (variables). Returns the difference from the expected output.
    pub fn run(&self, machine: &Machine, before: &str) -> Option<String> {
        if let Some(host) = self.line.strip_prefix("ssh-keyscan -t ed25519 ").and_then(|rest| rest.split(' ').next()) {
            // The host was told to read its settings a moment ago, and listens again when it has.
            let asked = format!("ssh-keyscan -t ed25519 {host} 2>/dev/null | grep -q ed25519");
            machine.does(&format!("for i in $(seq 100); do {asked} && exit 0; sleep 0.2; done; exit 1"));
        }
        self.differs(&machine.does(&format!("{before}{}", self.line)))
    }

    /// The difference from the expected output.
    pub fn differs(&self, text: &str) -> Option<String> {
        let printed: Vec<&str> = text.lines().map(str::trim).collect();
        let expected: Vec<&str> = self.expected.iter().map(|line| line.trim()).collect();
        let right = expected.is_empty() || lines_match(&expected, &printed);
        (!right).then(|| format!("{} should print\n{}\nand printed\n{text}", self.line, expected.join("\n")))
    }
}

fn lines_match(expected: &[&str], printed: &[&str]) -> bool {
    match (expected, printed) {
        ([], []) => true,
        (["…", rest @ ..], _) => (0..=printed.len()).any(|skip| lines_match(rest, &printed[skip..])),
        ([first, rest @ ..], [line, others @ ..]) => line_matches(first, line) && lines_match(rest, others),
        _ => false,
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (words(expected), words(line));
    let mut parts = expected.split('…').map(str::trim);
    let mut rest = match line.strip_prefix(parts.next().unwrap_or_default()) {
        Some(rest) => rest,
        None => return false,
    };
    let parts: Vec<&str> = parts.collect();
    for part in &parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || parts.last() == Some(&"")
}

#[test]
fn a_page_says_what_is_printed() {
    let steps = steps(
        "text\n  ```console\n  vm1# a\n  one …\n  …\n  ```\n```toml\n[a]\n```\n```console\n  you$ b\n  ```\nvm1# c\n",
    );
    assert_eq!((steps[0].shown.as_str(), steps[1].shown.as_str()), ("", "[a]\n"));
    assert_eq!(steps.iter().map(|step| step.who.as_str()).collect::<Vec<_>>(), ["vm1", "you"]);
    assert_eq!(blocks("a\n```yaml\n  b\n```\nc\n```\nd\n```\n```yaml\ne\n```\n", "yaml"), "  b\ne\n");
    let expected: Vec<&str> = steps[0].expected.iter().map(String::as_str).collect();
    assert!(lines_match(&expected, &["one two", "three"]) && lines_match(&expected, &["one  x"]));
    assert!(
        !lines_match(&expected, &["two"]) && !lines_match(&["a … c"], &["a b"]) && lines_match(&["a … c"], &["a b c"])
    );
}
