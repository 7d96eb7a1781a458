//! The steps of a restore into a service: what is put in place, what is taken away, and what is noted.

use std::sync::{Arc, Mutex};

use support::TestClock;
use support::days::{Days, one};
use varu::entry::Entry;
use varu::index::OperationKind;
use varu::progress::{Counts, Interrupt};
use varu::restore::RestoreReport;
use varu::restore::service::{Guard, Purpose, restore_into};
use varu::source::remains::{Remains, ServiceName};
use varu::source::target::WriterTarget;
use varu::source::{Contents, Error, Plan, Proof, RestoreTarget, Target};
use varu::warning::{Warning, WarningKind};

/// A service that notes what it is told.
#[derive(Default)]
struct Noting {
    steps: Vec<&'static str>,
    /// The step that fails.
    fails: Option<&'static str>,
    /// What an earlier restore had left, as it was told.
    unfinished: Remains,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Noting {
    fn step(&mut self, step: &'static str) -> Result<(), Error> {
        self.steps.push(step);
        if self.fails == Some(step) { Err(Error::Failed(format!("{step} failed"))) } else { Ok(()) }
    }
}

struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl RestoreTarget for Noting {
    fn is_definition(&self, _: &Entry) -> bool {
        false
    }

    fn plan(&mut self, contents: Contents<'_>) -> Result<Plan, Error> {
        self.unfinished = contents.unfinished;
        Ok(Plan::default())
    }

    fn remains(&self) -> Remains {
        let name = |name: &str| ServiceName { server: "here".to_owned(), name: name.to_owned() };
        Remains { targets: vec![name("shop")], leftovers: vec![name("shop_loading")] }
    }

    fn still_there(&self, leftovers: &[ServiceName]) -> Result<Vec<String>, Error> {
        Ok(leftovers.iter().map(|left| left.name.clone()).collect())
    }

    fn takes(&self, _: &Entry) -> bool {
        true
    }

    fn prepare(&mut self) -> Result<(), Error> {
        self.step("prepare")
    }

    fn loader(&self) -> Result<Box<dyn Target + Send>, Error> {
        Ok(Box::new(WriterTarget::new(Shared(self.written.clone()), "the service")))
    }

    fn verify(&mut self) -> Result<Proof, Error> {
        self.step("verify")?;
        Ok(Proof { counted: Some((3, "rows")), checks: "counted".to_owned() })
    }

    fn commit(&mut self, proof: &Proof) -> Result<Vec<Warning>, Error> {
        assert_eq!(proof.checks, "counted");
        self.step("commit")?;
        Ok(vec![WarningKind::Accounts.warning("one is absent")])
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.step("discard")
    }

    fn undone(&self) -> String {
        "all is as it was".to_owned()
    }
}

const SET: &str = "set";

/// Restores the newest snapshot, and says which steps were taken.
fn restored(
    days: &Days,
    reader: &Arc<varu::repository::Repository>,
    purpose: Purpose,
    fails: Option<&'static str>,
) -> (Vec<&'static str>, Remains, Result<RestoreReport, String>) {
    reader.sync().unwrap();
    let snapshot = reader.index().snapshots().unwrap().pop().unwrap();
    assert_eq!(snapshot.header.set, SET);
    let mut service = Noting { fails, ..Noting::default() };
    let guard = Guard { purpose, ..Guard::default() };
    let clock: &TestClock = &days.clock;
    let (counts, interrupt) = (Counts::default(), Interrupt::default());
    let confirm = &mut |_: &Plan| true;
    let report = restore_into(reader, &snapshot, &mut service, &guard, None, confirm, clock, &counts, &interrupt);
    let report = report.map(Option::unwrap).map_err(|error| error.to_string());
    if service.steps.contains(&"verify") {
        assert_eq!(*service.written.lock().unwrap(), b"the first day");
    }
    (service.steps, service.unfinished, report)
}

#[test]
fn a_restore_is_verified_before_it_is_put_in_place_and_a_drill_never_is() {
    let days = Days::new();
    days.next(&one(b"the first day"));
    let reader = days.vault.fresh_reader();
    let unfinished = || reader.index().unfinished_restore(SET).unwrap();
    // A drill leaves nothing, whatever fails, and keeps no backup away.
    for fails in [None, Some("prepare"), Some("verify"), Some("discard")] {
        let (steps, _, report) = restored(&days, &reader, Purpose::Scratch, fails);
        let expected: &[&str] =
            if fails == Some("prepare") { &["prepare", "discard"] } else { &["prepare", "verify", "discard"] };
        assert_eq!((steps.as_slice(), report.is_ok()), (expected, fails.is_none()), "{fails:?}: {report:?}");
        assert_eq!(unfinished(), None, "{fails:?}");
        let drill = reader.index().last_operation(OperationKind::Drill).unwrap().unwrap();
        assert_eq!(drill.has_succeeded(), fails.is_none());
    }
    // What is needed is put in place once it is verified, and stays where it isn't.
    for fails in ["verify", "commit"] {
        let (steps, _, report) = restored(&days, &reader, Purpose::Production, Some(fails));
        let end = if fails == "verify" { 2 } else { 3 };
        assert_eq!(steps, ["prepare", "verify", "commit"][..end]);
        let said = report.unwrap_err();
        assert!(said.contains("all is as it was") && said.contains("--abandon"), "{said}");
        let begun = unfinished().unwrap();
        let left = reader.index().remains_of(&begun).unwrap();
        assert!(left.has_target("here", "shop") && left.has_leftover("here", "shop_loading"));
        // A drill between the two changes nothing of it, and isn't told to go on with it.
        let (_, told, report) = restored(&days, &reader, Purpose::Scratch, None);
        assert!(report.is_ok() && told == Remains::default() && unfinished().is_some());
    }
    let (steps, told, report) = restored(&days, &reader, Purpose::Production, None);
    assert_eq!(steps, ["prepare", "verify", "commit"]);
    assert!(told.has_target("here", "shop"), "the next one knows what the one before had begun");
    let report = report.unwrap();
    assert_eq!((report.proof.unwrap().counted, report.warnings.len()), (Some((3, "rows")), 1));
    assert_eq!(unfinished(), None);
}
