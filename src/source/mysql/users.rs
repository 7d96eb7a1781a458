//! Users, roles and grants, which no dump of a database holds.

use super::names::{literal, quoted};
use super::server::{Server, Vendor};
use crate::source::Error;

/// Accounts that belong to the server or to the distribution. They are not brought elsewhere.
const OF_THE_SYSTEM: [&str; 7] =
    ["root", "mysql", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", "debian-sys-maint"];

/// Whether an account of that name is the server's own.
pub fn is_of_the_system(user: &str) -> bool {
    OF_THE_SYSTEM.contains(&user)
}

/// The statements that make the users and roles of the server, one on each line, roles first.
///
/// # Errors
/// [`Error::Failed`] where the server doesn't tell.
pub fn users(server: &Server) -> Result<String, Error> {
    let question = match server.vendor {
        Vendor::Mariadb => "SELECT User, Host, is_role FROM mysql.user ORDER BY is_role = 'N', User, Host",
        Vendor::Mysql => "SELECT User, Host, 'N' FROM mysql.user ORDER BY User, Host",
    };
    let mut make = String::new();
    let mut grant = String::new();
    for row in server.ask(question)? {
        let [user, host, is_role] = row.as_slice() else { continue };
        if is_of_the_system(user) {
            continue;
        }
        // What is granted to everybody; nobody makes it.
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
                let text = server.value(&format!("SHOW CREATE USER {account}"))?;
                let rest = text.strip_prefix("CREATE USER ").unwrap_or(&text);
                make += &format!("CREATE USER IF NOT EXISTS {};\n", one_line(rest));
            }
        }
        for row in server.ask(&format!("SHOW GRANTS FOR {account}"))? {
            for line in row {
                grant += &format!("{};\n", one_line(without_password(&line)));
            }
        }
    }
    Ok(format!("{make}{grant}"))
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// A grant without the password, which `CREATE USER` has, and which here would change an account that is there.
fn without_password(line: &str) -> &str {
    line.split_once(" IDENTIFIED ").map_or(line, |(before, _)| before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_holds_no_password() {
        let line = "GRANT USAGE ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*ABC'";
        assert_eq!(without_password(line), "GRANT USAGE ON *.* TO `app`@`%`");
        assert!(is_of_the_system("root") && !is_of_the_system("app"));
    }
}
