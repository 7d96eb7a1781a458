//! Statements of a dump that need a superuser and are known well enough to be run by one.
//!
//! All others are run by a role that owns the loaded objects and nothing else ([`super::role`]). None of the statements
//! recognised here runs code from the dump: they set owners and privileges, or create an object that is not code.

use super::text::text_of;
use super::tokens::{Word, tokens};

/// How a statement of a dump is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementKind {
    /// By the role that owns the loaded objects.
    Plain,
    /// A setting of the session, or a schema: by that role, and nothing that is code has been made by it.
    Harmless,
    /// By an administrator, at once: it makes an extension, or something that others are made of.
    First,
    /// By an administrator, at once, if this function is an extension's or the server's own.
    FirstWith(Vec<String>),
    /// By an administrator, when all is loaded.
    Last,
    /// As [`StatementKind::Last`]: changes the owner of the object in the first range to the role in the second.
    Owner {
        /// The words before `OWNER TO`.
        what: String,
        /// The role.
        role: String,
    },
    /// Refreshes the materialized view of that name: by the role that owns the loaded objects.
    Refresh(String),
    /// By an administrator, after everything else: from then on the actions of others run the dump's code.
    EventTrigger,
    /// Creates the database; the name is in these bytes.
    CreateDatabase(usize, usize),
    /// By an administrator in another database, after the load; the name is in these bytes.
    OfDatabase(usize, usize),
    /// By nobody.
    Refused(&'static str),
}

/// A statement's words, and how many of them were looked at.
struct StatementWords<'t> {
    words: &'t [(usize, Word<'t>)],
    at: usize,
}

impl<'t> StatementWords<'t> {
    fn peek(&self) -> Option<Word<'t>> {
        self.words.get(self.at).map(|(_, token)| *token)
    }

    fn next(&mut self) -> Option<Word<'t>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    /// Takes those key words, one after the other; nothing if they don't follow.
    fn take(&mut self, words: &str) -> bool {
        let wanted = words.split(' ');
        let there = wanted.clone().enumerate().all(|(n, word)| {
            let token = self.words.get(self.at + n);
            token.is_some_and(|(_, token)| token.is(word))
        });
        if there {
            self.at += wanted.count();
        }
        there
    }

    fn mark(&mut self, mark: u8) -> bool {
        let there = self.peek() == Some(Word::Mark(mark));
        self.at += usize::from(there);
        there
    }

    /// A name, with a schema or without.
    fn name(&mut self) -> bool {
        loop {
            if self.next().and_then(Word::name).is_none() {
                return false;
            }
            if !self.mark(b'.') {
                return true;
            }
        }
    }

    /// The tokens between two parentheses, if one follows.
    fn parentheses(&mut self) -> bool {
        if !self.mark(b'(') {
            return false;
        }
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some(Word::Mark(b'(')) => depth += 1,
                Some(Word::Mark(b')')) => depth -= 1,
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    fn ended(&self) -> bool {
        self.at == self.words.len()
    }

    fn rest_is(&self, fits: impl Fn(Word<'t>) -> bool) -> bool {
        self.words[self.at..].iter().all(|(_, token)| fits(*token))
    }
}

/// The kind of a statement. Positions are those in its [`text_of`].
pub fn kind(statement: &[u8]) -> StatementKind {
    let text = text_of(statement);
    let text = &*text;
    if text.starts_with("SET ") && !text.starts_with("SET SESSION AUTHORIZATION ")
        || text.starts_with("SELECT pg_catalog.set_config('search_path', '', false);")
    {
        return StatementKind::Harmless;
    }
    // Only statements that begin so need to be split into words.
    const STARTS: [&str; 11] = [
        "CREATE ",
        "ALTER ",
        "COMMENT ",
        "GRANT ",
        "REVOKE ",
        "SECURITY ",
        "SET ",
        "RESET ",
        "REFRESH ",
        "UPDATE ",
        "DROP ",
    ];
    if !STARTS.iter().any(|start| text.starts_with(start)) {
        return StatementKind::Plain;
    }
    let Some(words) = tokens(text) else { return StatementKind::Plain };
    recognised(text, &words).unwrap_or(StatementKind::Plain)
}

fn recognised(text: &str, words: &[(usize, Word<'_>)]) -> Option<StatementKind> {
    let mut of = StatementWords { words, at: 0 };
    let (_, first) = words.first()?;
    of.at = 1;
    match () {
        () if first.is("CREATE") => created(of),
        () if first.is("ALTER") => altered(text, of),
        () if first.is("COMMENT") => of.take("ON").then(|| commented(of)).flatten(),
        () if first.is("GRANT") || first.is("REVOKE") => granted(of),
        () if first.is("SECURITY") => {
            let _ = of.take("LABEL FOR") && of.name();
            let on = of.take("ON");
            match on {
                true if of.take("DATABASE") => database(&of),
                true if of.take("ROLE") || of.take("TABLESPACE") => {
                    Some(StatementKind::Refused("a label of the whole server"))
                }
                true => Some(StatementKind::Last),
                false => None,
            }
        }
        () if first.is("SET") => {
            (of.take("SESSION AUTHORIZATION") && of.name() && of.ended()).then_some(StatementKind::Last)
        }
        () if first.is("RESET") => (of.take("SESSION AUTHORIZATION") && of.ended()).then_some(StatementKind::Last),
        () if first.is("REFRESH") => {
            let (from, _) = words.get(of.at + 2)?;
            let whole = of.take("MATERIALIZED VIEW") && of.name() && of.ended();
            whole.then(|| StatementKind::Refresh(text[*from..text.len() - 1].to_owned()))
        }
        () if first.is("UPDATE") => template(text, of),
        () => None,
    }
}

/// `UPDATE pg_catalog.pg_database SET datistemplate = true WHERE datname = 'x'`, as older programs write it.
fn template(text: &str, mut of: StatementWords<'_>) -> Option<StatementKind> {
    let fits = of.take("pg_catalog") && of.mark(b'.') && of.take("pg_database SET datistemplate") && of.mark(b'=');
    let fits = fits && of.take("true WHERE datname") && of.mark(b'=');
    let (at, name) = *of.words.get(of.at)?;
    of.at += 1;
    match name {
        Word::Text(name) if fits && of.ended() && text[at..].starts_with('\'') => {
            Some(StatementKind::OfDatabase(at, at + name.len()))
        }
        _ => None,
    }
}

/// The statement is about the database whose name comes next.
fn database(of: &StatementWords<'_>) -> Option<StatementKind> {
    let (at, name) = of.words.get(of.at)?;
    name.name()?;
    Some(StatementKind::OfDatabase(*at, at + name.text()?.len()))
}

fn created(mut of: StatementWords<'_>) -> Option<StatementKind> {
    let plain_name = |of: &mut StatementWords<'_>| of.next().and_then(Word::name).is_some();
    if of.take("DATABASE") {
        let Some(StatementKind::OfDatabase(from, to)) = database(&of) else { return None };
        of.at += 1;
        // Another template would bring its own objects.
        let fits = of.take("WITH TEMPLATE") && of.mark(b'=') && of.take("template0");
        let fits = fits && of.rest_is(|token| !matches!(token, Word::Mark(mark) if mark != b'='));
        return Some(if fits {
            StatementKind::CreateDatabase(from, to)
        } else {
            StatementKind::Refused("a database made in another way")
        });
    }
    if of.take("EXTENSION") {
        let _ = of.take("IF NOT EXISTS");
        let fits = plain_name(&mut of) && (!of.take("WITH SCHEMA") || plain_name(&mut of));
        return (fits && of.ended()).then_some(StatementKind::First);
    }
    if of.take("SCHEMA") {
        return (plain_name(&mut of) && of.ended()).then_some(StatementKind::Harmless);
    }
    if of.take("COLLATION") {
        return Some(StatementKind::Harmless);
    }
    if of.take("FOREIGN DATA WRAPPER") {
        let mut functions = Vec::new();
        let mut fits = plain_name(&mut of);
        for word in ["HANDLER", "VALIDATOR"] {
            let _ = of.take("NO") && of.take(word);
            if of.take(word) {
                let start = of.at;
                fits &= of.name();
                let name = of.words[start..of.at].iter().map(|(_, token)| token.text().unwrap_or("."));
                functions.push(name.collect());
            }
        }
        let fits = fits && (!of.take("OPTIONS") || of.parentheses()) && of.ended();
        return fits.then_some(StatementKind::FirstWith(functions));
    }
    if of.take("PUBLICATION") {
        return plain_name(&mut of).then_some(StatementKind::Last);
    }
    if of.take("SUBSCRIPTION") {
        // It connects to nowhere, and nothing is fetched until somebody wants that.
        let fits = plain_name(&mut of) && of.take("CONNECTION") && matches!(of.next()?, Word::Text(_));
        let fits = fits && of.take("PUBLICATION") && {
            let mut names = of.name();
            while of.mark(b',') {
                names &= of.name();
            }
            names
        };
        let fits = fits && of.take("WITH") && of.mark(b'(') && of.take("connect") && of.mark(b'=') && of.take("false");
        let fits = fits && of.rest_is(|token| !token.is("enabled") && !token.is("connect") && !token.is("create_slot"));
        return Some(if fits {
            StatementKind::Last
        } else {
            StatementKind::Refused("a subscription that would connect at once")
        });
    }
    if of.take("EVENT TRIGGER") {
        let fits = plain_name(&mut of) && of.take("ON") && plain_name(&mut of);
        let fits = fits && (!of.take("WHEN") || of.take("TAG IN") && of.parentheses());
        let fits = fits && (of.take("EXECUTE FUNCTION") || of.take("EXECUTE PROCEDURE")) && of.name();
        return (fits && of.parentheses() && of.ended()).then_some(StatementKind::EventTrigger);
    }
    None
}

/// Kinds of objects that have an owner, and how they are named.
fn owned(of: &mut StatementWords<'_>) -> bool {
    for kind in [
        "TABLE",
        "SEQUENCE",
        "VIEW",
        "MATERIALIZED VIEW",
        "FOREIGN TABLE",
        "SCHEMA",
        "DOMAIN",
        "TYPE",
        "COLLATION",
        "CONVERSION",
        "TEXT SEARCH CONFIGURATION",
        "TEXT SEARCH DICTIONARY",
        "STATISTICS",
        "SERVER",
        "FOREIGN DATA WRAPPER",
        "LANGUAGE",
        "PROCEDURAL LANGUAGE",
        "PUBLICATION",
        "SUBSCRIPTION",
        "LARGE OBJECT",
    ] {
        if of.take(kind) {
            return of.name();
        }
    }
    if of.take("FUNCTION") || of.take("PROCEDURE") || of.take("AGGREGATE") {
        return of.name() && of.parentheses();
    }
    if of.take("OPERATOR CLASS") || of.take("OPERATOR FAMILY") {
        return of.name() && of.take("USING") && of.name();
    }
    if of.take("OPERATOR") {
        // `public.=~ (text, text)`
        let named = of.next().and_then(Word::name).is_some() && of.mark(b'.');
        while matches!(of.peek(), Some(Word::Mark(mark)) if !matches!(mark, b'(' | b')' | b',' | b'.')) {
            of.at += 1;
        }
        return named && of.parentheses();
    }
    false
}

fn altered(text: &str, mut of: StatementWords<'_>) -> Option<StatementKind> {
    if of.take("DATABASE") {
        let kind = database(&of)?;
        of.at += 1;
        let known = ["OWNER TO", "SET", "CONNECTION LIMIT", "IS_TEMPLATE", "RESET"];
        let fits = known.iter().any(|words| of.take(words)) && !of.take("TABLESPACE");
        return Some(if fits { kind } else { StatementKind::Refused("a change of a database that no dump makes") });
    }
    if of.take("ROLE") || of.take("USER") {
        let fits = of.next().and_then(Word::name).is_some() && of.take("IN DATABASE");
        let kind = if fits { database(&of) } else { None };
        of.at += 1;
        return match kind {
            Some(kind) if of.take("SET") || of.take("RESET") => Some(kind),
            _ => Some(StatementKind::Refused("a change of a role")),
        };
    }
    if of.take("SYSTEM") {
        return Some(StatementKind::Refused("a change of the server's configuration"));
    }
    if of.take("DEFAULT PRIVILEGES") {
        return Some(StatementKind::Last);
    }
    let start = of.at;
    if of.take("EVENT TRIGGER") && of.next().and_then(Word::name).is_some() {
        let owner = of.take("OWNER TO") && of.name();
        let state = ["DISABLE", "ENABLE ALWAYS", "ENABLE REPLICA", "ENABLE"].iter().any(|words| of.take(words));
        return ((owner || state) && of.ended()).then_some(StatementKind::EventTrigger);
    }
    of.at = start;
    if of.take("PUBLICATION") && of.next().and_then(Word::name).is_some() && of.take("ADD") {
        return Some(StatementKind::Last);
    }
    of.at = start;
    let named = owned(&mut of);
    let end = of.words.get(of.at).map_or(text.len(), |(at, _)| *at);
    if !named || !of.take("OWNER TO") {
        return None;
    }
    let role = of.next().and_then(Word::name)?;
    let (from, _) = of.words.get(start)?;
    of.ended().then(|| StatementKind::Owner { what: text[*from..end].trim_end().to_owned(), role })
}

fn commented(mut of: StatementWords<'_>) -> Option<StatementKind> {
    if of.take("DATABASE") {
        return database(&of);
    }
    if of.take("ROLE") || of.take("TABLESPACE") {
        return Some(StatementKind::Refused("a comment on something of the whole server"));
    }
    if of.take("SCHEMA") || of.take("COLLATION") {
        return Some(StatementKind::Harmless);
    }
    // These belong to an administrator from the start; all others to the role that made them.
    let administrators =
        ["EXTENSION", "FOREIGN DATA WRAPPER", "PUBLICATION", "SUBSCRIPTION", "LANGUAGE", "ACCESS METHOD"];
    if of.take("EVENT TRIGGER") {
        return Some(StatementKind::EventTrigger);
    }
    administrators.iter().any(|kind| of.take(kind)).then_some(StatementKind::Last)
}

fn granted(mut of: StatementWords<'_>) -> Option<StatementKind> {
    // The rights, up to ON; a grant of a role has none.
    loop {
        match of.next() {
            Some(token) if token.is("ON") => break,
            Some(Word::Plain(_) | Word::Mark(b',')) => {}
            // Columns.
            Some(Word::Mark(b'(')) => {
                of.at -= 1;
                of.parentheses().then_some(())?;
            }
            _ => return Some(StatementKind::Refused("a grant of a role")),
        }
    }
    if of.take("DATABASE") {
        return database(&of);
    }
    if of.take("PARAMETER") || of.take("TABLESPACE") {
        return Some(StatementKind::Refused("a right on something of the whole server"));
    }
    Some(StatementKind::Last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_no_code_is_an_administrators() {
        for (text, wanted) in [
            ("CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;", StatementKind::First),
            ("CREATE FOREIGN DATA WRAPPER fw OPTIONS (a 'b');", StatementKind::FirstWith(vec![])),
            (
                "CREATE FOREIGN DATA WRAPPER fw HANDLER public.h VALIDATOR \"a b\".v;",
                StatementKind::FirstWith(vec!["public.h".into(), "\"a b\".v".into()]),
            ),
            ("GRANT SELECT(id),UPDATE ON TABLE public.t TO app WITH GRANT OPTION;", StatementKind::Last),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA b GRANT SELECT ON TABLES TO c;", StatementKind::Last),
            ("SET SESSION AUTHORIZATION a;", StatementKind::Last),
            ("CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert');", StatementKind::Last),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p WITH (connect = false, slot_name = 's');",
                StatementKind::Last,
            ),
            ("REFRESH MATERIALIZED VIEW public.\"m v\";", StatementKind::Refresh("public.\"m v\"".into())),
            ("CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f();", StatementKind::EventTrigger),
            ("ALTER EVENT TRIGGER e DISABLE;", StatementKind::EventTrigger),
            ("COMMENT ON EXTENSION x IS E'it\\'s';", StatementKind::Last),
            ("SET default_tablespace = '';", StatementKind::Harmless),
            (
                "CREATE DATABASE agama WITH TEMPLATE = template0 ENCODING = 'UTF8';",
                StatementKind::CreateDatabase(16, 21),
            ),
            ("ALTER ROLE app IN DATABASE \"a b\" SET x TO 'b';", StatementKind::OfDatabase(27, 32)),
            ("GRANT ALL ON DATABASE agama TO app;", StatementKind::OfDatabase(22, 27)),
        ] {
            assert_eq!(kind(text.as_bytes()), wanted, "{text}");
        }
        for (text, what, owner) in [
            ("ALTER TABLE public.t OWNER TO app;", "TABLE public.t", "app"),
            (
                "ALTER FUNCTION public.f(a integer, OUT b \"x y\".t[]) OWNER TO \"A b\";",
                "FUNCTION public.f(a integer, OUT b \"x y\".t[])",
                "A b",
            ),
            ("ALTER OPERATOR public.=~ (text, NONE) OWNER TO app;", "OPERATOR public.=~ (text, NONE)", "app"),
            ("ALTER LARGE OBJECT 4711 OWNER TO app;", "LARGE OBJECT 4711", "app"),
        ] {
            assert_eq!(kind(text.as_bytes()), StatementKind::Owner { what: what.into(), role: owner.into() }, "{text}");
        }
        for plain in [
            "ALTER TABLE t ADD COLUMN a int DEFAULT f(), OWNER TO postgres;",
            "ALTER TABLE t OWNER TO a, ADD CHECK (f());",
            "CREATE EXTENSION x VERSION '1' CASCADE;",
            "CREATE EVENT TRIGGER e ON ddl_command_end WHEN TAG IN ('x') EXECUTE FUNCTION f() , g();",
            "REFRESH MATERIALIZED VIEW a WITH DATA;",
            "ALTER TABLE ONLY t ADD CONSTRAINT c CHECK (true);",
            "GRANT /* */ SELECT ON t TO b;",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$SELECT 1$$;",
            "SELECT f();",
            "CREATE FOREIGN DATA WRAPPER f HANDLER g OPTIONS (a 'b') , x;",
            "COMMENT ON TABLE t IS 'x';",
        ] {
            assert_eq!(kind(plain.as_bytes()), StatementKind::Plain, "{plain}");
        }
        for refused in [
            "GRANT postgres TO app;",
            "GRANT \"a ON b\" TO app;",
            "ALTER ROLE app SUPERUSER;",
            "ALTER SYSTEM SET a = 'b';",
            "GRANT SET ON PARAMETER a TO b;",
            "CREATE DATABASE a WITH TEMPLATE = other;",
            "CREATE DATABASE a;",
            "ALTER DATABASE a RENAME TO b;",
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p;",
            "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false, enabled = true);",
            "COMMENT ON ROLE a IS 'b';",
        ] {
            assert!(
                matches!(kind(refused.as_bytes()), StatementKind::Refused(_)),
                "{refused}: {:?}",
                kind(refused.as_bytes())
            );
        }
    }
}
