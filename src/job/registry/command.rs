//! Descriptor of the source `command`.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{
    External, KindDescriptor, SourceContext, SourceDescriptor, TargetOptions, WayBack, no_external_dumps, origin_of,
};
use crate::entry::StreamName;
use crate::job::Machine;
use crate::job::spec::{CommandSpec, SourceKind, SourceSpec};
use crate::progress::Interrupt;
use crate::source::command::into::{CommandTarget, RestoreCommands};
use crate::source::command::many::CommandsSource;
use crate::source::command::{CommandOptions, STALL_LIMIT};
use crate::source::{Error, Finding, RestoreTarget, Source, copy};
use crate::time::SystemClock;

/// What holds for all sources of this kind.
pub const KIND: KindDescriptor = KindDescriptor {
    is_configurable: true,
    unconfigured: Some(|| SourceSpec::Command(unconfigured())),
    takes_option_file_of_all: false,
};

fn unconfigured() -> CommandSpec {
    CommandSpec { commands: Vec::new(), restore_command: None, completion: None, min_size: 0, stall_limit: STALL_LIMIT }
}

impl SourceDescriptor for CommandSpec {
    fn open(&self, context: &SourceContext<'_>) -> Result<Box<dyn Source>, Error> {
        let commands = self.commands.iter().map(|(stream, program)| {
            let stream = StreamName::new(stream.as_deref().unwrap_or(context.set));
            let stream = stream.map_err(|error| Error::Config(error.to_string()))?;
            let argv = program.words.iter().map(OsString::from).collect();
            Ok(CommandOptions {
                completion: self.completion.clone(),
                min_size: self.min_size,
                stall_limit: self.stall_limit,
                ..CommandOptions::new(stream, argv)
            })
        });
        let commands = commands.collect::<Result<Vec<_>, Error>>()?;
        let (progress, interrupt) = (context.progress.clone(), context.machine.interrupt.clone());
        Ok(Box::new(CommandsSource::new(commands, &SystemClock, progress, interrupt)))
    }

    fn open_external(&self, _: &Path, _: &Interrupt) -> Result<External, Error> {
        Err(no_external_dumps(SourceKind::Command))
    }

    fn check(&self, _: &Interrupt) -> Vec<Finding> {
        let programs = self.commands.iter().map(|(_, program)| program.words.first().map_or("", String::as_str));
        programs.map(check_program).collect()
    }

    fn local_copy_file(&self) -> Option<&'static str> {
        Some(copy::DATA)
    }

    fn paths(&self) -> &[PathBuf] {
        &[]
    }

    fn roots(&self) -> Vec<StreamName> {
        Vec::new()
    }

    fn origin(&self) -> String {
        origin_of(SourceKind::Command)
    }

    fn is_made_while_read(&self) -> bool {
        true
    }

    fn way_back(&self, set: &str) -> WayBack {
        match &self.restore_command {
            Some(_) => WayBack::Service(SourceKind::Command),
            None => WayBack::Unknown(format!(
                "the set {set} has no restore_command, so it isn't known how it goes back; varu restore {set} --to DIR \
                 restores its streams as files"
            )),
        }
    }

    fn connect_target(&self, wanted: TargetOptions, machine: &Machine) -> Result<Box<dyn RestoreTarget>, Error> {
        let TargetOptions { set, options, .. } = wanted;
        let Some(program) = &self.restore_command else {
            return Err(Error::Config(format!(
                "the set {set} has no restore_command in the configuration; --to DIR restores its streams as files"
            )));
        };
        if options.name.is_some() || !options.only.is_empty() {
            return Err(Error::Config("a restore_command takes all streams, and no other name".to_owned()));
        }
        let argv = program.words.iter().map(OsString::from).collect();
        Ok(Box::new(CommandTarget::new(RestoreCommands { set, argv }, &machine.interrupt)))
    }
}

/// Looks whether a program is where the system would look for it.
fn check_program(program: &str) -> Finding {
    let is_program =
        |path: &PathBuf| path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0);
    let found = match program.contains('/') {
        true => Some(PathBuf::from(program)).filter(is_program),
        false => std::env::var_os("PATH")
            .and_then(|path| std::env::split_paths(&path).map(|folder| folder.join(program)).find(is_program)),
    };
    match found {
        Some(path) => Finding::Good(format!("its program is {}", path.display())),
        None => Finding::Bad(format!("its program {program:?} isn't found; give its full path, or install it")),
    }
}
