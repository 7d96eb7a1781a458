//! Refreshes, `[restores.NAME]`.

use varu::job::spec::{Refresh, RefreshDestination, check_set_name};

use super::document::Section;
use super::set::read_hook;
use super::values;

/// Reads one. None where something that it needs is missing or wrong, which is noted.
pub fn read(section: &Section) -> Option<Refresh> {
    let set = section.need("set", |value| {
        let name = values::text(value)?;
        check_set_name(&name).map(|()| name)
    });
    let identity = section.need("identity", values::path);
    let into = section.take("into", values::text);
    let to = section.take("to", values::path);
    let to = match (into, to) {
        (Some(service), None) => Some(RefreshDestination::Service(service)),
        (None, Some(folder)) => Some(RefreshDestination::Folder(folder)),
        (None, None) => {
            section.problem("a refresh goes into a service (into) or to a folder (to), and neither is named");
            None
        }
        (Some(_), Some(_)) => {
            section.problem_of("to", "goes not together with into");
            None
        }
    };
    Some(Refresh {
        repository: section.take("repository", values::url),
        replace: section.take("replace", |value| values::list(value, values::text)).unwrap_or_default(),
        option_file: section.take("option_file", values::path),
        user: section.take("user", values::text),
        after: section.take("after", |value| values::list(value, read_hook)).unwrap_or_default(),
        at: section.take("at", values::text),
        zone: section.take("timezone", values::zone).unwrap_or_default(),
        set: set?,
        identity: identity?,
        to: to?,
    })
}
