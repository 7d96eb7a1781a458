//! `varu ls`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap_complete::ArgValueCandidates;
use serde_json::{Value, json};
use varu::entry::{Entry, Escaped, Kind, Metadata};
use varu::format::recipe::Stream;
use varu::repository::{Cost, Layers, StreamCosts};
use varu::time::Timestamp;

use super::complete;
use super::context::Context;
use super::exit::{ExitStatus, Failure};
use super::lines::PrintedList;
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
        let layers = found.repository.layers_or_copy(&found.snapshot.id)?;
        let path = self.path.as_ref().map_or(&[][..], |path| trimmed(path.as_bytes()));
        let any = layers.below(path)?.next().transpose()?;
        if any.is_none() && !path.is_empty() {
            let (path, id) = (Escaped(path), short(&found.snapshot.id));
            let set = &found.snapshot.header.set;
            return Err(Failure::usage(format!(
                "there is no {path} in snapshot {id} of the set {set}; varu ls {id} shows all that is, and varu ls SET@latest \
                 another set's"
            )));
        }
        let own = if self.long { found.repository.own_packs(&found.snapshot)? } else { None };
        let known = own.is_some();
        let own = own.unwrap_or_default();
        let costs = || self.long.then(|| found.repository.costs(layers.packs(), &own));
        let warnings = progress.end(&found.warnings);
        let mut lines = PrintedList::begin(context, &json!({ "snapshot": found.snapshot.id }), "streams")?;
        if context.json || !self.long {
            each(&layers, path, costs(), |entry, cost| match context.json {
                true => lines.document(&document(&ListedStream { entry, cost }, known)),
                false => lines.text(&entry.name.to_string()),
            })?;
        } else {
            // The columns are as wide as their widest cell, so all are looked at twice.
            let mut table = table();
            each(&layers, path, costs(), |entry, cost| {
                table.widen(&cells(&ListedStream { entry, cost }, known, context));
                Ok(())
            })?;
            lines.text(&table.heading())?;
            each(&layers, path, costs(), |entry, cost| {
                lines.text(&table.line(&cells(&ListedStream { entry, cost }, known, context)))
            })?;
        }
        lines.end(&warnings)?;
        Ok(progress.say_warnings())
    }
}

/// A stream, and what it costs where that was asked for.
struct ListedStream<'a> {
    entry: &'a Entry,
    cost: Option<Cost>,
}

/// Hands over the streams at and below a path: dumps in their order, others by name.
fn each(
    layers: &Layers<'_>,
    path: &[u8],
    mut costs: Option<StreamCosts<'_>>,
    mut take: impl FnMut(&Entry, Option<Cost>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut dumps = Vec::new();
    let mut hand = |stream: &Stream| {
        let cost = costs.as_mut().map(|costs| costs.of(stream)).transpose()?;
        take(&stream.entry, cost)
    };
    for stream in layers.below(path)? {
        let stream = stream?;
        match stream.entry.kind {
            Kind::Data => dumps.push(stream),
            _ => hand(&stream)?,
        }
    }
    dumps.sort_by_key(|dump| dump.order);
    dumps.iter().try_for_each(hand)
}

/// A path as names of streams are: without slashes at its ends.
fn trimmed(path: &[u8]) -> &[u8] {
    let is_name = |byte: &u8| *byte != b'/';
    match (path.iter().position(is_name), path.iter().rposition(is_name)) {
        (Some(first), Some(last)) => &path[first..=last],
        _ => &[],
    }
}

fn table() -> Table<9> {
    Table::new([
        ("MODE", Side::Left),
        ("OWNER", Side::Left),
        ("GROUP", Side::Left),
        ("SIZE", Side::Right),
        ("NEW", Side::Right),
        ("STORED", Side::Right),
        ("DEPTH", Side::Right),
        ("CHANGED", Side::Left),
        ("NAME", Side::Left),
    ])
}

fn cells(ListedStream { entry, cost }: &ListedStream<'_>, known: bool, context: &Context) -> [String; 9] {
    let metadata = entry.metadata.as_ref();
    let cost = cost.filter(|_| entry.kind.has_content());
    let bytes = |of: fn(&Cost) -> u64| match &cost {
        Some(cost) if known => of(cost).to_string(),
        Some(_) => "?".to_owned(),
        None => String::new(),
    };
    let about = |of: fn(&Metadata) -> String| metadata.map(of).unwrap_or_default();
    [
        mode(entry),
        about(|metadata| named(&metadata.user, metadata.uid)),
        about(|metadata| named(&metadata.group, metadata.gid)),
        entry.length().to_string(),
        bytes(|cost| cost.new),
        bytes(|cost| cost.stored),
        cost.map(|cost| cost.depth.to_string()).unwrap_or_default(),
        metadata.map(|it| context.machine.zone.short(changed(it))).unwrap_or_default(),
        with_target(entry),
    ]
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
    use varu::entry::StreamName;

    use super::*;

    #[test]
    fn a_path_is_named_as_streams_are() {
        assert_eq!(["/etc/ssh/", "a", "/", ""].map(|path| trimmed(path.as_bytes())), [&b"etc/ssh"[..], b"a", b"", b""]);
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
