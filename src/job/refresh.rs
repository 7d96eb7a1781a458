//! Refresh: the newest data of another environment, into a service or over what is in a folder.

use super::machine::Machine;
use super::open::Trust;
use super::restore::request::{
    Destination, FileOptions, RestoreRequest, RestoreSubject, ServiceOptions, SnapshotParts,
};
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
        parts: SnapshotParts::default(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Zone;

    #[test]
    fn a_service_may_have_another_name_for_the_database() {
        assert_eq!(parse_service("mysql").unwrap(), (SourceKind::Mysql, None));
        assert_eq!(parse_service("mysql:").unwrap(), (SourceKind::Mysql, None));
        assert_eq!(parse_service("postgresql:a:b").unwrap(), (SourceKind::Postgresql, Some("a:b".to_owned())));
        for bad in ["files", "stdin", "", "MySQL"] {
            let error = parse_service(bad).unwrap_err().to_string();
            assert!(error.contains("there are mysql, postgresql, influxdb, command"), "{error}");
        }
    }

    #[test]
    fn a_refresh_asks_for_the_newest_snapshot_and_overwrites_what_differs() {
        let refresh = Refresh {
            repository: None,
            set: "agama".to_owned(),
            identity: "/i".into(),
            to: RefreshDestination::Service("mysql:copy".to_owned()),
            replace: vec!["copy".to_owned()],
            option_file: None,
            user: None,
            after: Vec::new(),
            at: None,
            zone: Zone::Local,
        };
        let asked = request("nightly", &refresh, "root".to_owned()).unwrap();
        assert!(asked.is_refresh && asked.when == Chosen::Latest);
        let Destination::Service { kind, name, options } = asked.destination else { panic!("{asked:?}") };
        assert_eq!((kind, name.as_deref()), (SourceKind::Mysql, Some("copy")));
        assert_eq!(options.reason(), "by root, because: refresh nightly");
        let folder = Refresh { to: RefreshDestination::Folder("/x".into()), ..refresh };
        let asked = request("nightly", &folder, "root".to_owned()).unwrap();
        assert_eq!((asked.destination, asked.files.overwrite), (Destination::Folder("/x".into()), Overwrite::Changed));
    }
}
