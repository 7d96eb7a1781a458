//! Comparison of a loaded database with its dump: the dump's statements against those that the dump program writes now.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::kinds::{StatementKind, kind};
use super::load::what;
use super::scan::{DumpPiece, Scanner};
use super::server::{PostgresqlServer, literal};
use super::text::text_of;
use super::tokens::{Word, tokens};
use crate::entry::Escaped;
use crate::id::Hasher;
use crate::source::Error;

/// How many differences are named one by one.
const NAMED: usize = 20;
/// How many sequences one question asks for.
const AT_ONCE: usize = 200;
/// The prefix of comments that name the program which wrote a dump, and its server.
const HEADER: &str = "-- Dumped ";
/// The prefix of the heading of a dump's part.
const PART: &str = "-- Name: ";

/// The statements of a dump that define something, in no order.
#[derive(Default)]
pub struct DefinitionSet {
    /// By their hashes: the subject of each, and how often it occurs.
    statements: BTreeMap<[u8; 16], (String, usize)>,
    /// The subject of a long statement, and the hash of its bytes so far.
    long: Option<(String, Hasher)>,
    /// Whether the long statement that isn't over defines nothing.
    passes: bool,
    /// The value of each sequence, by its name as the dump writes it.
    sequences: BTreeMap<String, String>,
    /// The columns of each table that rows are copied into, in their order.
    columns: BTreeMap<String, String>,
    /// The objects, as the headings of their parts list them: name, type, schema and owner.
    parts: BTreeMap<String, usize>,
    /// The major versions of the server and of the program that wrote it.
    majors: Vec<String>,
}

impl DefinitionSet {
    /// Those of a complete dump.
    pub fn of(dump: &[u8]) -> Self {
        let (mut found, mut scanner) = (Self::default(), Scanner::default());
        let mut take = |piece: DumpPiece<'_>| {
            found.take(piece);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = scanner.push(dump, &mut take);
        let Ok(()) = scanner.finish(&mut take);
        found.end_of_long();
        found
    }

    /// Takes a piece of a dump.
    pub fn take(&mut self, piece: DumpPiece<'_>) {
        match piece {
            DumpPiece::Part(bytes) => {
                self.passes |= self.long.is_none() && !defines(bytes);
                if !self.passes {
                    let (_, hasher) = self.long.get_or_insert_with(|| (what(bytes), Hasher::new()));
                    hasher.update(bytes);
                }
            }
            DumpPiece::Statement(text) => {
                self.end_of_long();
                self.note(text);
            }
            DumpPiece::Blank(text) => {
                let text = String::from_utf8_lossy(text);
                self.majors.extend(text.lines().filter_map(|line| line.strip_prefix(HEADER).map(major)));
                for part in text.lines().filter_map(|line| line.strip_prefix(PART)).filter(|part| is_compared(part)) {
                    *self.parts.entry(part.to_owned()).or_default() += 1;
                }
            }
            DumpPiece::Meta(_) | DumpPiece::Rows(_) => self.end_of_long(),
        }
    }

    fn end_of_long(&mut self) {
        self.passes = false;
        if let Some((what, hasher)) = self.long.take() {
            self.statements.entry(hasher.finish_short()).or_insert((what, 0)).1 += 1;
        }
    }

    fn note(&mut self, text: &[u8]) {
        if let Some((name, value)) = sequence(text) {
            self.sequences.insert(name, value);
        }
        if let Some((name, columns)) = copied(text) {
            self.columns.insert(name, columns);
        }
        // Large objects belong to the data.
        if !defines(text) || memchr::memmem::find(text, b" LARGE OBJECT ").is_some() {
            return;
        }
        let mut hasher = Hasher::new();
        let text = text_of(text);
        let text = text.as_bytes();
        // The database may have another name.
        let about = match kind(text) {
            StatementKind::OfDatabase(from, to) | StatementKind::CreateDatabase(from, to) => {
                hasher.update(&text[..from]);
                hasher.update(&text[to..]);
                what(&[&text[..from], b"(the database)", &text[to..]].concat())
            }
            _ => {
                hasher.update(text);
                what(text)
            }
        };
        self.statements.entry(hasher.finish_short()).or_insert((about, 0)).1 += 1;
    }

    /// Differences from the present state of `database`, a sentence each; none for which `is_known` holds.
    ///
    /// # Errors
    /// [`Error::Failed`] if the server doesn't answer.
    pub fn differences(
        &mut self,
        server: &PostgresqlServer,
        database: &str,
        is_known: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, Error> {
        self.end_of_long();
        let now = Self::of(&server.definitions(database)?);
        let mut found = Vec::new();
        // A program of another major version writes the same objects in other words; but it lists them.
        let differences = match self.majors == now.majors {
            true => self.against(&now),
            false => against(&self.parts, &now.parts),
        };
        found.extend(differences.into_iter().filter(|(about, _)| !is_known(about)).map(|(_, said)| said));
        found.extend(self.columns_against(server, database)?);
        found.extend(self.sequences_against(server, database)?);
        let more = found.len().saturating_sub(NAMED);
        found.truncate(NAMED);
        if more > 0 {
            found.push(format!("{more} more are not as they were"));
        }
        Ok(found)
    }

    fn against(&self, now: &Self) -> Vec<(String, String)> {
        let beyond = |those: &Self, others: &Self| -> BTreeMap<String, usize> {
            let mut beyond = BTreeMap::new();
            for (hash, (about, count)) in &those.statements {
                let there = others.statements.get(hash).map_or(0, |(_, count)| *count);
                if *count > there {
                    *beyond.entry(about.clone()).or_default() += count - there;
                }
            }
            beyond
        };
        let (gone, mut new) = (beyond(self, now), beyond(now, self));
        let mut found = Vec::new();
        for (about, _) in gone {
            let said = match new.remove(&about) {
                Some(_) => "isn't what it was in the dump",
                None => "was in the dump, and isn't there",
            };
            found.push((about.clone(), format!("{about} {said}")));
        }
        found.extend(new.into_keys().map(|about| (about.clone(), format!("{about} is there, and wasn't in the dump"))));
        found
    }

    /// A table that inherits columns is made with those first, wherever they stood.
    fn columns_against(&self, server: &PostgresqlServer, database: &str) -> Result<Vec<String>, Error> {
        let question = "SELECT format('%I.%I', n.nspname, c.relname), string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM \
                        pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
                        AND NOT a.attisdropped AND a.attgenerated = '' WHERE c.relkind = 'r' GROUP BY 1";
        // Before version 12 no column is generated.
        let question = match server.version < 120_000 {
            true => question.replace("AND a.attgenerated = ''", ""),
            false => question.to_owned(),
        };
        let now: BTreeMap<String, String> = server
            .ask(database, &question)?
            .into_iter()
            .filter_map(|row| <[String; 2]>::try_from(row).ok().map(|[name, columns]| (name, columns)))
            .collect();
        let differs = |(name, was): (&String, &String)| {
            let is = now.get(name).filter(|is| *is != was)?;
            Some(format!("the columns of {} were {was}, and are {is}", Escaped(name.as_bytes())))
        };
        Ok(self.columns.iter().filter_map(differs).collect())
    }

    fn sequences_against(&self, server: &PostgresqlServer, database: &str) -> Result<Vec<String>, Error> {
        let sequences: Vec<(&String, &String)> = self.sequences.iter().collect();
        let mut found = Vec::new();
        for some in sequences.chunks(AT_ONCE) {
            let question = |(name, _): &(&String, &String)| {
                format!(
                    "SELECT {}, last_value || CASE WHEN is_called THEN ', true' ELSE ', false' END FROM {name}",
                    literal(name)
                )
            };
            let questions: Vec<String> = some.iter().map(question).collect();
            let rows = server.ask(database, &questions.join(" UNION ALL "))?;
            let now: BTreeMap<&str, &str> =
                rows.iter().filter_map(|row| Some((row.first()?.as_str(), row.get(1)?.as_str()))).collect();
            for (name, was) in some {
                let is = now.get(name.as_str()).copied().unwrap_or("nothing");
                if is != was.as_str() {
                    found.push(format!("the sequence {} was at {was}, and is at {is}", Escaped(name.as_bytes())));
                }
            }
        }
        Ok(found)
    }
}

/// The major version that a line names: `from database version 15.18 (Debian …)`.
fn major(line: &str) -> String {
    let (who, version) = line.split_once(" version ").unwrap_or((line, ""));
    format!("{who} {}", version.split(['.', ' ']).next().unwrap_or_default())
}

/// Whether a part of a dump, `t; Type: TABLE; Schema: public; Owner: o`, is in a dump of each version. The database has
/// another name at this time, data is counted, and the parts of the schema `public` have changed over time.
fn is_compared(part: &str) -> bool {
    const TYPES: [&str; 24] = [
        "AGGREGATE",
        "CAST",
        "COLLATION",
        "CONSTRAINT",
        "DEFAULT",
        "DOMAIN",
        "EVENT TRIGGER",
        "EXTENSION",
        "FK CONSTRAINT",
        "FOREIGN TABLE",
        "FUNCTION",
        "INDEX",
        "MATERIALIZED VIEW",
        "OPERATOR",
        "POLICY",
        "PROCEDURE",
        "PUBLICATION",
        "RULE",
        "SEQUENCE",
        "SERVER",
        "TABLE",
        "TRIGGER",
        "TYPE",
        "VIEW",
    ];
    let kind = part.split("; Type: ").nth(1).and_then(|rest| rest.split("; Schema: ").next());
    kind.is_some_and(|kind| TYPES.contains(&kind))
}

/// The statements of one that the other lacks, each with a sentence.
fn against(were: &BTreeMap<String, usize>, are: &BTreeMap<String, usize>) -> Vec<(String, String)> {
    let lacks =
        |these: &BTreeMap<String, usize>, others: &BTreeMap<String, usize>, said: &str| -> Vec<(String, String)> {
            let beyond = these.iter().filter(|(part, count)| others.get(*part).is_none_or(|other| other < count));
            beyond.map(|(part, _)| (part.clone(), format!("{} {said}", Escaped(part.as_bytes())))).collect()
        };
    let mut found = lacks(were, are, "was in the dump, and isn't there");
    found.extend(lacks(are, were, "is there, and wasn't in the dump"));
    found
}

/// Whether a statement with this beginning defines an object.
fn defines(text: &[u8]) -> bool {
    const STARTS: [&[u8]; 6] = [b"CREATE ", b"ALTER ", b"COMMENT ", b"GRANT ", b"REVOKE ", b"SECURITY "];
    STARTS.iter().any(|start| text.starts_with(start))
}

/// A table and its columns: `COPY public.t (a, b) FROM stdin;`.
fn copied(text: &[u8]) -> Option<(String, String)> {
    let text = text_of(text);
    let rest = text.strip_prefix("COPY ")?;
    let end = super::scan::name_end(rest)?;
    let columns = rest[end..].trim_start().strip_prefix('(')?.strip_suffix(") FROM stdin;")?;
    Some((rest[..end].to_owned(), columns.to_owned()))
}

/// A sequence and its value: `SELECT pg_catalog.setval('public.s', 5, true);`. None if it is any other statement.
fn sequence(text: &[u8]) -> Option<(String, String)> {
    let text = text_of(text);
    let rest = text.strip_prefix("SELECT pg_catalog.setval(")?;
    let cut = tokens(rest)?;
    let (_, first) = cut.first()?;
    let (end, _) = cut.get(1).filter(|(_, token)| *token == Word::Mark(b','))?;
    let name = match first {
        Word::Text(name) => name.strip_prefix('\'')?.strip_suffix('\'')?.replace("''", "'"),
        _ => return None,
    };
    // A dump quotes everything that has to be quoted, so it is a name and nothing else.
    (super::scan::name_end(&name) == Some(name.len())).then_some(())?;
    let value = rest[end + 1..].strip_suffix(");")?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ',' | ' ');
    value.chars().all(plain).then(|| (name, value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "-- Dumped from database version 15.18\nSET x = 1;\nCREATE DATABASE a WITH TEMPLATE = template0;\nALTER DATABASE a OWNER TO o;\n\
        CREATE FUNCTION public.f() RETURNS integer\n    LANGUAGE sql\n    AS $$select 1;$$;\nALTER FUNCTION public.f() OWNER TO o;\n\
        CREATE TABLE public.\"T\" (\n    a integer\n);\nSELECT pg_catalog.setval('public.\"S\"', 5, true);\n";

    #[test]
    fn the_order_and_the_name_of_the_database_are_no_difference() {
        let lines: Vec<&str> = DUMP.split(";\n").filter(|line| !line.is_empty()).collect();
        let turned: String = lines.iter().rev().map(|line| format!("{line};\n")).collect();
        let turned = turned.replace("DATABASE a ", "DATABASE \"a-b\" ");
        assert_eq!(DefinitionSet::of(DUMP.as_bytes()).against(&DefinitionSet::of(turned.as_bytes())), []);
    }

    #[test]
    fn what_differs_is_named() {
        let told = |now: &str| -> Vec<String> {
            let found = DefinitionSet::of(DUMP.as_bytes()).against(&DefinitionSet::of(now.as_bytes()));
            found.into_iter().map(|(_, said)| said).collect()
        };
        assert_eq!(
            told(&DUMP.replace("a integer", "a bigint")),
            [
                "CREATE TABLE public.\"T\" ( a integer ) was in the dump, and isn't there",
                "CREATE TABLE public.\"T\" ( a bigint ) is there, and wasn't in the dump"
            ]
        );
        let function = told(&DUMP.replace("select 1", "select 2"));
        assert_eq!(
            function,
            ["CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS isn't what it was in the dump"]
        );
        let gone = told(&DUMP.replace("ALTER DATABASE a OWNER TO o;\n", ""));
        assert_eq!(gone, ["ALTER DATABASE (the database) OWNER TO o was in the dump, and isn't there"]);
    }

    #[test]
    fn the_columns_that_are_copied_are_read() {
        let copy = b"COPY public.\"a (b\" (\"x, y\", z) FROM stdin;";
        assert_eq!(copied(copy), Some(("public.\"a (b\"".to_owned(), "\"x, y\", z".to_owned())));
    }

    #[test]
    fn a_sequences_value_is_read() {
        let found = DefinitionSet::of(DUMP.as_bytes()).sequences;
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("public.\"S\"".to_owned(), "5, true".to_owned())]);
        assert_eq!(sequence(b"SELECT pg_catalog.setval('public.s; DROP TABLE x', 5, true);"), None);
    }
}
