//! Users, roles and their grants. An account is made as it was, or not at all; and what it was granted is granted when all
//! that the grants name is there.

use std::collections::BTreeSet;

use super::MysqlTarget;
use crate::entry::Escaped;
use crate::source::Error;
use crate::source::mysql::names::{listed, literal, quoted};
use crate::source::mysql::sessions::SESSION;
use crate::source::mysql::sql::charset::Charset;
use crate::source::mysql::sql::session::SqlSession;
use crate::source::mysql::sql::tokens::{SqlToken, TokenCursor, TokenKind, unquoted};
use crate::source::mysql::users::{is_of_the_system, split_default_roles, without_password};
use crate::warning::WarningKind;

/// An account, as a statement about it names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account {
    pub user: String,
    pub host: String,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", quoted(&self.user), quoted(&self.host))
    }
}

/// What a line of the stream of users does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// It makes an account.
    Make(Account),
    /// It grants something to one; on a database where it names one.
    Grant(Account, Option<String>),
}

impl Line {
    /// None where it is anything else, or about more than one account.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(';');
        let tokens = SqlSession::new(999_999, true).reading.tokens(text.as_bytes()).ok()?;
        if tokens.iter().any(|token| token.kind == TokenKind::Comment) {
            return None;
        }
        let mut cursor = TokenCursor::new(Charset::Utf8, text.as_bytes(), &tokens);
        if cursor.word("CREATE") {
            (cursor.word("USER") || cursor.word("ROLE")).then_some(())?;
            let _ = cursor.words(&["IF", "NOT", "EXISTS"]);
            let account = account(&mut cursor)?;
            // A comma would begin another account.
            let alone = std::iter::from_fn(|| cursor.take()).all(|token| token.kind != TokenKind::Sign(b','));
            return alone.then_some(Line::Make(account));
        }
        if cursor.words(&["SET", "DEFAULT", "ROLE"]) {
            account(&mut cursor)?;
            while cursor.sign(b',') {
                account(&mut cursor)?;
            }
            (cursor.word("FOR") || cursor.word("TO")).then_some(())?;
            let account = account(&mut cursor)?;
            return cursor.is_end().then_some(Line::Grant(account, None));
        }
        // A part of what was granted may have been taken back.
        let before_account = if cursor.word("REVOKE") { "FROM" } else { "TO" };
        (before_account == "FROM" || cursor.word("GRANT")).then_some(())?;
        let word = |token: &&SqlToken, word: &str| {
            token.kind == TokenKind::Word && text.as_bytes()[token.at.clone()].eq_ignore_ascii_case(word.as_bytes())
        };
        // A password in a grant makes the account.
        if tokens.iter().any(|token| word(&token, "IDENTIFIED")) {
            return None;
        }
        let to = tokens.iter().rposition(|token| word(&token, before_account))?;
        let on = tokens[..to].iter().position(|token| word(&token, "ON"));
        let mut rest = TokenCursor::new(Charset::Utf8, text.as_bytes(), &tokens[to + 1..]);
        let account = account(&mut rest)?;
        let alone = std::iter::from_fn(|| rest.take()).all(|token| token.kind != TokenKind::Sign(b','));
        let mut object = TokenCursor::new(Charset::Utf8, text.as_bytes(), &tokens[on.map_or(to, |on| on + 1)..to]);
        for kind in ["TABLE", "FUNCTION", "PROCEDURE", "PACKAGE", "BODY"] {
            let _ = object.word(kind);
        }
        let database = object.name().filter(|_| object.sign(b'.'));
        alone.then_some(Line::Grant(account, database))
    }

    fn account(&self) -> &Account {
        match self {
            Line::Make(account) | Line::Grant(account, _) => account,
        }
    }
}

fn account(cursor: &mut TokenCursor<'_>) -> Option<Account> {
    let part = |cursor: &mut TokenCursor<'_>| {
        let token =
            cursor.peek().filter(|token| matches!(token.kind, TokenKind::Word | TokenKind::Name | TokenKind::Text))?;
        let name = match token.kind {
            TokenKind::Text => std::str::from_utf8(cursor.bytes(token)).ok().and_then(unquoted),
            _ => cursor.named(token),
        };
        cursor.take();
        name
    };
    let user = part(cursor)?;
    let host = if cursor.sign(b'@') { part(cursor)? } else { String::new() };
    Some(Account { user, host })
}

impl MysqlTarget {
    /// Accounts belong to whole databases that come back under their own names.
    pub(super) fn brings_accounts(&self) -> bool {
        self.places.iter().all(|place| place.tables.is_none() && place.from == place.to)
    }

    /// The lines about accounts that aren't the server's own, each with what it does.
    fn account_lines(&self) -> Vec<(String, Line)> {
        if !self.brings_accounts() {
            return Vec::new();
        }
        let text = self.definitions.users();
        let mut set = Vec::new();
        let mut line = |text: &str| {
            let (text, roles) = match text.starts_with("CREATE ") {
                true => split_default_roles(text),
                false => (text.to_owned(), None),
            };
            let line = Line::of(&text)?;
            // Of a snapshot in which they are there. They come last.
            if let Some(roles) = roles {
                let text = format!("SET DEFAULT ROLE {roles} TO {};", line.account());
                set.extend(Line::of(&text).map(|line| (text, line)));
            }
            Some((text, line))
        };
        let lines: Vec<(String, Line)> = text.lines().filter_map(&mut line).collect();
        lines.into_iter().chain(set).filter(|(_, line)| !is_of_the_system(&line.account().user)).collect()
    }

    /// The accounts that the dump makes.
    pub(super) fn accounts(&self) -> BTreeSet<Account> {
        let make = |(_, line): (String, Line)| match line {
            Line::Make(account) => Some(account),
            Line::Grant(..) => None,
        };
        self.account_lines().into_iter().filter_map(make).collect()
    }

    fn accounts_there(&self) -> Result<BTreeSet<Account>, Error> {
        let rows = self.server.ask("SELECT User, Host FROM mysql.user")?;
        let account = |row: Vec<String>| Some(Account { user: row.first()?.clone(), host: row.get(1)?.clone() });
        Ok(rows.into_iter().filter_map(account).collect())
    }

    /// Which accounts will be made, and which rights of theirs reach beyond what is restored: a sentence each.
    pub(super) fn accounts_described(&self) -> Result<Vec<String>, Error> {
        const NAMED: usize = 20;
        let there = self.accounts_there()?;
        let lines = self.account_lines();
        let made: Vec<&Account> = lines
            .iter()
            .filter_map(|(_, line)| match line {
                Line::Make(account) => Some(account),
                Line::Grant(..) => None,
            })
            .filter(|account| !there.contains(*account))
            .collect();
        let said = |what: &str, all: Vec<String>| (!all.is_empty()).then(|| format!("{what}: {}", listed(&all, NAMED)));
        let shown = |text: &str| Escaped(text.as_bytes()).to_string();
        let names = made.iter().map(|account| shown(&account.to_string())).collect();
        let beyond = lines.iter().filter(|(text, line)| match line {
            Line::Make(_) => false,
            Line::Grant(account, database) => {
                made.contains(&account)
                    && !database.as_ref().is_some_and(|name| self.restores(name))
                    && !text.starts_with("GRANT USAGE ON *.* TO ")
            }
        });
        let beyond = beyond.map(|(text, _)| shown(&plain(text))).collect();
        let lines = [
            said("accounts that aren't there are made", names),
            said("rights of theirs beyond what is restored are granted", beyond),
        ];
        Ok(lines.into_iter().flatten().collect())
    }

    /// Makes the accounts that aren't there, without a right. Those that are there stay as they are.
    pub(super) fn make_accounts(&mut self) -> Result<(), Error> {
        self.accounts_before = self.accounts_there()?;
        for (text, line) in self.account_lines() {
            let Line::Make(account) = line else { continue };
            if !self.accounts_before.contains(&account)
                && let Err(error) = self.run_line(&text)
            {
                self.warnings.push(WarningKind::Accounts.warning(format!(
                    "the account {} could not be made as it was, so it was not made, and nothing was granted to it: {error}",
                    Escaped(account.to_string().as_bytes())
                )));
            }
        }
        Ok(())
    }

    /// Grants what was granted to the accounts that were made; to those that were there before, what they lack on the
    /// databases that were restored.
    pub(super) fn grant(&mut self) -> Result<(), Error> {
        let there = self.accounts_there()?;
        let lines = self.account_lines();
        let accounts: BTreeSet<Account> = lines.iter().map(|(_, line)| line.account().clone()).collect();
        // PUBLIC is everybody, and always there.
        let public = Account { user: "PUBLIC".to_owned(), host: String::new() };
        for account in accounts.iter().filter(|account| there.contains(*account) || **account == public) {
            let was_there = *account == public || self.accounts_before.contains(account);
            let has = self.granted(account)?;
            let (mut lacks, mut exceeds) = (Vec::new(), Vec::new());
            for (text, line) in &lines {
                let Line::Grant(whose, database) = line else { continue };
                let restored = database.as_ref().is_some_and(|name| self.restores(name));
                if whose != account || has.contains(&plain(text)) || (was_there && !restored) {
                    continue;
                }
                if let Err(error) = self.run_line(text) {
                    let told = format!("{}: {error}", Escaped(text.as_bytes()));
                    if text.starts_with("REVOKE ") { exceeds.push(told) } else { lacks.push(told) }
                }
            }
            if !exceeds.is_empty() {
                self.warnings.push(WarningKind::Accounts.warning(format!(
                    "the account {} may do what it could not before: {}",
                    Escaped(account.to_string().as_bytes()),
                    exceeds.join("; ")
                )));
            }
            if !lacks.is_empty() {
                self.warnings.push(WarningKind::Accounts.warning(format!(
                    "the account {} lacks what it was granted: {}",
                    Escaped(account.to_string().as_bytes()),
                    lacks.join("; ")
                )));
            }
        }
        Ok(())
    }

    /// Whether a grant's database is one that is restored. In a grant `_` may stand for any character.
    fn restores(&self, pattern: &str) -> bool {
        let name = pattern.replace('\\', "");
        self.places.iter().any(|place| place.to == name)
    }

    fn granted(&self, account: &Account) -> Result<BTreeSet<String>, Error> {
        let is_role = account.host.is_empty();
        let name = match (account.user.as_str(), is_role) {
            ("PUBLIC", true) => "PUBLIC".to_owned(),
            (user, true) => quoted(user),
            (user, false) => format!("{}@{}", literal(user), literal(&account.host)),
        };
        let rows = self.server.ask(&format!("SHOW GRANTS FOR {name}"))?;
        Ok(rows.into_iter().flatten().map(|line| plain(&line)).collect())
    }

    /// Runs one statement about an account, in a session in which a grant makes none.
    fn run_line(&self, text: &str) -> Result<(), Error> {
        let mut load = self.server.load()?;
        // Its names were read as in a session of our own.
        load.write(SESSION.as_bytes())?;
        if self.server.vendor == crate::source::mysql::program::Vendor::Mariadb {
            load.write(b"SET SESSION sql_mode='NO_AUTO_CREATE_USER';\n")?;
        }
        let text = text.trim_end_matches(';').as_bytes();
        let tokens = SqlSession::new(999_999, true).reading.tokens(text).unwrap_or_default();
        // They were read as a session of our own does it, in which a backslash escapes.
        let is_quoted = |token: &&SqlToken| matches!(text.get(token.at.start), Some(b'\'' | b'`'));
        let quoted: Vec<_> = tokens.iter().filter(is_quoted).map(|token| token.at.clone()).collect();
        load.statement(text, &quoted, || Ok(!tokens.iter().any(|token| token.kind == TokenKind::Sign(b';'))))?;
        load.finish()
    }
}

/// A grant as it is compared: without a password, and without its end.
fn plain(line: &str) -> String {
    without_password(&line.trim_end_matches(';').replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_users_name_their_account() {
        let account = |line: &str| Line::of(line).map(|line| line.account().to_string());
        assert_eq!(account("CREATE USER IF NOT EXISTS `app`@`%` IDENTIFIED BY PASSWORD '*x';").unwrap(), "`app`@`%`");
        assert_eq!(account("GRANT SELECT ON `a TO b`.* TO `o'x`@`h`;").unwrap(), "`o'x`@`h`");
        assert_eq!(account("CREATE ROLE IF NOT EXISTS `r`;").unwrap(), "`r`@``");
        assert_eq!(account("SET DEFAULT ROLE `r` FOR `app`@`%`;").unwrap(), "`app`@`%`");
        assert_eq!(account("GRANT `r` TO ``@`localhost`;").unwrap(), "``@`localhost`");
        assert_eq!(account("SET DEFAULT ROLE `r`@`%`,`s`@`%` TO `app`@`%`;").unwrap(), "`app`@`%`");
        assert_eq!(account("REVOKE SELECT ON `a FROM b`.* FROM `app`@`%`;").unwrap(), "`app`@`%`");
        assert_eq!(account("DROP USER x"), None);
        let database = |line: &str| match Line::of(line) {
            Some(Line::Grant(_, database)) => database,
            _ => None,
        };
        assert_eq!(database("GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `a`@`b`").unwrap(), "shop");
        assert_eq!(database("GRANT SELECT (`a`, `b`), INSERT ON `shop`.`t` TO PUBLIC").unwrap(), "shop");
        assert_eq!(database("GRANT SELECT ON `sh\\_op`.* TO `a`@`b` WITH GRANT OPTION").unwrap(), "sh\\_op");
        assert_eq!(database("GRANT `r` TO `a`@`b` WITH ADMIN OPTION"), None);
    }

    #[test]
    fn a_line_that_makes_more_than_one_account_is_none() {
        for line in [
            "CREATE USER a, b",
            "CREATE USER IF NOT EXISTS `a`@`b` IDENTIFIED BY 'x', evil@'%'",
            "GRANT ALL ON *.* TO evil@x IDENTIFIED BY 'y'",
            "GRANT ALL ON *.* TO evil@x, `a`@`b`",
            "GRANT ALL ON *.* TO evil@x /* , */",
            "SET DEFAULT ROLE r FOR a, b",
            "SET DEFAULT ROLE r, s TO a, b",
            "REVOKE SELECT ON a.* FROM a, b",
        ] {
            assert_eq!(Line::of(line), None, "{line}");
        }
    }
}
