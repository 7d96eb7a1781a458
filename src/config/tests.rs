use std::collections::BTreeSet;

use super::keys::{KEYS, Key};
use super::*;
use varu::job::spec::SourceSpec;
use varu::source::Databases;
use varu::warning::WarningKind;

const DAY: u64 = 86_400;

fn parse(text: &str) -> Configuration {
    super::parse(text.to_owned()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// The errors as `line: message`.
fn errors(text: &str) -> Vec<String> {
    let problems = super::parse(text.to_owned()).expect_err("the configuration is wrong");
    problems.into_iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
}

#[track_caller]
fn one_error(text: &str) -> String {
    let mut errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

/// The example of `docs/configuration.md`.
fn example() -> String {
    let page = include_str!("../../docs/configuration.md");
    let (_, after) = page.split_once("```toml\n").unwrap();
    after.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_example_says_what_it_seems_to_say() {
    let config = parse(&example());
    assert_eq!(config.repository.url.as_deref(), Some("sftp://vm1@backup.example/repo"));
    assert_eq!(config.retention.keep, Duration::from_secs(28 * DAY));
    assert_eq!(config.retention.tags["pre-deploy"], TagRule::Newest(2));
    assert_eq!(config.retention.tags["monthly"], TagRule::For(Duration::from_secs(365 * DAY)));
    assert_eq!(config.environment.restore_from, Some(vec!["production".to_owned()]));
    let agama = &config.sets["agama"];
    let SourceSpec::Mysql(mysql) = &agama.source else { panic!("{agama:?}") };
    assert_eq!(mysql.databases, Databases::Only(vec!["agama".to_owned()]));
    assert_eq!(agama.schedule.zone, "Europe/Tallinn".parse().unwrap());
    assert_eq!(agama.rpo, Some(Duration::from_secs(DAY)));
    assert_eq!(agama.local_copy.as_ref().unwrap().folder, Path::new("/var/backups/varu/agama"));
    assert_eq!((agama.full_every, agama.max_shrink, agama.restore_order), (7, 50, Some(1)));
    assert_eq!(agama.hooks.before[0].program.words, ["sh", "-c", "logger 'a backup begins'"]);
    assert_eq!(agama.hooks.after[0].limit, Duration::from_secs(30));
    let SourceSpec::Influxdb(influxdb) = &config.sets["telegraf"].source else { panic!() };
    assert_eq!(influxdb.database, "telegraf");
    let SourceSpec::Files(files) = &config.sets["system"].source else { panic!() };
    assert_eq!(files.paths, [Path::new("/etc"), Path::new("/home")]);
    assert!(files.one_file_system);
    let SourceSpec::Command(command) = &config.sets["ldap"].source else { panic!() };
    assert_eq!(command.commands.len(), 1);
    assert_eq!(command.commands[0].1.words, ["slapcat", "-n", "1"]);
    assert_eq!(command.min_size, 10_000);
    assert_eq!(config.text, Some(example()));
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = parse("");
    assert_eq!(config, Configuration { text: Some(String::new()), ..Configuration::default() });
    assert_eq!((config.repository.connections, config.repository.isolate_chains), (8, false));
    assert_eq!((config.retention.keep.as_secs(), config.retention.grace.as_secs()), (28 * DAY, DAY));
    let set = parse("[sets.a]\nsource = 'files'\npaths = ['/a']").sets.remove("a").unwrap();
    assert_eq!((set.full_every, set.repack_budget, set.max_shrink, set.schedule.zone), (7, 10, 50, Default::default()));
}

#[test]
fn every_error_is_told_at_once_with_its_line() {
    let text = "\
[repository]
url = \"vault\"
conections = 4

[sets.Agama]
source = \"mysql\"
full_evry = \"7 days\"

[sets.etc]
source = \"files\"
paths = [\"etc\"]
databases = [\"agama\"]
password = \"geheim\"
rpo = \"24 fortnights\"
schedule = { timezone = \"Europe/Talinn\", ful = \"Sun\" }

[retention]
url = \"/a\"
grace = 24
";
    assert_eq!(
        errors(text),
        [
            "2: repository.url: an absolute path or a URL is expected, found \"vault\"",
            "3: repository.conections: there is no such key; did you mean connections?",
            "5: \"Agama\" can't name a set: 1 to 63 of a-z, 0-9, '_', '.' and '-' are expected, a letter or digit first",
            "5: sets.Agama.databases is missing",
            "7: sets.Agama.full_evry: there is no such key; did you mean full_every?",
            "11: sets.etc.paths: an absolute path is expected, found \"etc\"",
            "12: sets.etc.databases: is a key of the source mysql, postgresql; this set's source is files",
            "13: sets.etc.password: secrets are never in this file: MySQL reads its option file (option_file) or the \
             socket's authentication, PostgreSQL ~/.pgpass or the socket's, SSH its own configuration",
            "14: sets.etc.rpo: \"fortnights\" is not a unit of time: s, min, h, days, weeks, months (30 days) and years \
             (365 days) are known",
            "15: sets.etc.schedule.ful: there is no such key; did you mean full?",
            "15: sets.etc.schedule.timezone: \"Europe/Talinn\" is not a time zone: a name of the IANA database is \
             expected, as \"Europe/Tallinn\" or \"UTC\"; did you mean \"Europe/Tallinn\"?",
            "18: retention.url: there is no such key here; url belongs in [repository]",
            "19: retention.grace: a duration in quotes, as \"4 weeks\", is expected, found an integer",
        ]
    );
}

#[test]
fn errors_of_form_have_their_lines_too() {
    let errors = errors("[repository]\nurl = \n\n[sets.a]\nsource = 'files\n");
    assert!(errors.len() >= 2, "{errors:?}");
    assert!(errors[0].starts_with("2: ") && errors[1].starts_with("5: "), "{errors:?}");
    assert!(one_error("[retention]\nkeep = '1 day'\nkeep = '2 days'\n").starts_with("3: duplicate key"));
}

#[test]
fn an_error_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("varu.toml");
    std::fs::write(&path, "[sets.a]\nsource = 'file'\n").unwrap();
    let error = load(&path).unwrap_err().to_string();
    let expected = format!(
        "the configuration has 1 error:\n  {}:2: sets.a.source: there is no source \"file\"; did you mean files?",
        path.display()
    );
    assert_eq!(error, expected);
    let error = load(&folder.path().join("other.toml")).unwrap_err().to_string();
    assert!(error.contains("other.toml can't be read: No such file or directory"), "{error}");
}

#[test]
fn a_secret_is_refused_wherever_it_stands_and_not_repeated() {
    for name in ["password", "mysql_password", "api_key", "PASS", "token"] {
        let error = one_error(&format!("[repository]\n{name} = \"geheim\""));
        assert!(error.contains("secrets are never in this file") && !error.contains("geheim"), "{error}");
    }
}

#[test]
fn keys_that_need_or_exclude_each_other_are_told() {
    let set = |keys: &str| one_error(&format!("[sets.a]\n{keys}"));
    assert_eq!(set("paths = ['/a']"), "1: sets.a.source is missing");
    assert!(
        set("source = 'mysql'\ndatabases = ['b']\nexclude = ['c']").starts_with("4: sets.a.exclude: leaves databases")
    );
    assert!(
        set("source = 'mysql'\ndatabases = 'some'").starts_with("3: sets.a.databases: a list of names, or \"all\"")
    );
    assert!(set("source = 'mysql'\ndatabases = 'all'\nhost = 'h'\nsocket = '/s'").contains("not both"));
    assert!(set("source = 'mysql'\ndatabases = 'all'\ndump_by = 'external'").contains("local_copy, which is missing"));
    assert!(set("source = 'mysql'\ndatabases = 'all'\nkeep_local = 2").contains("local_copy, which is missing"));
    assert!(set("source = 'files'\npaths = []").contains("at least one path"));
    assert!(set("source = 'files'\npaths = ['/a']\nbefore = [{ runs = 'x' }]").contains("keys of a command"));
}

#[test]
fn several_programs_stand_in_place_of_one() {
    let set = |text: &str| format!("[sets.a]\nsource = 'command'\n{text}");
    let config = parse(&set("commands = { b = 'x', a = ['y'] }\nrestore_command = 'z'\nrpo = '1 h'"));
    let SourceSpec::Command(command) = &config.sets["a"].source else { panic!() };
    assert_eq!(command.commands.iter().map(|(name, _)| name.as_deref()).collect::<Vec<_>>(), [Some("a"), Some("b")]);
    assert_eq!(config.not_acted_on, ["sets.a.rpo"]);
    assert!(one_error(&set("commands = { b = 'x' }\ncommand = 'y'")).contains("not both"));
    assert!(one_error(&set("min_size = 1")).contains("sets.a.command is missing"));
}

/// A value that no key takes.
const NEVER: &str = "[[[]]]";

#[test]
fn every_key_in_the_table_is_read_for_each_of_its_sources() {
    for key in KEYS {
        let text = match key.part {
            ConfigTable::Root => format!("{} = {NEVER}", key.name),
            ConfigTable::Repository => format!("[repository]\n{} = {NEVER}", key.name),
            ConfigTable::Retention => format!("[retention]\n{} = {NEVER}", key.name),
            ConfigTable::Environment => format!("[environment]\n{} = {NEVER}", key.name),
            ConfigTable::Restore => format!("[restores.a]\n{} = {NEVER}", key.name),
            ConfigTable::Schedule => {
                format!("[sets.a]\nsource = 'files'\npaths = ['/a']\nschedule.{} = {NEVER}", key.name)
            }
            ConfigTable::Hook => {
                let run = if key.name == "run" { "" } else { "run = 'x', " };
                format!("[sets.a]\nsource = 'files'\npaths = ['/a']\nbefore = [{{ {run}{} = {NEVER} }}]", key.name)
            }
            ConfigTable::Policy | ConfigTable::Account | ConfigTable::AccountSet => unreachable!("of another document"),
            ConfigTable::Set => {
                for source in key.sources {
                    assert_read(key, &format!("[sets.a]\nsource = '{}'\n{} = {NEVER}", source.name(), key.name));
                }
                format!("[sets.a]\n{} = {NEVER}", key.name)
            }
        };
        if key.sources.is_empty() {
            assert_read(key, &text);
        }
    }
}

/// That the value of `key` was looked at: it is told to be wrong.
#[track_caller]
fn assert_read(key: &Key, text: &str) {
    let errors = errors(text);
    let name = format!("{}: ", key.name);
    assert!(
        errors.iter().any(|error| error.contains(&name) && error.contains("expected")),
        "{} is not read: {errors:?}",
        key.name
    );
}

#[test]
fn the_documentation_has_every_key_and_no_other() {
    let page = include_str!("../../docs/configuration.md");
    let mut part = None;
    let mut documented = BTreeSet::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            part = ConfigTable::ALL.iter().find(|(_, name)| heading.contains(name)).map(|(part, _)| *part);
        }
        if let (Some(part), Some((name, rest))) = (part, line.strip_prefix("| `").and_then(|row| row.split_once('`'))) {
            let acted_on = !rest.starts_with(" †");
            assert!(documented.insert((format!("{part:?}"), name.to_owned(), acted_on)), "{name} twice");
        }
    }
    let known = KEYS.iter().filter(|key| key.part != ConfigTable::Root);
    let known: BTreeSet<_> = known.map(|key| (format!("{:?}", key.part), key.name.to_owned(), key.acted_on)).collect();
    assert_eq!(documented, known);
}

#[test]
fn any_text_is_read_or_refused() {
    use proptest::prelude::*;
    let words = prop::sample::select(vec![
        "[sets.a]",
        "[repository]",
        "source",
        "url",
        "=",
        "'files'",
        "'mysql'",
        "paths",
        "['/a']",
        "\n",
        "{",
        "}",
        "[",
        "]",
        "'7 days'",
        "schedule",
        ".",
        ",",
        "é",
        "9",
        "tags",
        "before",
        "\0",
        "keep",
    ]);
    proptest!(|(text in prop::collection::vec(words, 0..40))| {
        let _ = super::parse(text.concat());
        let _ = super::parse(text.join("\n"));
    });
}

#[test]
fn a_warning_is_acknowledged_by_its_name() {
    let set = |names: &str| {
        format!("[repository]\nurl = '/vault'\n[sets.etc]\nsource = 'files'\npaths = ['/etc']\nacknowledge = [{names}]")
    };
    let config = parse(&set("'left-out: /etc/x', 'changed-while-read'"));
    let known = &config.sets["etc"].acknowledge;
    let takes = |text: &str, at: usize| known[at].takes(&WarningKind::LeftOut.warning(text));
    assert!(takes("/etc/x can't be read", 0) && !takes("/etc/y can't be read", 0) && !takes("/etc/x can't be read", 1));
    let wrong = one_error(&set("'left_out'"));
    assert!(wrong.contains("\"left_out\"; did you mean left-out?"), "{wrong}");
}

#[test]
fn the_documentation_has_every_warning_and_no_other() {
    let page = include_str!("../../docs/configuration.md");
    let (_, section) = page.split_once("\n## Warnings\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), WarningKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>());
}
