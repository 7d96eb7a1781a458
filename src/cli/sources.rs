//! The one place where a set of the configuration meets the code of its source: what reads it, what another job left of it,
//! what a check tries, and the service that it goes back into.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use varu::entry::StreamName;
use varu::progress::Progress;
use varu::remote::place::Place;
use varu::source::command::many::CommandsSource;
use varu::source::command::{self, CommandOptions};
use varu::source::files::{FilesOptions, FilesSource};
use varu::source::influxdb::{self, InfluxdbSource};
use varu::source::mysql::{self, MysqlSource};
use varu::source::postgresql::{self, PostgresqlSource};
use varu::source::{self, Error, Finding, IntoOptions, Service};
use varu::time::{SystemClock, Timestamp};

use super::context::Context;
use super::watch::Watch;
use crate::config::{Files, Source, SourceKind};

/// The source that reads a set's data as it is now.
pub fn fresh(
    name: &str,
    source: &Source,
    context: &Context,
    watch: &Arc<Watch>,
) -> Result<Box<dyn source::Source>, Error> {
    let (clock, progress, interrupt) = (&SystemClock, watch.clone(), context.interrupt.clone());
    Ok(match source {
        Source::Files(files) => {
            let options = FilesOptions {
                paths: files.paths.clone(),
                exclude: files.exclude.clone(),
                one_file_system: files.one_file_system,
                exclude_caches: files.exclude_caches,
                own: own(files, context, watch),
            };
            Box::new(FilesSource::new(&options, clock)?)
        }
        Source::Command(command) => {
            let commands: Result<Vec<CommandOptions>, Error> = command
                .commands
                .iter()
                .map(|(stream, program)| {
                    let stream = StreamName::new(stream.as_deref().unwrap_or(name));
                    let stream = stream.map_err(|error| Error::Config(error.to_string()))?;
                    let argv = program.words.iter().map(OsString::from).collect();
                    let (completion, min_size) = (command.completion.clone(), command.min_size);
                    let stall_limit = command.stall_limit;
                    Ok(CommandOptions { completion, min_size, stall_limit, ..CommandOptions::new(stream, argv) })
                })
                .collect();
            Box::new(CommandsSource::new(commands?, clock, progress, interrupt))
        }
        Source::Mysql(mysql) => Box::new(MysqlSource::new(&mysql.options(), clock, progress, interrupt)?),
        Source::Postgresql(postgresql) => {
            Box::new(PostgresqlSource::new(&postgresql.options(), clock, progress, interrupt)?)
        }
        Source::Influxdb(influxdb) => {
            let scratch = scratch(context, &format!("influxdb-{name}"))?;
            Box::new(InfluxdbSource::new(&influxdb.options(), &scratch, clock, &interrupt)?)
        }
    })
}

/// What is varu's own and stays out of a backup of files: what lies below the paths is named.
fn own(files: &Files, context: &Context, watch: &Watch) -> Vec<PathBuf> {
    let repository = match context.place() {
        Ok(Place::Local(path)) => Some(path),
        _ => None,
    };
    let state = context.state().ok().map(Path::to_owned);
    let keys = context.keyring().key_files().into_iter().map(|path| (path, "a key"));
    let folders = [(repository, "the repository"), (state, "the state of varu")];
    let folders = folders.into_iter().filter_map(|(path, what)| Some((path?, what)));
    let real = |path: &Path| path.canonicalize().ok();
    let mut own = Vec::new();
    for (path, what) in folders.chain(keys).filter_map(|(path, what)| Some((real(&path)?, what))) {
        if files.paths.iter().filter_map(|given| real(given)).any(|given| path != given && path.starts_with(given)) {
            watch.note(&format!("left out: {}, {what}", path.display()));
        }
        own.push(path);
    }
    own
}

/// The source that reads what another job left in `folder`, and when the oldest of that was written.
pub fn external(
    source: &Source,
    folder: &Path,
    context: &Context,
) -> Result<(Box<dyn source::Source>, Timestamp), Error> {
    Ok(match source {
        Source::Mysql(_) => {
            let dumps = mysql::external::ExternalDumps::open(folder)?;
            let time = dumps.data_time();
            (Box::new(dumps), time)
        }
        Source::Postgresql(_) => {
            let dumps = postgresql::external::ExternalDumps::open(folder)?;
            let time = dumps.data_time();
            (Box::new(dumps), time)
        }
        Source::Influxdb(influxdb) => {
            let (dumps, time) = InfluxdbSource::external(&influxdb.options(), folder, &context.interrupt)?;
            (Box::new(dumps), time)
        }
        other => {
            return Err(Error::Config(format!("the source {} reads no dumps of another job", other.kind().name())));
        }
    })
}

/// Tries all that a backup of a server's data needs. None where the source has no server.
pub fn check(source: &Source, context: &Context) -> Option<Vec<Finding>> {
    match source {
        Source::Mysql(mysql) => Some(mysql::checkup::check(&mysql.options(), &context.interrupt)),
        Source::Postgresql(postgresql) => Some(postgresql::checkup::check(&postgresql.options(), &context.interrupt)),
        Source::Influxdb(influxdb) => Some(influxdb::checkup::check(&influxdb.options(), &context.interrupt)),
        Source::Files(_) | Source::Command(_) => None,
    }
}

/// The sources whose data goes back into a service.
pub const SERVICES: [SourceKind; 4] =
    [SourceKind::Mysql, SourceKind::Postgresql, SourceKind::Influxdb, SourceKind::Command];

/// How long nothing must have been written to a database of InfluxDB before it is dropped: Telegraf writes every 10 seconds.
const QUIET: Duration = Duration::from_secs(12);

/// A folder for what a program writes before it is read.
fn scratch(context: &Context, name: &str) -> Result<PathBuf, Error> {
    let state = context.state().map_err(|failure| Error::Config(failure.message))?;
    Ok(state.join("scratch").join(name))
}

/// What is wanted of a service.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The set's name.
    pub set: String,
    /// What is wanted of every service.
    pub options: IntoOptions,
    /// The option file with which it is written to, where that isn't the set's.
    pub option_file: Option<PathBuf>,
    /// The account with which it is written to, where that isn't the set's.
    pub user: Option<String>,
}

/// The service that a snapshot of a set goes back into. Without a set it is looked for where its programs look.
pub fn service(
    kind: SourceKind,
    set: Option<&Source>,
    wanted: Wanted,
    context: &Context,
) -> Result<Box<dyn Service>, Error> {
    let Wanted { set: set_name, options, option_file, user } = wanted;
    Ok(match kind {
        SourceKind::Mysql => {
            let mut server = match set {
                Some(Source::Mysql(mysql)) => mysql.server_options(),
                _ => Default::default(),
            };
            server.option_file = option_file.or(server.option_file);
            Box::new(mysql::into::MysqlTarget::connect(&server, options, &context.interrupt)?)
        }
        SourceKind::Postgresql => {
            let mut server = match set {
                Some(Source::Postgresql(postgresql)) => postgresql.server_options(),
                _ => Default::default(),
            };
            server.user = user.or(server.user);
            let as_superuser = matches!(set, Some(Source::Postgresql(postgresql)) if postgresql.restore_as_superuser);
            let target = postgresql::into::PostgresqlTarget::connect(&server, options, &context.interrupt)?;
            Box::new(target.as_superuser(as_superuser))
        }
        SourceKind::Influxdb => {
            let mut server = match set {
                Some(Source::Influxdb(influxdb)) => influxdb.server_options(),
                _ => Default::default(),
            };
            server.option_file = option_file.or(server.option_file);
            if !options.only.is_empty() {
                return Err(Error::Config("a database of InfluxDB is restored as a whole, without --only".to_owned()));
            }
            let scratch = scratch(context, &format!("into-influxdb-{}", options.stamp))?;
            let needs = influxdb::into::Needs { scratch, quiet: QUIET };
            Box::new(influxdb::into::InfluxdbTarget::connect(&server, options, needs, &context.interrupt)?)
        }
        SourceKind::Command => {
            let program = match set {
                Some(Source::Command(command)) => command.restore_command.as_ref(),
                _ => None,
            };
            let Some(program) = program else {
                return Err(Error::Config(format!(
                    "the set {set_name} has no restore_command in the configuration; --to DIR restores its streams as files"
                )));
            };
            if options.name.is_some() || !options.only.is_empty() {
                return Err(Error::Config("a restore_command takes all streams, and no other name".to_owned()));
            }
            let argv = program.words.iter().map(OsString::from).collect();
            let options = command::into::IntoOptions { set: set_name, argv };
            Box::new(command::into::CommandTarget::new(options, &context.interrupt))
        }
        other => return Err(Error::Config(format!("{} is no service", other.name()))),
    })
}
