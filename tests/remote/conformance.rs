//! One suite for every remote, alone and under the decorators.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::suite::{Place, append_only_suite, remote_suite};
use varu::progress::Interrupt;
use varu::remote::fault::{Fault, Faulty};
use varu::remote::limit::{Limited, Rates};
use varu::remote::local::LocalRemote;
use varu::remote::memory::MemoryRemote;
use varu::remote::record::Recorder;
use varu::remote::retry::{Patience, Retry, Tries};
use varu::remote::wait::SteppedTime;
use varu::remote::{ErrorKind, Remote};

fn memory_under(decorate: impl FnOnce(Arc<dyn Remote>) -> Arc<dyn Remote>) -> Place {
    let memory = MemoryRemote::new();
    let plant = memory.clone();
    Place {
        remote: decorate(Arc::new(memory)),
        plant: Box::new(move |folder, name, bytes| plant.put(folder, name, bytes)),
        tidy: true,
    }
}

fn local_under(decorate: impl FnOnce(Arc<dyn Remote>) -> Arc<dyn Remote>) -> Place {
    let base = tempfile::tempdir().unwrap();
    Place {
        remote: decorate(Arc::new(LocalRemote::open(base.path()).unwrap())),
        plant: Box::new(move |folder, name, bytes| {
            std::fs::write(base.path().join(folder.name()).join(name), bytes).unwrap()
        }),
        tidy: true,
    }
}

fn memory() -> Place {
    memory_under(|memory| memory)
}

fn local() -> Place {
    local_under(|local| local)
}

fn recorded() -> Place {
    memory_under(|memory| Arc::new(Recorder::new(memory)))
}

fn limited() -> Place {
    let rate = NonZeroU64::new(1_000_000);
    local_under(|local| Arc::new(Limited::new(local, Rates { upload: rate, download: rate }, time())))
}

/// Every seventh operation fails, each in another way than the last; no delete of what is absent, which Retry must take
/// for a delete that was done when it meets it the second time.
fn retried() -> Place {
    let place = memory_under(|memory| {
        let faulty = Faulty::new(memory);
        let faults = [Fault::Refuse(ErrorKind::Unreachable), Fault::LoseAnswer, Fault::Tear];
        (1..5000).zip(faults.into_iter().cycle()).for_each(|(n, fault)| faulty.fail_at(n * 7 - 2, fault));
        Arc::new(Retry::new(Arc::new(faulty), Tries::new(Patience::default(), time(), Interrupt::default(), |_| ())))
    });
    Place { tidy: false, ..place }
}

fn time() -> Arc<SteppedTime> {
    Arc::new(SteppedTime::default())
}

fn append_only_memory() -> Place {
    memory_under(|_| {
        let memory = MemoryRemote::with_folders();
        memory.set_append_only(true);
        Arc::new(memory)
    })
}

remote_suite!(memory, super::memory());
remote_suite!(local, super::local());
remote_suite!(recorded_memory, super::recorded());
remote_suite!(limited_local, super::limited());
remote_suite!(retried_faulty_memory, super::retried());
append_only_suite!(append_only_memory, super::append_only_memory());
