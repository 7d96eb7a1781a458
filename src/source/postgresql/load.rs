//! How one dump is loaded: by a role that owns what is loaded and nothing else, beside an administrator who does what only he
//! may and what is known ([`super::kinds`]).
//!
//! A statement that fails is noted with what the server says, and the load goes on.

use std::collections::BTreeMap;

use super::kinds::{StatementKind, kind};
use super::login::Login;
use super::role;
use super::said::ServerFault;
use super::scan::{DumpPiece, name_end};
use super::server::{PostgresqlServer, literal, quoted};
use super::session::PsqlSession;
use super::settings::Settings;
use super::text::{bytes_of, text_of};
use super::tokens::{Word, tokens};
use crate::source::Error;

/// What a load has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The database's name in the dump.
    pub from: String,
    /// The name of the one that is loaded into.
    pub loading: String,
    /// The rows of each table, by its name as the dump writes it.
    pub rows: BTreeMap<String, u64>,
    /// How many large objects there are.
    pub large_objects: Option<u64>,
    /// Settings that sessions of it had.
    pub settings: Vec<(String, String)>,
    /// Who loads; the account where there is none.
    pub login: Option<Login>,
    /// The database from which others are made.
    pub common: &'static str,
}

/// The most bytes of statements that are kept for the end.
const MOST: usize = 512 << 20;
/// What a function finds where nobody has said anything else.
const PATH: &str = "\"$user\", public";

/// Who is given the rows of a `COPY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copying {
    Nobody,
    Worker,
    Administrator,
}

/// A statement that was given and not waited for.
struct Pending {
    what: String,
    /// The statement, where it may be tried again.
    again: Option<Vec<u8>>,
}

/// A dump on its way into a server.
pub struct Stage {
    server: PostgresqlServer,
    job: Job,
    worker: Option<PsqlSession>,
    administrator: Option<PsqlSession>,
    pending: Option<Pending>,
    copying: Copying,
    /// Between `BEGIN` and `COMMIT` nothing can be asked once something has failed.
    in_transaction: bool,
    is_made: bool,
    /// Whether something that may be code was made.
    has_code: bool,
    /// Whether something was made that the worker needs rights on.
    is_new: bool,
    extension_tables: Option<Vec<String>>,
    /// What the dump's functions find, where the dump says it.
    path: Option<String>,
    /// What sessions that run the dump's functions have.
    settings: Settings,
    /// Statements for the end, and how many bytes they have.
    last: Vec<Vec<u8>>,
    /// Materialized views that were filled.
    views: Vec<String>,
    /// Whom tables and views belong to, by their names.
    owners: BTreeMap<String, String>,
    event_triggers: Vec<Vec<u8>>,
    of_database: Vec<Vec<u8>>,
    held: usize,
    /// What failed, a sentence each.
    failures: Vec<String>,
    /// What isn't as it was, a sentence each.
    differences: Vec<String>,
}

/// What the role that loads can have made before an extension.
pub const BEFORE_EXTENSION: &str = "an extension after objects that an extension's script could take for its own, and so needs \
                                    restore_as_superuser = true in the set";

/// How a load ended.
#[derive(Debug, Default)]
pub struct LoadEnd {
    /// What failed, a sentence each.
    pub failures: Vec<String>,
    /// What isn't as it was, a sentence each.
    pub differences: Vec<String>,
}

/// Whether a statement is one of those that write a large object, with nothing but numbers and texts.
fn writes_large_object(text: &[u8]) -> bool {
    let Some(tokens) = std::str::from_utf8(text).ok().and_then(tokens) else { return false };
    let [(_, select), (_, schema), (_, Word::Mark(b'.')), (_, function), (_, Word::Mark(b'(')), rest @ ..] =
        tokens.as_slice()
    else {
        return false;
    };
    let known = ["lo_open", "lowrite", "lo_close", "lo_create", "lo_unlink"].iter().any(|name| function.is(name));
    let value = |token: &Word<'_>| match token {
        Word::Plain(word) => word.bytes().all(|byte| byte.is_ascii_digit()),
        Word::Text(_) | Word::Mark(b',' | b')' | b'-') => true,
        _ => false,
    };
    select.is("SELECT") && schema.is("pg_catalog") && known && rest.iter().all(|(_, token)| value(token))
}

impl Stage {
    /// Begins.
    pub fn new(server: &PostgresqlServer, job: Job) -> Self {
        Self {
            server: server.clone(),
            settings: Settings::kept(&job.settings),
            job,
            worker: None,
            administrator: None,
            pending: None,
            copying: Copying::Nobody,
            in_transaction: false,
            is_made: false,
            has_code: false,
            is_new: false,
            extension_tables: None,
            path: None,
            last: Vec::new(),
            views: Vec::new(),
            owners: BTreeMap::new(),
            event_triggers: Vec::new(),
            of_database: Vec::new(),
            held: 0,
            failures: Vec::new(),
            differences: Vec::new(),
        }
    }

    /// Takes a piece of the dump.
    ///
    /// # Errors
    /// [`Error::Refused`] where no dump has that, [`Error::Failed`] where the load can't go on.
    pub fn take(&mut self, piece: DumpPiece<'_>) -> Result<(), Error> {
        match piece {
            // A comment, or the end of the line.
            DumpPiece::Blank(_) => Ok(()),
            DumpPiece::Meta(line) => self.meta(line),
            DumpPiece::Statement(text) => self.statement(text),
            DumpPiece::Part(bytes) => self.part(bytes),
            DumpPiece::Rows(bytes) => match self.copying {
                Copying::Nobody => Ok(()),
                Copying::Worker => self.worker()?.write(bytes),
                Copying::Administrator => self.administrator()?.write(bytes),
            },
        }
    }

    fn worker(&mut self) -> Result<&mut PsqlSession, Error> {
        let none = || Error::Failed("the load had not begun".to_owned());
        self.worker.as_mut().ok_or_else(none)
    }

    fn administrator(&mut self) -> Result<&mut PsqlSession, Error> {
        let none = || Error::Failed("the load had not begun".to_owned());
        self.administrator.as_mut().or(self.worker.as_mut()).ok_or_else(none)
    }

    fn refused(&self, what: &str) -> Error {
        Error::Refused(format!("the dump of {} has {what}, which no dump needs", self.job.from))
    }

    fn note(&mut self, what: &str, fault: &ServerFault) {
        self.failures.push(format!("{what} of {} failed: {fault}", self.job.from));
    }

    /// A command of the client's own. It is never given to a client.
    fn meta(&mut self, line: &[u8]) -> Result<(), Error> {
        self.settle()?;
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ") {
            return Ok(());
        }
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        // Before the connection to a database with an odd name; the connection sets the encoding anew.
        if line.strip_prefix("\\encoding ").is_some_and(is_word) {
            return Ok(());
        }
        if connected(line).is_some_and(|name| name == self.job.from) && self.is_made {
            return self.connect();
        }
        let shown: String = line.chars().take(80).collect();
        Err(self.refused(&format!("a command for the client itself, {shown:?}")))
    }

    fn connect(&mut self) -> Result<(), Error> {
        let (server, job) = (&self.server, &self.job);
        // A dump connects once more after the database's own settings.
        if let Some(worker) = self.worker.take() {
            worker.finish()?;
        } else if let Some(login) = &job.login {
            let owner = format!("ALTER DATABASE {} OWNER TO {}", quoted(&job.loading), quoted(&login.role));
            server.ask(job.common, &owner)?;
            self.administrator = Some(PsqlSession::start(server, &job.loading, None)?);
            if server.version < 150_000 {
                let owner = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'";
                let owner = server.value(&job.loading, owner)?;
                server.ask(&job.loading, &format!("ALTER SCHEMA public OWNER TO {}", quoted(&login.role)))?;
                let back = format!("ALTER SCHEMA public OWNER TO {};", quoted(&owner));
                self.last.insert(0, back.into_bytes());
            }
        }
        let mut worker = PsqlSession::start(server, &job.loading, job.login.as_ref())?;
        self.settings.set(&mut worker)?;
        self.worker = Some(worker);
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.held += bytes.len();
        match self.held > MOST {
            true => Err(Error::Failed(format!("the dump of {} has too many statements on rights", self.job.from))),
            false => Ok(bytes.to_vec()),
        }
    }

    /// A statement about the database itself, with the name that it has now.
    fn renamed(&self, text: &[u8], from: usize, to: usize) -> Result<Vec<u8>, Error> {
        let text = text_of(text);
        let name = &text[from..to];
        let (is_text, plain) = match name.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')) {
            Some(plain) => (true, plain.replace("''", "'")),
            None => (false, super::globals::unquoted(name)),
        };
        if plain != self.job.from {
            return Err(self.refused("a statement about another database"));
        }
        let loading = if is_text { literal(&self.job.loading) } else { quoted(&self.job.loading) };
        Ok(bytes_of(&format!("{}{loading}{}", &text[..from], &text[to..])).into_owned())
    }

    fn statement(&mut self, text: &[u8]) -> Result<(), Error> {
        self.settle()?;
        let kind = kind(text);
        match kind {
            StatementKind::Refused(what) => Err(self.refused(what)),
            StatementKind::OfDatabase(from, to) => {
                let statement = self.renamed(text, from, to)?;
                self.note_setting(text, to);
                let held = self.hold(&statement)?;
                self.of_database.push(held);
                Ok(())
            }
            StatementKind::CreateDatabase(from, to) if !self.is_made => {
                let statement = self.renamed(text, from, to)?;
                let statement = text_of(&statement).trim_end_matches(';').to_owned();
                // Where it can't be made (a locale, a tablespace), others of the snapshot can.
                let made = self.server.ask(self.job.common, &statement).map_err(|error| match error {
                    error if error.is_failure() => {
                        Error::Refused(format!("the dump of {} can't be loaded here: {error}", self.job.from))
                    }
                    error => error,
                })?;
                drop(made);
                self.is_made = true;
                Ok(())
            }
            StatementKind::CreateDatabase(..) => Err(self.refused("a second database")),
            // What is set before there is a database is set again in it.
            StatementKind::Harmless if self.worker.is_none() => Ok(()),
            _ if self.worker.is_none() => Err(self.refused("a statement before its database")),
            // Nothing is waited for in it, so nothing may stand in it that changes how the client reads.
            _ if self.in_transaction && text != b"COMMIT;" && !writes_large_object(text) => {
                Err(self.refused("something else than a large object in a transaction"))
            }
            _ if text.starts_with(b"COPY ") => self.copy(text),
            StatementKind::Refresh(view) => {
                self.views.push(view);
                self.fill(text)
            }
            // One who is alone does it all in the dump's order.
            _ if self.administrator.is_none() => self.give(text),
            StatementKind::Plain | StatementKind::Harmless => {
                self.has_code |= kind == StatementKind::Plain;
                self.equip()?;
                self.give(text)
            }
            StatementKind::First => {
                if self.has_code && self.has_objects()? {
                    return Err(Error::Refused(format!("the dump of {} has {BEFORE_EXTENSION}", self.job.from)));
                }
                self.has_code = false;
                self.first(text)
            }
            StatementKind::FirstWith(functions) => match self.are_known(&functions)? {
                true => self.first(text),
                false => self.give(text),
            },
            StatementKind::Owner { what, role } => {
                // For a materialized view programs write either.
                let name = ["TABLE ", "MATERIALIZED VIEW "].iter().find_map(|kind| what.strip_prefix(kind));
                self.owners.extend(name.map(|name| (name.to_owned(), role)));
                let held = self.hold(text)?;
                self.last.push(held);
                Ok(())
            }
            StatementKind::Last => {
                let held = self.hold(text)?;
                self.last.push(held);
                Ok(())
            }
            StatementKind::EventTrigger => {
                let held = self.hold(text)?;
                self.event_triggers.push(held);
                Ok(())
            }
        }
    }

    /// Notes what the database says of the search path, and of other settings.
    fn note_setting(&mut self, text: &[u8], after: usize) {
        let whole = text_of(text);
        let rest = whole.get(after..).unwrap_or_default();
        let path = rest.strip_prefix(" SET search_path TO ").and_then(|path| path.strip_suffix(';'));
        // `ALTER ROLE … IN DATABASE …` is about somebody else.
        if !text.starts_with(b"ALTER DATABASE ") {
            return;
        }
        match path {
            Some(path) => self.path = Some(path.to_owned()),
            None => self.settings.of_database(rest),
        }
    }

    /// The statement that lets functions find what they find elsewhere.
    fn path(&self) -> String {
        match (&self.path, &self.job.login) {
            (Some(path), _) => format!("SET search_path TO {path};\n"),
            (None, Some(_)) => "SET search_path TO DEFAULT;\n".to_owned(),
            (None, None) => format!("SET search_path TO {PATH};\n"),
        }
    }

    /// Gives the worker a statement.
    fn give(&mut self, text: &[u8]) -> Result<(), Error> {
        match text {
            b"BEGIN;" => self.in_transaction = true,
            b"COMMIT;" => self.in_transaction = false,
            _ => {}
        }
        let worker = self.worker()?;
        worker.write(text)?;
        worker.write(b"\n")?;
        self.pending = Some(Pending { what: what(text), again: Some(text.to_vec()) });
        Ok(())
    }

    /// Has the worker fill a view, whose functions find what they find elsewhere.
    fn fill(&mut self, text: &[u8]) -> Result<(), Error> {
        let path = self.path();
        let none = || Error::Failed("the load had not begun".to_owned());
        let worker = self.worker.as_mut().ok_or_else(none)?;
        self.settings.set_for_views(worker)?;
        worker.write(path.as_bytes())?;
        let fault = worker.run_bytes(text)?;
        worker.write(self.settings.after_views().as_bytes())?;
        worker.write(NO_PATH)?;
        if let Some(fault) = fault {
            self.note(&what(text), &fault);
        }
        Ok(())
    }

    fn part(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.worker.is_none() {
            return Err(self.refused("a statement before its database"));
        }
        if self.in_transaction {
            return Err(self.refused("something else than a large object in a transaction"));
        }
        if self.pending.as_ref().is_none_or(|pending| pending.again.is_some()) {
            self.settle()?;
            self.has_code = true;
            self.equip()?;
            self.pending = Some(Pending { what: what(bytes), again: None });
        }
        self.worker()?.write(bytes)
    }

    /// Waits for the statement that was given last.
    fn settle(&mut self) -> Result<(), Error> {
        let Some(pending) = self.pending.take_if(|_| !self.in_transaction) else { return Ok(()) };
        let copying = std::mem::replace(&mut self.copying, Copying::Nobody);
        let session = if copying == Copying::Administrator { self.administrator()? } else { self.worker()? };
        if copying != Copying::Nobody {
            session.write(NO_PATH)?;
        }
        let (_, fault) = session.settle()?;
        let Some(fault) = fault else { return Ok(()) };
        if let Some(statement) = &pending.again {
            // What its functions find by themselves elsewhere they don't find in a dump's session.
            let path = self.path();
            let worker = self.worker()?;
            worker.write(path.as_bytes())?;
            let again = worker.run_bytes(statement)?;
            worker.write(NO_PATH)?;
            if again.is_none() {
                return Ok(());
            }
        }
        self.note(&pending.what, &fault);
        Ok(())
    }

    /// A `COPY`: its rows are given to a client only if that is known to take them as such.
    fn copy(&mut self, text: &[u8]) -> Result<(), Error> {
        self.has_code = true;
        self.equip()?;
        let whole = text_of(text);
        let table = whole.strip_prefix("COPY ").and_then(|rest| Some(rest[..name_end(rest)?].to_owned()));
        let table = table.ok_or_else(|| self.refused("a COPY without a table"))?;
        let is_extensions = self.administrator.is_some() && self.extension_tables()?.contains(&table);
        let path = self.path();
        let session = if is_extensions { self.administrator()? } else { self.worker()? };
        session.write(text)?;
        session.write(b"\n\\.\n")?;
        let (answer, fault) = session.settle()?;
        if fault.is_some() || !answer.lines().any(|line| line == "COPY 0") {
            let fault = fault.unwrap_or_else(|| ServerFault {
                message: "the client didn't say that it would take rows".to_owned(),
                ..ServerFault::default()
            });
            self.copying = Copying::Nobody;
            self.note(&format!("the load of {table}"), &fault);
            return Ok(());
        }
        if !is_extensions {
            session.write(path.as_bytes())?;
        }
        session.write(text)?;
        session.write(b"\n")?;
        self.copying = if is_extensions { Copying::Administrator } else { Copying::Worker };
        self.pending = Some(Pending { what: format!("the load of {table}"), again: None });
        Ok(())
    }

    fn extension_tables(&mut self) -> Result<&Vec<String>, Error> {
        if self.extension_tables.is_none() {
            let question = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                            JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'";
            self.extension_tables = Some(self.server.names(&self.job.loading, question)?);
        }
        Ok(self.extension_tables.get_or_insert_default())
    }

    /// Whether anything stands that an extension's script could take for its own. What only a superuser makes failed, as handlers of
    /// languages, which a dump has before its extensions.
    fn has_objects(&self) -> Result<bool, Error> {
        let question = "SELECT EXISTS (SELECT FROM pg_shdepend s WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = \
                        current_database()) AND s.deptype = 'o' AND s.classid NOT IN ('pg_namespace'::regclass, \
                        'pg_collation'::regclass) AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = s.classid AND d.objid = \
                        s.objid AND d.deptype = 'e'))";
        Ok(self.server.value(&self.job.loading, question)? == "t")
    }

    /// What an administrator makes at once.
    fn first(&mut self, text: &[u8]) -> Result<(), Error> {
        self.is_new = true;
        if let Some(fault) = self.administrator()?.run_bytes(text)? {
            self.note(&what(text), &fault);
        }
        Ok(())
    }

    /// Whether functions are an extension's or the server's own.
    fn are_known(&self, functions: &[String]) -> Result<bool, Error> {
        for name in functions {
            let question = format!(
                "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE format('%I.%I', n.nspname, p.proname) \
                 = {} AND NOT (p.oid < 16384 OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = \
                 p.oid AND d.deptype = 'e'))",
                literal(name)
            );
            if self.server.value(&self.job.loading, &question)? != "0" {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the worker rights on what extensions brought, as an owner of everything would have. They go at the end.
    fn equip(&mut self) -> Result<(), Error> {
        let Some(login) = self.job.login.as_ref().filter(|_| self.is_new) else { return Ok(()) };
        let role = literal(&login.role);
        let question = format!(
            "SELECT format('GRANT USAGE ON FOREIGN DATA WRAPPER %I TO %I', fdwname, {role}) FROM pg_foreign_data_wrapper UNION ALL \
             SELECT format('GRANT ALL ON SCHEMA %I TO %I', n.nspname, {role}) FROM pg_namespace n JOIN pg_depend d ON d.classid = \
             'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e'"
        );
        self.is_new = false;
        for grant in self.server.names(&self.job.loading, &question)? {
            self.server.ask(&self.job.loading, &grant)?;
        }
        Ok(())
    }

    /// Takes away what was begun.
    ///
    /// # Errors
    /// [`Error::Failed`] where the server doesn't answer.
    pub fn discard(self) -> Result<(), Error> {
        let Self { server, job, worker, administrator, .. } = self;
        drop((worker, administrator));
        discard(&server, &job)
    }

    /// After the last piece: all that comes at the end.
    ///
    /// # Errors
    /// [`Error::Failed`] where the load can't be ended.
    pub fn finish(mut self) -> Result<LoadEnd, Error> {
        self.in_transaction = false;
        self.settle()?;
        if !self.views.is_empty() {
            let said = |(statement, said): &(String, String)| {
                format!(
                    "{} had not this setting while its views were filled: {statement} failed: {said}",
                    self.job.from
                )
            };
            self.differences = self.settings.not_taken().iter().map(said).collect();
        }
        self.count()?;
        if let Some(worker) = self.worker.take() {
            worker.finish()?;
        }
        let (server, common) = (self.server.clone(), self.job.common);
        if let Some(login) = self.job.login.clone() {
            role::shut_out(&server, common, &login.role)?;
            self.hand_over(&login.role)?;
        }
        // Bytes that are no UTF-8 are taken by a database without an encoding alone: the new one itself.
        let is_text = self.of_database.iter().all(|statement| std::str::from_utf8(statement).is_ok());
        let place = if is_text { common } else { &self.job.loading };
        let mut session = PsqlSession::start(&server, place, None)?;
        for statement in std::mem::take(&mut self.of_database) {
            if let Some(fault) = session.run_bytes(&statement)? {
                self.note(&what(&statement), &fault);
            }
        }
        session.finish()?;
        if let Some(login) = &self.job.login {
            role::remove(&server, common, &login.role)?;
        }
        Ok(LoadEnd { failures: self.failures, differences: self.differences })
    }

    /// What only an administrator may do.
    fn hand_over(&mut self, worker: &str) -> Result<(), Error> {
        let Some(mut session) = self.administrator.take() else { return Ok(()) };
        let mut run = |stage: &mut Self, statement: &str| {
            let fault = session.run(statement)?;
            if let Some(fault) = fault {
                stage.note(&what(statement.as_bytes()), &fault);
            }
            Ok::<(), Error>(())
        };
        for statement in std::mem::take(&mut self.last) {
            run(self, &text_of(&statement))?;
        }
        run(self, "RESET SESSION AUTHORIZATION;")?;
        let again = self.views_of_others()?;
        if !again.is_empty() {
            // Those that a role without rights may set.
            for setting in self.settings.taken() {
                run(self, &setting)?;
            }
        }
        for view in again {
            let path = self.path.as_ref().map_or_else(|| PATH.to_owned(), Clone::clone);
            run(
                self,
                &format!(
                    "SET search_path TO {path};\nREFRESH MATERIALIZED VIEW {view};\nSET search_path = pg_catalog;"
                ),
            )?;
        }
        let (worker, account) = (quoted(worker), quoted(&self.server.account));
        run(self, &format!("REASSIGN OWNED BY {worker} TO {account};"))?;
        run(self, &format!("DROP OWNED BY {worker};"))?;
        for statement in std::mem::take(&mut self.event_triggers) {
            run(self, &text_of(&statement))?;
        }
        session.finish()
    }

    /// Materialized views whose rows may depend on who fills them: the worker sees all rows, their owners perhaps not. None of
    /// somebody whose rights reach further: as him nothing of the dump's is run.
    fn views_of_others(&self) -> Result<Vec<String>, Error> {
        if self.views.is_empty() {
            return Ok(Vec::new());
        }
        let differs = "SELECT EXISTS (SELECT FROM pg_class WHERE relrowsecurity) OR EXISTS (SELECT FROM pg_matviews WHERE definition ~* \
                       '(current|session)_(user|role)|has_[a-z_]*privilege|pg_has_role')";
        if self.server.value(&self.job.loading, differs)? != "t" {
            return Ok(Vec::new());
        }
        let mighty = role::mighty(&self.server, self.job.common)?;
        let is_safe = |view: &&String| self.owners.get(*view).is_some_and(|owner| !mighty.contains(owner));
        Ok(self.views.iter().filter(is_safe).cloned().collect())
    }

    /// Each table has as many rows as the dump has. They are counted by the worker: what a dump calls a table may be a view.
    fn count(&mut self) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.job.rows);
        for (table, wanted) in &rows {
            let is_extensions = self.administrator.is_some() && self.extension_tables()?.contains(table);
            let session = if is_extensions { self.administrator()? } else { self.worker()? };
            let counted = counted(session, &format!("SELECT pg_catalog.count(*) FROM ONLY {table};"))?;
            if counted != wanted.to_string() {
                let from = &self.job.from;
                self.failures
                    .push(format!("{table} of {from} has {counted} rows after the load, and {wanted} in the dump"));
            }
        }
        let objects = counted(self.worker()?, "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata;")?;
        if let Some(wanted) = self.job.large_objects.filter(|wanted| objects != wanted.to_string()) {
            let from = &self.job.from;
            self.failures.push(format!("{from} has {objects} large objects after the load, and {wanted} in the dump"));
        }
        self.job.rows = rows;
        Ok(())
    }
}

/// Takes away what a load has made.
///
/// # Errors
/// [`Error::Failed`] where the server doesn't answer.
pub fn discard(server: &PostgresqlServer, job: &Job) -> Result<(), Error> {
    if let Some(login) = &job.login {
        role::shut_out(server, job.common, &login.role)?;
    }
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}", literal(&job.loading));
    server.ask(job.common, &end)?;
    server.ask(job.common, &format!("DROP DATABASE IF EXISTS {}", quoted(&job.loading)))?;
    if let Some(login) = &job.login {
        role::remove(server, job.common, &login.role)?;
    }
    Ok(())
}

/// What a dump's own session finds: nothing.
const NO_PATH: &[u8] = b"SET search_path = '';\n";

fn counted(session: &mut PsqlSession, question: &str) -> Result<String, Error> {
    session.write(&bytes_of(question))?;
    session.write(b"\n")?;
    let (answer, fault) = session.settle()?;
    Ok(match fault {
        Some(_) => "no".to_owned(),
        None => answer.lines().next_back().unwrap_or_default().to_owned(),
    })
}

/// What a statement is about, without its values.
pub(super) fn what(statement: &[u8]) -> String {
    let text = text_of(&statement[..statement.len().min(400)]);
    let end = text.find(['\'', '$', ';']).unwrap_or(text.len());
    let head = &text[..end];
    let head = head.find(" AS\n").map_or(head, |end| &head[..end]);
    let words: Vec<&str> = head.split_whitespace().collect();
    let shown: String = words.join(" ").chars().take(120).collect();
    crate::entry::Escaped(shown.as_bytes()).to_string()
}

/// The database that a `\connect` names, in the two ways in which a dump does.
fn connected(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("\\connect -reuse-previous=on ") {
        let list = rest.strip_prefix('"')?.strip_suffix('"')?.replace("\"\"", "\"");
        let value = list.strip_prefix("dbname='")?.strip_suffix('\'')?;
        let mut name = String::new();
        let mut chars = value.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => name.push(chars.next()?),
                '\'' => return None,
                c => name.push(c),
            }
        }
        return Some(name);
    }
    let name = line.strip_prefix("\\connect ")?;
    let fits = name_end(name) == Some(name.len());
    // A name with a point is in quotes.
    (fits && (name.starts_with('"') || !name.contains('.'))).then(|| super::globals::unquoted(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dumps_own_ways_to_connect_are_known() {
        let name = |line: &str| connected(line);
        assert_eq!(name("\\connect agama").as_deref(), Some("agama"));
        assert_eq!(name("\\connect \"My.db\"").as_deref(), Some("My.db"));
        let odd = "\\connect -reuse-previous=on \"dbname='o\\\\'ha\"\"ra\\\\\\\\ = %s'\"".replace("\\\\", "\\");
        assert_eq!(name(&odd).as_deref(), Some("o'ha\"ra\\ = %s"));
        for bad in [
            "\\connect a b",
            "\\connect -reuse-previous=on \"dbname='a' host='x'\"",
            "\\connect -reuse-previous=on \"host=x\"",
            "\\connect \"host=x\" \\! touch x",
            "\\connect a.b",
            "\\connect -",
            "\\c a",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_statement_is_named_without_its_values() {
        assert_eq!(
            what(b"CREATE INDEX i ON public.t USING btree (public.f(a));"),
            "CREATE INDEX i ON public.t USING btree (public.f(a))"
        );
        assert_eq!(what(b"CREATE SUBSCRIPTION s CONNECTION 'password=x'"), "CREATE SUBSCRIPTION s CONNECTION");
        assert_eq!(what(b"CREATE MATERIALIZED VIEW public.mv AS\n SELECT 1;"), "CREATE MATERIALIZED VIEW public.mv");
    }
}
