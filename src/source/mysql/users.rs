//! Users, roles and grants, which no dump of a database holds.

use super::names::{literal, quoted};
use super::program::Vendor;
use super::server::MysqlServer;
use super::sql::session::SqlSession;
use super::sql::tokens::{SqlToken, TokenKind};
use crate::source::Error;

/// Accounts that belong to the server or to the distribution. They are not brought elsewhere.
const OF_THE_SYSTEM: [&str; 7] =
    ["root", "mysql", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", "debian-sys-maint"];

/// Whether an account of that name is the server's own.
pub fn is_of_the_system(user: &str) -> bool {
    OF_THE_SYSTEM.contains(&user)
}

/// The statements that make the users and roles of the server, one on each line: roles, users, what they are granted, and which
/// roles are theirs from the begin of a session, which have to be granted before.
///
/// # Errors
/// [`Error::Failed`] if the server doesn't tell.
pub fn users(server: &MysqlServer) -> Result<String, Error> {
    let question = match server.vendor {
        Vendor::Mariadb => "SELECT User, Host, is_role FROM mysql.user ORDER BY is_role = 'N', User, Host",
        Vendor::Mysql => "SELECT User, Host, 'N' FROM mysql.user ORDER BY User, Host",
    };
    // Its passwords are bytes, some of which end a line.
    let shown = match server.vendor {
        Vendor::Mariadb => "",
        Vendor::Mysql => "/*!80017 SET SESSION print_identified_with_as_hex=1 */;\n",
    };
    let mut make = String::new();
    let mut grant = String::new();
    let mut set = String::new();
    for row in server.ask(question)? {
        let [user, host, is_role] = row.as_slice() else { continue };
        if is_of_the_system(user) {
            continue;
        }
        // PUBLIC has grants, but is no account, and isn't created.
        let is_public = is_role == "Y" && user == "PUBLIC";
        let account = match is_role.as_str() {
            _ if is_public => user.clone(),
            "Y" => quoted(user),
            _ => format!("{}@{}", literal(user), literal(host)),
        };
        match is_role.as_str() {
            _ if is_public => {}
            "Y" => make += &format!("CREATE ROLE IF NOT EXISTS {account};\n"),
            _ => {
                let text = server.value(&format!("{shown}SHOW CREATE USER {account}"))?;
                let rest = text.strip_prefix("CREATE USER ").unwrap_or(&text);
                let line = format!("CREATE USER IF NOT EXISTS {}", one_line(rest));
                let (line, roles) = split_default_roles(&line);
                make += &format!("{line};\n");
                set.extend(roles.map(|roles| format!("SET DEFAULT ROLE {roles} TO {account};\n")));
            }
        }
        for row in server.ask(&format!("SHOW GRANTS FOR {account}"))? {
            for line in row {
                grant += &format!("{};\n", one_line(&without_password(&line)));
            }
        }
    }
    Ok(format!("{make}{grant}{set}"))
}

/// A statement that makes an account, without its default roles, and those: MySQL writes them there, where they need not be yet.
pub(super) fn split_default_roles(line: &str) -> (String, Option<String>) {
    let tokens = SqlSession::new(999_999, true).reading.tokens(line.as_bytes()).unwrap_or_default();
    let is = |token: &SqlToken, word: &str| {
        token.kind == TokenKind::Word && line.as_bytes()[token.at.clone()].eq_ignore_ascii_case(word.as_bytes())
    };
    let Some(at) = tokens.windows(2).position(|pair| is(&pair[0], "DEFAULT") && is(&pair[1], "ROLE")) else {
        return (line.to_owned(), None);
    };
    let names = &tokens[at + 2..];
    let count = names.iter().take_while(|token| !matches!(token.kind, TokenKind::Word | TokenKind::Sign(b';'))).count();
    let Some(last) = names[..count].last().filter(|_| count > 0) else { return (line.to_owned(), None) };
    let roles = line[names[0].at.start..last.at.end].to_owned();
    let rest = line[last.at.end..].trim_start();
    let before = line[..tokens[at].at.start].trim_end();
    (format!("{before}{}{rest}", if rest.is_empty() || rest.starts_with(';') { "" } else { " " }), Some(roles))
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// A grant without clauses of `CREATE USER`, which would change an existing account here: its authentication and the
/// kinds of its connections. The grant option follows them, and stays.
pub(super) fn without_password(line: &str) -> String {
    let tokens = SqlSession::new(999_999, true).reading.tokens(line.as_bytes()).unwrap_or_default();
    let is = |token: &SqlToken, word: &str| {
        token.kind == TokenKind::Word && line.as_bytes()[token.at.clone()].eq_ignore_ascii_case(word.as_bytes())
    };
    let Some(of_account) = tokens.iter().find(|token| is(token, "IDENTIFIED") || is(token, "REQUIRE")) else {
        return line.to_owned();
    };
    let grants = tokens.windows(2).any(|pair| is(&pair[0], "GRANT") && is(&pair[1], "OPTION"));
    let before = line[..of_account.at.start].trim_end();
    format!("{before}{}", if grants { " WITH GRANT OPTION" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_roles_are_no_part_of_what_makes_an_account() {
        let split = |line: &str| split_default_roles(line);
        let (line, roles) = split(
            "CREATE USER `app`@`%` IDENTIFIED WITH 'p' AS 'a DEFAULT ROLE b' DEFAULT ROLE `r`@`%`,`s t`@`h` REQUIRE NONE PASSWORD \
             EXPIRE DEFAULT",
        );
        assert_eq!(
            line,
            "CREATE USER `app`@`%` IDENTIFIED WITH 'p' AS 'a DEFAULT ROLE b' REQUIRE NONE PASSWORD EXPIRE DEFAULT"
        );
        assert_eq!(roles.unwrap(), "`r`@`%`,`s t`@`h`");
        assert_eq!(
            split("CREATE USER `a`@`b` DEFAULT ROLE `r`@`%`;"),
            ("CREATE USER `a`@`b`;".to_owned(), Some("`r`@`%`".to_owned()))
        );
        for line in ["CREATE USER `DEFAULT ROLE x`@`%` PASSWORD EXPIRE DEFAULT", "CREATE USER a DEFAULT ROLE NONE"] {
            assert_eq!(split(line), (line.to_owned(), None));
        }
    }

    #[test]
    fn a_grant_holds_no_password() {
        for (line, without) in [
            ("GRANT USAGE ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*ABC'", "GRANT USAGE ON *.* TO `app`@`%`"),
            (
                "GRANT ALL PRIVILEGES ON *.* TO `a`@`%` IDENTIFIED BY PASSWORD '*ABC' REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5 GRANT OPTION",
                "GRANT ALL PRIVILEGES ON *.* TO `a`@`%` WITH GRANT OPTION",
            ),
            ("GRANT USAGE ON *.* TO `a`@`%` REQUIRE X509", "GRANT USAGE ON *.* TO `a`@`%`"),
            (
                "GRANT SELECT ON `x IDENTIFIED y`.* TO `a REQUIRE b`@`%`",
                "GRANT SELECT ON `x IDENTIFIED y`.* TO `a REQUIRE b`@`%`",
            ),
            ("GRANT `r` TO `a`@`%` WITH ADMIN OPTION", "GRANT `r` TO `a`@`%` WITH ADMIN OPTION"),
        ] {
            assert_eq!(without_password(line), without);
        }
        assert!(is_of_the_system("root") && !is_of_the_system("app"));
    }
}
