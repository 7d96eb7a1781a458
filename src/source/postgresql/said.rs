//! Error messages of the client, without parts that may quote a row.

use crate::entry::Escaped;

/// An error of the server, as people may see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFault {
    /// Its code: `42P01`.
    pub code: String,
    /// The server's message: `relation "docs" does not exist`.
    pub message: String,
    /// Where in which function and table it was.
    pub context: Vec<String>,
}

impl ServerFault {
    /// Whether the server or the connection is at its end, and not a statement.
    pub fn is_fatal(&self) -> bool {
        ["08", "53", "57P", "58030", "XX001", "XX002"].iter().any(|class| self.code.starts_with(class))
    }
}

impl std::fmt::Display for ServerFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        self.context.iter().try_for_each(|line| write!(f, "; in {line}"))
    }
}

/// The beginning of a line of the client's report.
const PARTS: [&str; 9] = [
    "LINE ",
    "DETAIL:  ",
    "HINT:  ",
    "QUERY:  ",
    "CONTEXT:  ",
    "SCHEMA NAME:  ",
    "LOCATION:  ",
    "STATEMENT:  ",
    "NOTICE:  ",
];
/// The most lines of context that are shown.
const CONTEXT: usize = 6;

/// A database that isn't there.
pub const INVALID_CATALOG_NAME: &str = "3D000";
/// A right that isn't given.
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// A database in which somebody is.
pub const OBJECT_IN_USE: &str = "55006";

/// Words of a refused connection, of which the client shows no code, and the code.
const CONNECTION: [(&str, &str); 2] =
    [("permission denied for database", INSUFFICIENT_PRIVILEGE), ("does not exist", INVALID_CATALOG_NAME)];

/// The code of the first error in a client's messages; for a refused connection the code for its words.
pub fn code(said: &str) -> Option<String> {
    let refused = || CONNECTION.iter().find(|(words, _)| said.contains("FATAL:  ") && said.contains(words));
    match faults(said).into_iter().next() {
        Some(fault) => Some(fault.code),
        None => refused().map(|(_, code)| (*code).to_owned()),
    }
}

/// The errors that a client reported, in their order.
pub fn faults(said: &str) -> Vec<ServerFault> {
    let mut found: Vec<ServerFault> = Vec::new();
    let mut in_context = false;
    for line in said.lines() {
        if let Some((code, message)) = coded(line) {
            in_context = false;
            if matches!(code.get(..2), Some("00" | "01" | "02")) {
                continue;
            }
            let message = Escaped(masked(code, message).as_bytes()).to_string();
            found.push(ServerFault { code: code.to_owned(), message, context: Vec::new() });
            continue;
        }
        let context = line.strip_prefix("CONTEXT:  ");
        in_context = context.is_some() || in_context && !PARTS.iter().any(|part| line.starts_with(part));
        if let (true, Some(fault)) = (in_context, found.last_mut())
            && fault.context.len() < CONTEXT
        {
            fault.context.extend(place(context.unwrap_or(line)));
        }
    }
    found
}

/// The code and the message of a line `ERROR:  42P01: …`, whatever the server's language calls an error.
fn coded(line: &str) -> Option<(&str, &str)> {
    let (severity, rest) = line.split_once(":  ")?;
    let (code, message) = rest.split_once(": ")?;
    // Some have the code of an error.
    let code = if severity.ends_with("WARNING") { "01000" } else { code };
    let is_code = code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    is_code.then_some((code, message))
}

/// A message without values: data exceptions (22…) quote them. Constraint violations (23…) name tables and constraints
/// alone; the row is in the detail, which isn't shown.
fn masked(code: &str, message: &str) -> String {
    if !code.starts_with("22") {
        return message.to_owned();
    }
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}…{}", &message[..=first], &message[last..]),
        (Some(first), _) => format!("{}…", &message[..=first]),
        _ => message.to_owned(),
    }
}

/// A line of context, if it names a place: the server's own words up to a row or a statement's text.
fn place(line: &str) -> Option<String> {
    let own = ["COPY ", "SQL function ", "PL/", "SQL statement ", "SQL expression ", "while ", "referential action"];
    own.iter().any(|start| line.starts_with(start)).then(|| {
        let shown = match (line.starts_with("COPY "), line.find(": \"")) {
            (true, Some(at)) => &line[..at],
            _ if line.starts_with("SQL statement ") || line.starts_with("SQL expression ") => {
                line.split(" \"").next().unwrap_or(line)
            }
            _ => line,
        };
        Escaped(shown.as_bytes()).to_string()
    })
}

/// A client's message, in one line.
pub fn redacted(said: &str) -> String {
    let own = |line: &str| {
        let at = line.find("error: ")?;
        Some(Escaped(&line.as_bytes()[at..]).to_string())
    };
    let faults = faults(said);
    let lines: Vec<String> = match faults.is_empty() {
        true => said.lines().filter_map(own).collect(),
        false => faults.iter().map(|fault| format!("ERROR:  {fault}")).collect(),
    };
    match lines.is_empty() {
        true => Escaped(said.lines().next_back().unwrap_or_default().trim().as_bytes()).to_string(),
        false => lines.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_error_is_shown_and_no_value_of_a_row() {
        let said = "psql:<stdin>:5: ERROR:  23505: duplicate key value violates unique constraint \"t_pkey\"\nDETAIL:  Key \
                    (id)=(secret) already exists.\nCONTEXT:  COPY t, line 2: \"secret\"\nLOCATION:  x, y.c:1";
        assert_eq!(
            redacted(said),
            "ERROR:  23505: duplicate key value violates unique constraint \"t_pkey\"; in COPY t, line 2"
        );
        let said = "ERROR:  23514: new row for relation \"ck\" violates check constraint \"c\"\nDETAIL:  Failing row contains \
                    (secret).";
        assert!(redacted(said).ends_with("new row for relation \"ck\" violates check constraint \"c\""));
        let said = "ERROR:  22P02: invalid input syntax for type integer: \"secr\"et\"\nCONTEXT:  COPY t, line 1, column a: \
                    \"secret\"";
        assert_eq!(
            redacted(said),
            "ERROR:  22P02: invalid input syntax for type integer: \"…\"; in COPY t, line 1, column a"
        );
        let said = "ERROR:  42P01: relation \"docs\" does not exist\nLINE 1: select secret from docs\nQUERY:  select \
                    secret\nfrom docs\nCONTEXT:  SQL function \"cnt\" during inlining\nPL/pgSQL function public.f(integer) line \
                    3 at RETURN\nSQL statement \"SELECT 'secret'\nfrom x\"\nLOCATION:  parserOpenTable";
        assert_eq!(
            redacted(said),
            "ERROR:  42P01: relation \"docs\" does not exist; in SQL function \"cnt\" during inlining; in PL/pgSQL function \
             public.f(integer) line 3 at RETURN; in SQL statement"
        );
        let said =
            "psql: error: connection to server on socket \"/x\" failed: No such file or directory\n\tIs the server?";
        assert!(redacted(said).contains("connection to server on socket"));
        assert!(faults("WARNING:  55000: wal_level is insufficient to publish logical changes").is_empty());
        assert_eq!(redacted("WARNING:  01000: x\nFEHLER:  42P01: gibt es nicht"), "ERROR:  42P01: gibt es nicht");
        assert!(redacted("psql: error: connection failed: FATAL:  role \"x\" does not exist").contains("role \"x\""));
    }
}
