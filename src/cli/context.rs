//! Context of a command: the global options, the environment and the configuration, resolved to one answer each.

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use varu::entry::Escaped;
use varu::job::Machine;
use varu::job::machine::DEFAULT_CONFIGURATION;
use varu::job::open::{OpenedRepositories, OpenedSnapshot};
use varu::job::spec::Configuration;
use varu::progress::Interrupt;
use varu::remote::limit::Rates;
use varu::repository::Chosen;
use varu::shell;
use varu::time::{Clock, SystemClock, Timestamp, Zone, parse_time, parse_until};

use super::exit::Failure;
use super::values::{Pick, When};
use crate::config::{self, parse_rate};
use crate::terminal::human::one_line;

/// The options that go with every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The configuration file [default: /etc/varu/varu.toml, where there is one].
    #[arg(long, global = true, value_name = "FILE", env = "VARU_CONFIG", hide_env_values = true)]
    config: Option<OsString>,

    /// The repository: a folder, sftp://USER@HOST/PATH or USER@HOST:PATH.
    #[arg(long, global = true, value_name = "URL", env = "VARU_REPO", hide_env_values = true)]
    repo: Option<String>,

    /// The writer key's file.
    #[arg(long, global = true, value_name = "FILE", env = "VARU_WRITER_KEY", hide_env_values = true)]
    writer_key: Option<OsString>,

    /// The identity's file.
    #[arg(long, global = true, value_name = "FILE", env = "VARU_IDENTITY", hide_env_values = true)]
    identity: Option<OsString>,

    /// The folder of the index and the base cache.
    #[arg(long, global = true, value_name = "DIR", env = "VARU_STATE", hide_env_values = true)]
    state: Option<OsString>,

    /// The most bytes a second to the repository: 500k, 2M, "10 MB".
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    limit_upload: Option<NonZeroU64>,

    /// The most bytes a second from the repository.
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    limit_download: Option<NonZeroU64>,

    /// Print one JSON document, and progress as JSON lines, on standard output.
    #[arg(long, global = true)]
    pub json: bool,

    /// Print more.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,

    /// Print only warnings and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// What a person wants to know.
    Normal,
    /// More than that.
    Verbose,
}

/// The environment of the process: the variables that were set for it, and who runs it.
pub struct ProcessEnvironment<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether root runs the program.
    pub is_root: bool,
}

impl ProcessEnvironment<'static> {
    /// The process's own.
    pub fn of_the_process() -> Self {
        // A process's folder in /proc belongs to the user that it acts as.
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Self { variable: &|name| std::env::var_os(name), is_root }
    }
}

impl ProcessEnvironment<'_> {
    /// The folder that a variable names. An empty one, and one that isn't absolute, counts as not set.
    fn folder(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).map(PathBuf::from).filter(|folder| folder.is_absolute())
    }

    /// `$STATE_DIRECTORY` is a list where a unit has several; the first is meant.
    fn state_directory(&self) -> Option<PathBuf> {
        let list = (self.variable)("STATE_DIRECTORY")?;
        let first = std::env::split_paths(&list).next();
        first.filter(|folder| folder.is_absolute())
    }

    /// The folder in which systemd hands a service its secrets.
    fn credentials(&self) -> Option<PathBuf> {
        self.folder("CREDENTIALS_DIRECTORY")
    }

    /// Where a secret of the configuration is read: a credential of the same name takes precedence over the file itself, which a
    /// service of another account than root can't read.
    fn secret(&self, path: &Path) -> PathBuf {
        let credential = path.file_name().and_then(|name| Some(self.credentials()?.join(name)));
        credential.filter(|credential| credential.is_file()).unwrap_or_else(|| path.to_owned())
    }

    /// A folder of ours: the system's for root, else below what `variable` names or below the home folder.
    fn own_folder(&self, system: &str, variable: &str, below_home: &str) -> Option<PathBuf> {
        if self.is_root {
            return Some(PathBuf::from(system));
        }
        let base = self.folder(variable).or_else(|| Some(self.folder("HOME")?.join(below_home)))?;
        Some(base.join("varu"))
    }
}

/// What a command is run with.
pub struct Context {
    /// The machine, its repository and its configuration.
    pub machine: Machine,
    /// Whether results are printed as JSON.
    pub json: bool,
    /// How much is said.
    pub verbosity: Verbosity,
}

impl Context {
    /// Reads the configuration and resolves all that every command needs: options go before variables, these before the
    /// configuration, and that before defaults.
    ///
    /// # Errors
    ///
    /// A configuration that is wrong, or that was named and can't be read.
    pub fn resolve(globals: Globals, around: &ProcessEnvironment, interrupt: Interrupt) -> Result<Self, Failure> {
        let (mut configuration, configuration_file) = load_config(path(globals.config))?;
        configuration.secrets_mut().into_iter().for_each(|secret| *secret = around.secret(secret));
        let configured = &configuration.repository;
        let rates = Rates {
            upload: globals.limit_upload.or(configured.limit_upload),
            download: globals.limit_download.or(configured.limit_download),
        };
        let machine = Machine {
            repository: globals.repo.filter(|url| !url.is_empty()).or_else(|| configured.url.clone()),
            writer_key: path(globals.writer_key).or_else(|| configured.writer_key.clone()),
            identity: path(globals.identity).or_else(|| configured.identity.clone()),
            keys: around.credentials().or_else(|| around.own_folder("/etc/varu", "XDG_CONFIG_HOME", ".config")),
            state: path(globals.state)
                .or_else(|| around.state_directory())
                .or_else(|| around.own_folder("/var/lib/varu", "XDG_STATE_HOME", ".local/state")),
            zone: Zone::Local,
            interrupt,
            rates,
            configuration,
            configuration_file,
        };
        let verbosity = match (globals.quiet, globals.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Ok(Self { machine, json: globals.json, verbosity })
    }

    /// The same, on another machine's repository.
    pub fn on(&self, machine: Machine) -> Self {
        Self { machine, json: self.json, verbosity: self.verbosity }
    }

    /// The first moment that a word of the command line means.
    pub fn time(&self, word: &str) -> Result<Timestamp, Failure> {
        Ok(parse_time(word, SystemClock.now(), self.machine.zone)?)
    }

    /// The last moment that a word of the command line means: a day, a minute and a second are meant as a whole.
    pub fn until(&self, word: &str) -> Result<Timestamp, Failure> {
        Ok(parse_until(word, SystemClock.now(), self.machine.zone)?)
    }

    /// Finds the snapshot that a word names.
    pub fn find(&self, opened: &OpenedRepositories, pick: &Pick) -> Result<OpenedSnapshot, Failure> {
        Ok(match pick {
            Pick::Any(word) => opened.find(None, &word.into())?,
            Pick::Of(set, when) => opened.find(Some(set), &self.chosen(when)?)?,
        })
    }

    /// Which snapshot of a set is meant.
    pub fn chosen(&self, when: &When) -> Result<Chosen, Failure> {
        Ok(match when {
            When::Latest => Chosen::Latest,
            When::Until(time) => Chosen::At(self.until(time)?),
        })
    }

    /// The option that names the repository at `place`, as a command has to give it; none where the configuration does.
    pub fn repo_option(&self, place: &str) -> String {
        match self.machine.configuration.repository.url == self.machine.repository {
            true => String::new(),
            false => format!(" --repo {}", shell::quoted(place)),
        }
    }

    /// Tells a person how it went; nothing with `-q`.
    pub fn tell(&self, text: &str) -> Result<(), Failure> {
        match self.verbosity {
            Verbosity::Quiet => Ok(()),
            Verbosity::Normal | Verbosity::Verbose => self.print(text),
        }
    }

    /// Prints a result for people: lines without anything that a terminal could take for a command, whatever they name.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let line = |line: &str| match line.strip_suffix('\n') {
            Some(line) => one_line(line) + "\n",
            None => one_line(line),
        };
        print(text.split_inclusive('\n').map(line).collect::<String>().as_bytes())
    }

    /// Prints a result as a JSON document on one line.
    pub fn print_json(&self, document: &impl Serialize) -> Result<(), Failure> {
        print(format!("{}\n", json_text(document)?).as_bytes())
    }
}

/// A document in one line that no terminal takes for anything else.
pub fn json_text(document: &impl Serialize) -> Result<String, Failure> {
    let line = serde_json::to_string(document).map_err(|error| Failure::printing(&error.into()))?;
    Ok(plain_json(&line))
}

/// Writes all of `bytes` to standard output.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::printing(&error))
}

/// The same document, with all that a terminal could take for a command as `\uNNNN`. Outside of strings JSON has none of it.
pub fn plain_json(document: &str) -> String {
    let mut plain = String::with_capacity(document.len());
    for c in document.chars() {
        match c == '\\' || Escaped(c.encode_utf8(&mut [0; 4]).as_bytes()).to_string().len() == c.len_utf8() {
            true => plain.push(c),
            false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| plain += &format!("\\u{unit:04x}")),
        }
    }
    plain
}

/// An option's path. An empty one, as a variable may be, counts as not given.
fn path(option: Option<OsString>) -> Option<PathBuf> {
    option.filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The named configuration, else the default one, else none.
fn load_config(named: Option<PathBuf>) -> Result<(Configuration, Option<PathBuf>), Failure> {
    let usual = Path::new(DEFAULT_CONFIGURATION);
    match named.or_else(|| usual.exists().then(|| usual.to_owned())) {
        Some(path) => Ok((config::load(&path)?, Some(path))),
        None => Ok((Configuration::default(), None)),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    /// The context of a command line, in the given surroundings, with `config` as configuration.
    pub fn context(words: &[&str], config: &str, root: bool, variables: &[(&str, &str)]) -> Result<Context, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("varu.toml");
        std::fs::write(&file, config).unwrap();
        let words = ["varu", "--config", file.to_str().unwrap(), "list"].into_iter().chain(words.iter().copied());
        let cli = Cli::try_parse_from(words).unwrap();
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Context::resolve(cli.globals, &ProcessEnvironment { variable: &variable, is_root: root }, Interrupt::default())
    }

    #[test]
    fn root_has_the_systems_folders() {
        let context = context(&[], "", true, &[("HOME", "/root"), ("XDG_STATE_HOME", "/x")]).unwrap();
        assert_eq!(context.machine.state().unwrap(), Path::new("/var/lib/varu"));
        assert_eq!(context.machine.keys().unwrap(), Path::new("/etc/varu"));
    }

    #[test]
    fn a_user_has_folders_at_home() {
        let at_home = context(&[], "", false, &[("HOME", "/home/u"), ("XDG_STATE_HOME", "relative")]).unwrap();
        assert_eq!(at_home.machine.state().unwrap(), Path::new("/home/u/.local/state/varu"));
        assert_eq!(at_home.machine.keys().unwrap(), Path::new("/home/u/.config/varu"));
        let elsewhere = [("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")];
        let elsewhere = context(&[], "", false, &elsewhere).unwrap();
        assert_eq!(elsewhere.machine.state().unwrap(), Path::new("/s/varu"));
        assert_eq!(elsewhere.machine.keys().unwrap(), Path::new("/c/varu"));
        let nowhere = context(&[], "", false, &[]).unwrap();
        assert!(nowhere.machine.state().unwrap_err().to_string().contains("--state"));
        assert!(nowhere.machine.keys().unwrap_err().to_string().contains("--writer-key"));
    }

    #[test]
    fn a_unit_says_where_its_state_is_and_an_option_goes_before() {
        let unit = [("STATE_DIRECTORY", "/var/lib/private/varu:/other")];
        assert_eq!(context(&[], "", true, &unit).unwrap().machine.state().unwrap(), Path::new("/var/lib/private/varu"));
        assert_eq!(context(&["--state", "here"], "", true, &unit).unwrap().machine.state().unwrap(), Path::new("here"));
    }

    #[test]
    fn an_option_goes_before_the_configuration() {
        let config = "[repository]\nurl = '/srv/vault'\nwriter_key = '/k'\nidentity = '/i'";
        let configured = context(&[], config, true, &[]).unwrap();
        assert_eq!(configured.machine.repository().unwrap(), "/srv/vault");
        assert_eq!(configured.machine.writer_key.as_deref(), Some(Path::new("/k")));
        let empty = ["--repo", "", "--writer-key", "", "--identity", ""];
        let empty = context(&empty, config, true, &[]).unwrap();
        assert_eq!(
            (empty.machine.repository().unwrap(), empty.machine.identity.as_deref()),
            ("/srv/vault", Some(Path::new("/i")))
        );
        let words = ["--repo", "./v", "--writer-key", "k", "--identity", "i", "-q"];
        let given = context(&words, config, true, &[]).unwrap();
        assert_eq!(given.machine.repository().unwrap(), "./v");
        assert_eq!(
            (given.machine.writer_key.as_deref(), given.machine.identity.as_deref()),
            (Some(Path::new("k")), Some(Path::new("i")))
        );
        assert_eq!(given.verbosity, Verbosity::Quiet);
        assert!(
            context(&[], "", true, &[]).unwrap().machine.repository().unwrap_err().to_string().contains("VARU_REPO")
        );
    }

    #[test]
    fn a_limit_of_the_command_line_goes_before_the_configurations() {
        let config = "[repository]\nlimit_upload = '1 MB'\nlimit_download = 4096";
        let rates = |words: &[&str]| {
            let rates = context(words, config, true, &[]).unwrap().machine.rates;
            (rates.upload.map(NonZeroU64::get), rates.download.map(NonZeroU64::get))
        };
        assert_eq!(rates(&[]), (Some(1_000_000), Some(4096)));
        assert_eq!(rates(&["--limit-upload", "2M"]), (Some(2 << 20), Some(4096)));
        assert_eq!(context(&[], "", true, &[]).unwrap().machine.rates, Rates::default());
    }

    #[test]
    fn an_unknown_set_is_told_with_its_nearest() {
        let config = "[sets.agama]\nsource = 'files'\npaths = ['/a']\n[sets.db]\nsource = 'influxdb'\ndatabase = 'x'";
        let context = context(&[], config, true, &[]).unwrap();
        assert!(context.machine.set("agama").is_ok());
        assert!(context.machine.set("agamma").unwrap_err().to_string().contains("did you mean agama?"));
        assert!(context.machine.set("x").unwrap_err().to_string().contains("it has agama, db"));
        assert!(context.machine.set("db").is_ok());
    }
}
