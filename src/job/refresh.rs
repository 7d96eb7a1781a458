//! Refresh: the newest data of another environment, into a service or over what is in a folder.

use super::machine::Machine;
use super::open::Trust;
use super::restore::request::{Destination, FileOptions, Parts, RestoreRequest, RestoreSubject, ServiceOptions};
use super::spec::{Refresh, RefreshDestination, SourceKind};
use super::suggestion::nearest;
use crate::error::{Error, Result};
use crate::repository::Chosen;
use crate::source::files::extract::Overwrite;

/// The refresh of that name.
///
/// # Errors
///
/// [`Error::Usage`] where the configuration has none.
pub fn find<'m>(name: &str, machine: &'m Machine) -> Result<&'m Refresh> {
    let refreshes = &machine.configuration.restores;
    refreshes.get(name).ok_or_else(|| {
        let known = match nearest(name, refreshes.keys().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("it has {} of them", refreshes.len()),
        };
        Error::Usage(format!("the configuration has no [restores.{name}]; {known}"))
    })
}

/// The restore that a refresh asks for. `who` starts it.
///
/// # Errors
///
/// [`Error::Usage`] where its service isn't known.
pub fn request(name: &str, refresh: &Refresh, who: String) -> Result<RestoreRequest> {
    let destination = match &refresh.to {
        RefreshDestination::Folder(folder) => Destination::Folder(folder.clone()),
        RefreshDestination::Service(service) => {
            let (kind, name_there) = parse_service(service)?;
            let options = ServiceOptions {
                replace: refresh.replace.clone(),
                who,
                reason: Some(format!("refresh {name}")),
                keep_going: false,
                option_file: refresh.option_file.clone(),
                user: refresh.user.clone(),
            };
            Destination::Service { kind, name: name_there, options }
        }
    };
    Ok(RestoreRequest {
        what: RestoreSubject::Set(refresh.set.clone()),
        when: Chosen::Latest,
        destination,
        parts: Parts::default(),
        files: FileOptions { overwrite: Overwrite::Changed, ..FileOptions::default() },
        trust: Trust::default(),
        is_refresh: true,
    })
}

/// Reads `SERVICE` or `SERVICE:NAME`.
///
/// # Errors
///
/// [`Error::Usage`] where there is no such service.
pub fn parse_service(word: &str) -> Result<(SourceKind, Option<String>)> {
    let (service, name) = match word.split_once(':') {
        Some((service, name)) => (service, Some(name.to_owned()).filter(|name| !name.is_empty())),
        None => (word, None),
    };
    match SourceKind::services().find(|kind| kind.name() == service) {
        Some(kind) => Ok((kind, name)),
        None => {
            let names: Vec<&str> = SourceKind::services().map(SourceKind::name).collect();
            Err(Error::Usage(format!("there is no service {service:?}; there are {}", names.join(", "))))
        }
    }
}
