//! Messages of the server's programs, without parts that may quote a row.

use crate::entry::Escaped;

/// Errors whose quotes hold names of objects, accounts, engines or variables, and nothing else.
const NAMES: &[&str] = &[
    "1005", "1007", "1008", "1010", "1016", "1017", "1021", "1022", "1031", "1044", "1045", "1046", "1049", "1050",
    "1051", "1054", "1061", "1067", "1068", "1069", "1071", "1072", "1075", "1091", "1100", "1102", "1103", "1109",
    "1113", "1114", "1115", "1118", "1127", "1130", "1142", "1143", "1146", "1147", "1193", "1205", "1213", "1214",
    "1215", "1227", "1231", "1235", "1269", "1273", "1286", "1304", "1305", "1322", "1347", "1350", "1356", "1359",
    "1360", "1363", "1370", "1372", "1396", "1404", "1410", "1418", "1419", "1435", "1439", "1449", "1450", "1478",
    "1524", "1527", "1536", "1537", "1539", "1577", "1696", "1813", "1901", "1905", "1911", "1932", "2002", "2005",
    "2006", "2013", "3780", "4025", "4031", "4091", "4092",
];

/// The number of the first error in a message of a client (`ERROR 1146 (42S02) at line 1: …`) or a dump program
/// (`mariadb-dump: Error 1412: …`, `Got error: 1146: …`).
pub(super) fn code(said: &str) -> Option<String> {
    let number = |rest: &str| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (digits.len() >= 4).then_some(digits)
    };
    let after = |mark: &str| said.match_indices(mark).find_map(|(at, mark)| number(&said[at + mark.len()..]));
    ["ERROR ", "Error ", "Got error: "].into_iter().find_map(after)
}

/// A client's message. In errors that may show a value of a row, or a part of a statement, quoted words are left out.
pub(super) fn redacted(said: &str) -> String {
    // A client prints the statement that failed, with its rows; only the text after `ERROR` is its own.
    let line = |line: &str| {
        let error = &line[line.find("ERROR ")?..];
        let number = error[6..].split(' ').next().unwrap_or_default();
        let shown = if NAMES.contains(&number) { error.to_owned() } else { without_quoted(error) };
        Some(Escaped(shown.as_bytes()).to_string())
    };
    match said.contains("ERROR ") {
        true => said.lines().filter_map(line).collect::<Vec<_>>().join("; "),
        false => Escaped(said.trim().as_bytes()).to_string(),
    }
}

/// A message without the text between its first and its last quote. An apostrophe within a word is none: `Can't`.
fn without_quoted(message: &str) -> String {
    let bytes = message.as_bytes();
    let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
    let mut quotes = message.match_indices(['\'', '"', '`']).map(|(at, _)| at);
    let begins = |at: &usize| *at == 0 || !letter(at - 1) || !letter(at + 1);
    let Some(first) = quotes.find(begins) else { return message.to_owned() };
    // After a single quote the value was truncated, or continues in the next line.
    match quotes.next_back() {
        Some(last) => format!("{}…{}", &message[..=first], &message[last..]),
        None => format!("{}…", &message[..=first]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_error_is_read_of_each_program() {
        for (said, expected) in [
            ("ERROR 1146 (42S02) at line 1: Table 'agama.x' doesn't exist", Some("1146")),
            ("mariadb-dump: Error 1412: Table definition has changed when dumping table `x` at row: 3", Some("1412")),
            ("mysqldump: Got error: 1045: \"Access denied\" when trying to connect", Some("1045")),
            ("ERROR: no number\nERROR 2013 (HY000): Lost connection", Some("2013")),
            ("Error 12: too short for a server's", None),
            ("killed by signal 9", None),
        ] {
            assert_eq!(code(said).as_deref(), expected, "{said}");
        }
    }

    #[test]
    fn no_value_of_a_row_is_shown() {
        for (said, shown) in [
            (
                "ERROR 1062 (23000) at line 5: Duplicate entry 'secret' for key 'PRIMARY'",
                "ERROR 1062 (23000) at line 5: Duplicate entry '…'",
            ),
            (
                "ERROR 1062 (23000) at line 5: Duplicate entry 'it's secret' for key 'PRIMARY'",
                "ERROR 1062 (23000) at line 5: Duplicate entry '…'",
            ),
            (
                "INSERT INTO t VALUES\n(1,'secret')\nERROR 1100 (HY000) at line 3: Table 'x' was not locked",
                "ERROR 1100 (HY000) at line 3: Table 'x' was not locked",
            ),
            (
                "ERROR 1064 (42000) at line 3: You have an error near 'secret' at line 1",
                "ERROR 1064 (42000) at line 3: You have an error near '…' at line 1",
            ),
            (
                "ERROR 1292 (22007): Incorrect datetime value: 'secret\nmore'",
                "ERROR 1292 (22007): Incorrect datetime value: '…",
            ),
        ] {
            assert_eq!(redacted(said), shown);
        }
    }

    #[test]
    fn a_message_stays_whole_where_it_holds_no_value() {
        for said in [
            "ERROR 1022 (23000) at line 40: Can't write; duplicate key in table 't'",
            "ERROR 1102 (42000) at line 1: Incorrect database name 'a/b'",
            "ERROR 4025 (23000) at line 60: CONSTRAINT `ck.a` failed for `db`.`ck`",
            "ERROR 9999 (HY000) at line 1: We can't go on",
        ] {
            assert_eq!(redacted(said), said);
        }
    }
}
