//! One suite for every remote, alone and under the decorators.

mod remote_suite;

use std::num::NonZeroU64;
use std::sync::Arc;

use remote_suite::Place;
use varu::progress::Interrupt;
use varu::remote::Remote;
use varu::remote::fault::{Fault, Faulty};
use varu::remote::limit::{Limited, Rates};
use varu::remote::local::LocalRemote;
use varu::remote::memory::MemoryRemote;
use varu::remote::record::Recorder;
use varu::remote::retry::{Patience, Retry};
use varu::remote::wait::SteppedTime;

fn memory_under(decorate: impl FnOnce(Arc<dyn Remote>) -> Arc<dyn Remote>) -> Place {
    let memory = MemoryRemote::new();
    let plant = memory.clone();
    Place {
        remote: decorate(Arc::new(memory)),
        plant: Box::new(move |folder, name, bytes| plant.put(folder, name, bytes)),
        keep: Box::new(()),
    }
}

fn local_under(decorate: impl FnOnce(Arc<dyn Remote>) -> Arc<dyn Remote>) -> Place {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().to_owned();
    Place {
        remote: decorate(Arc::new(LocalRemote::open(&path).unwrap())),
        plant: Box::new(move |folder, name, bytes| std::fs::write(path.join(folder.name()).join(name), bytes).unwrap()),
        keep: Box::new(base),
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

/// Every third operation fails, each in another way than the last.
fn retried() -> Place {
    memory_under(|memory| {
        let faulty = Faulty::new(memory);
        let faults = [Fault::Refuse(varu::remote::ErrorKind::Unreachable), Fault::LoseAnswer, Fault::Tear];
        (1..5000).zip(faults.into_iter().cycle()).for_each(|(n, fault)| faulty.fail_at(n * 3, fault));
        Arc::new(Retry::new(Arc::new(faulty), Patience::default(), time(), Interrupt::default(), |_| ()))
    })
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
