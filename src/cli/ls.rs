//! `varu ls`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap_complete::ArgValueCandidates;
use serde_json::{Value, json};
use varu::entry::{Entry, Escaped, Kind, Metadata, StreamName};
use varu::format::recipe::Recipe;
use varu::index::SnapshotRow;
use varu::repository::{Cost, Repository};
use varu::time::Timestamp;

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::values::{Pick, TrustArgs, short};
use crate::terminal::human::{Side, Table};

/// List the streams inside a snapshot.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which: an id, the beginning of one, "latest" of all sets, or SET@latest, SET@yesterday, SET@2026-11-27.
    #[arg(add = ArgValueCandidates::new(complete::snapshots))]
    snapshot: Pick,

    /// Only this path and its content.
    #[arg(value_name = "PATH")]
    path: Option<OsString>,

    /// Show modes, owners, sizes, costs and times.
    #[arg(short)]
    long: bool,

    #[command(flatten)]
    trust: TrustArgs,
}

impl Args {
    /// Prints a line for each stream.
    pub fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let progress = context.progress();
        let opened = context.machine.open_to_look(&self.trust.vouched(), &progress.shared())?;
        let found = context.find(&opened, &self.snapshot)?;
        let recipe = found.repository.recipe(&found.snapshot.id)?;
        let path = self.path.as_ref().map(|path| trimmed(path.as_bytes()));
        let costs = if self.long { costs(&found.repository, &found.snapshot, &recipe)? } else { Costs::default() };
        let entries: Vec<ListedStream<'_>> = recipe
            .streams
            .iter()
            .enumerate()
            .map(|(number, stream)| ListedStream { entry: &stream.entry, cost: costs.of.get(number).copied() })
            .filter(|listed| path.is_none_or(|path| is_below(&listed.entry.name, path)))
            .collect();
        if let (true, Some(path)) = (entries.is_empty(), path) {
            let (path, id) = (Escaped(path), short(&found.snapshot.id));
            let set = &found.snapshot.header.set;
            return Err(Failure::usage(format!(
                "there is no {path} in snapshot {id} of the set {set}; varu ls {id} shows all that is, and varu ls SET@latest \
                 another set's"
            )));
        }
        let warnings = progress.end(&found.warnings);
        match (context.json, self.long) {
            (true, _) => {
                let streams: Vec<Value> = entries.iter().map(|listed| document(listed, costs.known)).collect();
                let document = json!({ "snapshot": found.snapshot.id, "streams": streams, "warnings": warnings });
                context.print_json(&document)?;
            }
            (false, true) => context.print(&long_table(&entries, costs.known, context))?,
            (false, false) => {
                context.print(&entries.iter().map(|listed| format!("{}\n", listed.entry.name)).collect::<String>())?;
            }
        }
        Ok(progress.say_warnings())
    }
}

/// A stream, and what it costs where that was asked for.
struct ListedStream<'a> {
    entry: &'a Entry,
    cost: Option<Cost>,
}

/// What the streams of a snapshot cost.
#[derive(Default)]
struct Costs {
    of: Vec<Cost>,
    /// Whether it is known what was new.
    known: bool,
}

fn costs(repository: &Repository, snapshot: &SnapshotRow, recipe: &Recipe) -> Result<Costs, Failure> {
    let own = repository.own_packs(snapshot)?;
    let known = own.is_some();
    Ok(Costs { of: repository.costs(recipe, &own.unwrap_or_default())?, known })
}

/// A path as names of streams are: without slashes at its ends.
fn trimmed(path: &[u8]) -> &[u8] {
    let is_name = |byte: &u8| *byte != b'/';
    match (path.iter().position(is_name), path.iter().rposition(is_name)) {
        (Some(first), Some(last)) => &path[first..=last],
        _ => &[],
    }
}

fn is_below(name: &StreamName, path: &[u8]) -> bool {
    match name.as_bytes().strip_prefix(path) {
        Some(rest) => path.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

fn long_table(entries: &[ListedStream<'_>], known: bool, context: &Context) -> String {
    let mut table = Table::new([
        ("MODE", Side::Left),
        ("OWNER", Side::Left),
        ("GROUP", Side::Left),
        ("SIZE", Side::Right),
        ("NEW", Side::Right),
        ("STORED", Side::Right),
        ("DEPTH", Side::Right),
        ("CHANGED", Side::Left),
        ("NAME", Side::Left),
    ]);
    for ListedStream { entry, cost } in entries {
        let metadata = entry.metadata.as_ref();
        let cost = cost.filter(|_| entry.kind.has_content());
        let bytes = |of: fn(&Cost) -> u64| match &cost {
            Some(cost) if known => of(cost).to_string(),
            Some(_) => "?".to_owned(),
            None => String::new(),
        };
        let about = |of: fn(&Metadata) -> String| metadata.map(of).unwrap_or_default();
        table.row([
            mode(entry),
            about(|metadata| named(&metadata.user, metadata.uid)),
            about(|metadata| named(&metadata.group, metadata.gid)),
            entry.length().to_string(),
            bytes(|cost| cost.new),
            bytes(|cost| cost.stored),
            cost.map(|cost| cost.depth.to_string()).unwrap_or_default(),
            metadata.map(|it| context.machine.zone.short(changed(it))).unwrap_or_default(),
            with_target(entry),
        ]);
    }
    table.to_string()
}

fn named(name: &[u8], number: u32) -> String {
    if name.is_empty() { number.to_string() } else { Escaped(name).to_string() }
}

fn changed(metadata: &Metadata) -> Timestamp {
    Timestamp::from_seconds(metadata.mtime.seconds)
}

fn with_target(entry: &Entry) -> String {
    match &entry.kind {
        Kind::Symlink(to) => format!("{} -> {}", entry.name, Escaped(to)),
        Kind::Hardlink(first) => format!("{} link to {first}", entry.name),
        _ => entry.name.to_string(),
    }
}

/// `drwxr-xr-x`, as ls shows it; `-` for what has no mode.
fn mode(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::Data | Kind::File => '-',
        Kind::Directory | Kind::Above => 'd',
        Kind::Symlink(_) => 'l',
        Kind::Hardlink(_) => 'h',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice(..) => 'c',
        Kind::BlockDevice(..) => 'b',
    };
    let Some(metadata) = &entry.metadata else { return kind.to_string() };
    let mut shown = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = metadata.mode >> shift & 7;
        shown.push(if bits & 4 != 0 { 'r' } else { '-' });
        shown.push(if bits & 2 != 0 { 'w' } else { '-' });
        shown.push(match (metadata.mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    shown
}

fn document(ListedStream { entry, cost }: &ListedStream<'_>, known: bool) -> Value {
    let kind = match &entry.kind {
        Kind::Data => "data",
        Kind::File => "file",
        Kind::Directory | Kind::Above => "directory",
        Kind::Symlink(_) => "symlink",
        Kind::Hardlink(_) => "hardlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice(..) => "char-device",
        Kind::BlockDevice(..) => "block-device",
    };
    let mut document = json!({ "name": entry.name.to_string(), "kind": kind, "size": entry.length() });
    // A name that isn't UTF-8, or is shown escaped.
    if entry.name.to_string().as_bytes() != entry.name.as_bytes() {
        document["name_hex"] = varu::id::hex(entry.name.as_bytes()).into();
    }
    match &entry.kind {
        Kind::Symlink(to) => document["target"] = Escaped(to).to_string().into(),
        Kind::Hardlink(first) => document["target"] = first.to_string().into(),
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            document["device"] = json!([major, minor]);
        }
        _ => {}
    }
    if let Some(cost) = cost.filter(|_| entry.kind.has_content()) {
        document["new"] = known.then_some(cost.new).into();
        document["stored"] = known.then_some(cost.stored).into();
        document["depth"] = cost.depth.into();
    }
    if let Some(metadata) = &entry.metadata {
        document["mode"] = format!("{:04o}", metadata.mode).into();
        document["uid"] = metadata.uid.into();
        document["gid"] = metadata.gid.into();
        document["user"] = Escaped(&metadata.user).to_string().into();
        document["group"] = Escaped(&metadata.group).to_string().into();
        document["mtime"] = changed(metadata).to_string().into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_means_itself_and_what_is_below() {
        let below = |name: &str, path: &str| is_below(&StreamName::new(name).unwrap(), trimmed(path.as_bytes()));
        assert!(below("etc/ssh/a", "/etc/ssh/") && below("etc/ssh", "etc/ssh") && below("a", "/"));
        assert!(!below("etc/sshd", "etc/ssh") && !below("etc", "etc/ssh"));
    }

    #[test]
    fn modes_look_as_ls_shows_them() {
        let shown = |kind: Kind, mode_bits: u32| {
            let metadata = Some(Metadata { mode: mode_bits, ..Metadata::default() });
            mode(&Entry { name: StreamName::new("a").unwrap(), kind, size: 0, metadata })
        };
        assert_eq!(shown(Kind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(shown(Kind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(shown(Kind::File, 0o2640), "-rw-r-S---");
    }
}
