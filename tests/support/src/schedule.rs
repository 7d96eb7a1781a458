//! Several operations at one place, one step at a time: a chooser says after each step whose next one comes.
//!
//! A step is a call on a remote, or a change of the backup host. What an actor does between two steps happens when it likes: it
//! touches nothing that the others see.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use varu::host::checkpoints::Checkpoints;
use varu::remote::{Error, ErrorKind, Folder, Listed, ObjectName, Remote, Result, Upload};

/// Whose turn it is next: one of the live actors, ascending, and who had the last one.
pub type Chooser = Box<dyn FnMut(&[usize], Option<usize>) -> usize + Send>;

/// An actor's work, with its access to the location.
pub type Actor<'a> = Box<dyn FnOnce(&Gate) + Send + 'a>;

struct State {
    live: Vec<usize>,
    turn: Option<usize>,
    busy: bool,
    /// Steps of each actor.
    steps: Vec<u64>,
}

struct Shared {
    state: Mutex<State>,
    chooser: Mutex<Chooser>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, state: &mut State) {
        let mut chooser = self.chooser.lock().unwrap_or_else(PoisonError::into_inner);
        state.turn = (!state.live.is_empty()).then(|| chooser(&state.live, state.turn));
        self.changed.notify_all();
    }

    fn begin(&self, who: usize) {
        let mut state = self.state();
        while state.turn != Some(who) || state.busy {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.busy = true;
        state.steps[who] += 1;
    }

    fn end(&self) {
        let mut state = self.state();
        state.busy = false;
        self.pass(&mut state);
    }

    fn ends(&self, who: usize) {
        let mut state = self.state();
        state.live.retain(|live| *live != who);
        if state.turn == Some(who) {
            self.pass(&mut state);
        }
    }
}

/// An actor's access to the shared state.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
    who: usize,
}

impl Gate {
    /// Waits for this actor's turn, and makes the step.
    pub fn step<T>(&self, call: impl FnOnce() -> T) -> T {
        self.shared.begin(self.who);
        let done = call();
        self.shared.end();
        done
    }

    /// `inner`, each call a step. One that is append-only refuses to delete.
    pub fn remote(&self, inner: Arc<dyn Remote>, append_only: bool) -> Arc<dyn Remote> {
        Arc::new(Gated { gate: self.clone(), inner, append_only })
    }
}

/// The backup host's way: from one change to the next is one step, with all that is read in between.
pub struct HostGate {
    gate: Gate,
    ended: Cell<bool>,
}

impl HostGate {
    /// Waits for this actor's turn, and begins its first step.
    pub fn begin(gate: &Gate) -> Self {
        gate.shared.begin(gate.who);
        Self { gate: gate.clone(), ended: Cell::new(false) }
    }
}

impl Checkpoints for HostGate {
    fn before(&self, _: &'static str) -> std::io::Result<()> {
        self.gate.shared.end();
        // Where it panics in between, its step has ended.
        self.ended.set(true);
        self.gate.shared.begin(self.gate.who);
        self.ended.set(false);
        Ok(())
    }
}

impl Drop for HostGate {
    fn drop(&mut self) {
        if !self.ended.get() {
            self.gate.shared.end();
        }
    }
}

/// Runs actors until all have ended. How many steps each made.
pub fn run(actors: Vec<Actor<'_>>, chooser: Chooser) -> Vec<u64> {
    let state = State { live: (0..actors.len()).collect(), turn: None, busy: false, steps: vec![0; actors.len()] };
    let shared = Arc::new(Shared { state: Mutex::new(state), chooser: Mutex::new(chooser), changed: Condvar::new() });
    shared.pass(&mut shared.state());
    std::thread::scope(|scope| {
        for (who, actor) in actors.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            scope.spawn(move || {
                // Also where it panics: the others go on, and the test fails when all have ended.
                struct Ends(Arc<Shared>, usize);
                impl Drop for Ends {
                    fn drop(&mut self) {
                        self.0.ends(self.1);
                    }
                }
                let _ends = Ends(Arc::clone(&shared), who);
                actor(&Gate { shared, who });
            });
        }
    });
    shared.state().steps.clone()
}

/// Lets each actor make so many steps in turn, and then one after the other to its end.
pub fn planned(plan: Vec<(usize, u64)>) -> Chooser {
    let (mut plan, mut left) = (plan.into_iter(), None::<(usize, u64)>);
    Box::new(move |live, _| {
        loop {
            match left {
                Some((who, steps)) if steps > 0 && live.contains(&who) => {
                    left = Some((who, steps - 1));
                    return who;
                }
                _ => match plan.next() {
                    Some(next) => left = Some(next),
                    None => return live[0],
                },
            }
        }
    })
}

struct Gated {
    gate: Gate,
    inner: Arc<dyn Remote>,
    append_only: bool,
}

impl Remote for Gated {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn create_folders(&self) -> Result<()> {
        self.gate.step(|| self.inner.create_folders())
    }

    fn begin(&self) -> Result<Box<dyn Upload>> {
        let inner = self.gate.step(|| self.inner.begin())?;
        Ok(Box::new(GatedUpload { gate: self.gate.clone(), inner }))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Vec<u8>> {
        self.gate.step(|| self.inner.get(name, limit))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.gate.step(|| self.inner.get_range(name, offset, buffer))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<u64>> {
        self.gate.step(|| self.inner.stat(name))
    }

    fn list(&self, folder: Folder) -> Result<(Vec<Listed>, u64)> {
        self.gate.step(|| self.inner.list(folder))
    }

    fn flush(&self, folder: Folder) -> Result<bool> {
        self.gate.step(|| self.inner.flush(folder))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        if self.append_only {
            return Err(Error::new(ErrorKind::Refused, "deleting", name, "the account is append-only"));
        }
        self.gate.step(|| self.inner.delete(name))
    }

    fn can_delete(&self) -> Result<bool> {
        match self.append_only {
            true => Ok(false),
            false => self.inner.can_delete(),
        }
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space()
    }
}

struct GatedUpload {
    gate: Gate,
    inner: Box<dyn Upload>,
}

impl Upload for GatedUpload {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // What is in `pending/` is nobody's yet: where an append stands among the others' steps makes no difference.
        self.inner.append(bytes)
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> Result<()> {
        let Self { gate, inner } = *self;
        gate.step(|| inner.finish(name))
    }
}
