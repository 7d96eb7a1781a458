//! The options of the dump program, chosen by its and the server's abilities.

use std::ffi::OsString;

use super::program::{ServerProgram, Vendor};
use crate::source::Error;

/// The scope and the manner of a dump.
#[derive(Debug, Clone, Default)]
pub(super) struct DumpScope<'a> {
    pub databases: &'a [String],
    /// Whether the program dumps events.
    pub events: bool,
    /// The condition that each query for rows carries: an error where a setting of the session hides rows.
    pub guard: &'a str,
    /// `database.table` that are left out.
    pub exclude_tables: &'a [String],
    /// `database.table` whose rows are left out.
    pub schema_only_tables: &'a [String],
    /// Whether rows that tables with system versioning had before are dumped.
    pub history: bool,
    /// Whether the binary log's position is written into the preamble.
    pub position: bool,
}

/// The words after the program's name and the words that say where the server is.
///
/// # Errors
/// [`Error::Config`] if the program can't do what is wanted.
pub(super) fn flags(program: &ServerProgram, vendor: Vendor, wanted: &DumpScope<'_>) -> Result<Vec<OsString>, Error> {
    // Options that an option file may have changed are given again.
    let mut words: Vec<String> = [
        "--opt",
        // A table whose column takes its default from a sequence can't be loaded under a lock of its own (error 1100).
        "--skip-add-locks",
        "--comments",
        "--quote-names",
        "--single-transaction",
        "--order-by-primary",
        "--routines",
        "--triggers",
        "--hex-blob",
        "--tz-utc",
        "--default-character-set=utf8mb4",
        "--skip-dump-date",
        "--max-allowed-packet=1G",
    ]
    .map(str::to_owned)
    .to_vec();
    words.push(if wanted.events { "--events" } else { "--skip-events" }.to_owned());
    words.push(format!("--where={}", wanted.guard));
    let mut add = |option: &str, word: &str| {
        if program.knows(option) {
            words.push(word.to_owned());
        }
    };
    add("no-tablespaces", "--no-tablespaces");
    // MySQL's program asks any server for statistics, and its positions of transactions make a dump that can't be loaded.
    add("column-statistics", "--skip-column-statistics");
    // As a comment they tell where the dump stands; what is written beside it is taken out.
    let told = wanted.position && program.mentions("COMMENTED");
    add("set-gtid-purged", if told { "--set-gtid-purged=COMMENTED" } else { "--set-gtid-purged=OFF" });
    // They belong to no database.
    add("masking-policies", "--skip-masking-policies");
    if vendor == Vendor::Mysql {
        add("network-timeout", "--network-timeout");
    }
    if wanted.history {
        add("dump-history", "--dump-history");
    }
    if wanted.position {
        match program.knows("source-data") {
            true => add("source-data", "--source-data=2"),
            false => {
                add("master-data", "--master-data=2");
                // And the transactions, of which it says nothing otherwise.
                add("gtid", "--gtid");
            }
        }
    }
    for table in wanted.exclude_tables {
        words.push(format!("--ignore-table={table}"));
    }
    if let Some(table) = wanted.schema_only_tables.first()
        && !program.knows("ignore-table-data")
    {
        return Err(Error::Config(format!(
            "{} can't leave out the rows of {table} alone: it has no option --ignore-table-data; take the table out of \
             schema_only_tables",
            program.name
        )));
    }
    words.extend(wanted.schema_only_tables.iter().map(|table| format!("--ignore-table-data={table}")));
    words.push("--databases".to_owned());
    // A name that begins with a dash would be an option.
    words.push("--".to_owned());
    words.extend(wanted.databases.iter().cloned());
    Ok(words.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the help text of mysqldump 8.0.
    const MYSQL8: &str = "
  -y, --no-tablespaces
  --column-statistics Add an ANALYZE TABLE statement to regenerate any existing column statistics.
  --source-data[=#]   This causes the binary log position and filename to be appended to the output.
  --master-data[=#]   This option is deprecated and will be removed in a future version. Use source-data instead.
  --network-timeout   Allows huge tables to be dumped by setting max_allowed_packet to maximum value
  --set-gtid-purged[=name] Add 'SET @@GLOBAL.GTID_PURGED' to the output.
  --ignore-table=name Do not dump the specified table.";
    /// From that of mariadb-dump 10.11.
    const MARIADB: &str = "
  -y, --no-tablespaces
  -H, --dump-history  Dump system-versioned tables with history
  --master-data[=#]   This causes the binary log position and filename to be
  --ignore-table=name Do not dump the specified table.
  --ignore-table-data=name";

    fn words(help: &str, vendor: Vendor, wanted: &DumpScope<'_>) -> Vec<String> {
        let program = ServerProgram::new("dump", help.to_owned());
        let words = flags(&program, vendor, wanted).unwrap();
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn each_program_gets_what_it_knows() {
        let databases = ["agama".to_owned()];
        let wanted = DumpScope { databases: &databases, history: true, position: true, ..DumpScope::default() };
        let mysql = words(MYSQL8, Vendor::Mysql, &wanted);
        for word in ["--skip-column-statistics", "--set-gtid-purged=OFF", "--source-data=2", "--network-timeout"] {
            assert!(mysql.iter().any(|known| known == word), "{word}");
        }
        assert!(!mysql.iter().any(|word| word == "--dump-history" || word.starts_with("--master-data")));
        let mariadb = words(MARIADB, Vendor::Mariadb, &wanted);
        for word in
            ["--dump-history", "--master-data=2", "--no-tablespaces", "--single-transaction", "--skip-dump-date"]
        {
            assert!(mariadb.iter().any(|known| known == word), "{word}");
        }
        assert!(!mariadb.iter().any(|word| word.contains("statistics") || word.contains("gtid")));
        assert!(mariadb.ends_with(&["--databases".into(), "--".into(), "agama".into()]));
    }

    #[test]
    fn rows_are_left_out_only_where_the_program_can() {
        let tables = ["agama.log".to_owned()];
        let wanted = DumpScope { schema_only_tables: &tables, exclude_tables: &tables, ..DumpScope::default() };
        assert!(words(MARIADB, Vendor::Mariadb, &wanted).contains(&"--ignore-table-data=agama.log".to_owned()));
        let program = ServerProgram::new("mysqldump", MYSQL8.to_owned());
        assert!(matches!(flags(&program, Vendor::Mysql, &wanted), Err(Error::Config(_))));
    }
}
