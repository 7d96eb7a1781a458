//! Which chunks are worth their room: those of data that changes before those that stay as they are, and what can be made smaller
//! before what can't. A chunk that changed in the newest snapshot probably changes again; an archive never does.

use super::table::{CacheEntry, CacheSlot, FrameForm, MOST_IDLE};

/// Backups that incompressible chunks count as more idle, unless they took another's place: noise is replaced more often than
/// it is changed.
const OF_NOISE: u8 = 4;
/// How many classes there are. Those of class 0 are worth most.
pub(super) const CLASSES: usize = (MOST_IDLE + OF_NOISE + 1) as usize;
/// How idle a chunk counts that took another's place.
pub(super) const CHANGED: u8 = 0;
/// How idle a chunk of the snapshot before counts whose place in the cache is lost, or one that another stream has.
pub(super) const KNOWN: u8 = 1;
/// How idle a chunk of a new stream counts: it may be an archive.
pub(super) const NEW: u8 = 2;
/// How idle a chunk of a stream that is read at each backup gets: its neighbours change.
pub(super) const MOST_IDLE_READ: u8 = 8;

/// The class of a chunk.
pub(super) fn class(idle: u8, form: FrameForm) -> usize {
    let noise = if form == FrameForm::Incompressible && idle > CHANGED { OF_NOISE } else { 0 };
    usize::from(idle.min(MOST_IDLE) + noise)
}

/// The share of the room that each class may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    limit: u64,
    /// Granules that are left to chunks that take another's place.
    changed: u64,
}

impl Shares {
    /// Of `limit` granules, where so many are expected for chunks that take another's place.
    pub fn new(limit: u64, changed: u64) -> Self {
        Self { limit, changed: changed.min(limit / 2) }
    }

    /// All of it.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The granules in use up to which a chunk of that class is let in.
    pub fn most(&self, class: usize) -> u64 {
        if class == 0 { self.limit } else { self.limit - self.changed }
    }
}

/// Granules and bytes of the chunks of each class.
#[derive(Debug, Default)]
pub(super) struct Census {
    held: [u64; CLASSES],
    held_plain: u64,
    /// Bytes of chunks that found no room, and could be there the next time.
    wanted: [u64; CLASSES],
    /// Bytes of all chunks without room.
    lacking: u64,
}

impl Census {
    /// Counts an entry of the new table; `passed` says whether its bytes were at hand in this run.
    pub fn count(&mut self, entry: &CacheEntry, passed: bool) {
        let length = u64::from(entry.length);
        match entry.slot {
            CacheSlot::At(frame) => {
                let granules = frame.granules();
                self.held[class(entry.idle, frame.form)] += granules.end - granules.start;
                self.held_plain += length;
            }
            CacheSlot::NoRoom => {
                self.lacking += length;
                if passed {
                    self.wanted[class(entry.idle, FrameForm::Compressed)] += length;
                }
            }
            CacheSlot::Elsewhere | CacheSlot::Useless | CacheSlot::Added(_) => {}
        }
    }

    /// Granules of all chunks that have a place.
    pub fn used(&self) -> u64 {
        self.held.iter().sum()
    }

    /// Bytes of the chunks that have a place.
    pub fn held(&self) -> u64 {
        self.held_plain
    }

    /// Bytes of the chunks that have none.
    pub fn lacking(&self) -> u64 {
        self.lacking
    }

    /// Whether a chunk found no room though its bytes were at hand in this run.
    pub fn lacks_any_at_hand(&self) -> bool {
        self.wanted.iter().any(|bytes| *bytes > 0)
    }

    /// The granules that so many bytes of chunks would take, by what others take.
    pub fn granules_of(&self, bytes: u64) -> u64 {
        let (held, plain) = (u128::from(self.used()), u128::from(self.held_plain));
        let alike = (u128::from(bytes) * held).checked_div(plain);
        alike.map_or_else(|| super::room::granules(bytes), |granules| granules as u64)
    }

    /// Granules that chunks which took another's place take, or would, and some more for the gaps between them.
    pub fn changed(&self) -> u64 {
        let changed = self.held[0] + self.granules_of(self.wanted[0]);
        changed + changed / 8
    }

    /// How many granules of each class may stay, so that chunks worth more than others have room the next time: those that lacked
    /// it, and those that will take another's place. At most a quarter of `limit` is freed at once.
    pub fn may_stay(&self, limit: u64) -> [u64; CLASSES] {
        let mut stay = self.held;
        let mut used = self.used();
        let mut budget = limit / 4;
        for class in (1..CLASSES).rev() {
            let wanted = self.granules_of(self.wanted[1..class].iter().sum()) + self.changed();
            let needed = (used + wanted).saturating_sub(limit);
            let freed = needed.min(stay[class]).min(budget);
            stay[class] -= freed;
            used -= freed;
            budget -= freed;
        }
        stay
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::CacheFrame;
    use super::*;

    fn held(granules: u32, idle: u8, form: FrameForm) -> CacheEntry {
        let stored = granules * 128;
        CacheEntry { slot: CacheSlot::At(CacheFrame { granule: 1, stored, form }), length: stored, idle }
    }

    fn lacking(granules: u32, idle: u8) -> CacheEntry {
        CacheEntry { slot: CacheSlot::NoRoom, length: granules * 128, idle }
    }

    #[test]
    fn what_never_changes_gives_way_to_what_does() {
        let mut census = Census::default();
        census.count(&held(100, CHANGED, FrameForm::Compressed), false);
        census.count(&held(480, NEW, FrameForm::Compressed), false);
        census.count(&held(300, MOST_IDLE, FrameForm::Compressed), false);
        assert_eq!(census.may_stay(1000), census.held, "there is room for as much as has changed now");
        census.count(&lacking(100, CHANGED), true);
        let stay = census.may_stay(1000);
        assert_eq!((stay[15], stay[2], stay[0]), (195, 480, 100));
        census.count(&lacking(900, MOST_IDLE), true);
        assert_eq!(census.may_stay(1000), stay, "for what is as idle nothing goes");
        census.count(&lacking(500, CHANGED), false);
        assert_eq!(census.may_stay(1000), stay, "nor for what can't come back");
        census.count(&lacking(5000, CHANGED), true);
        assert_eq!(census.may_stay(1000).iter().sum::<u64>(), 630, "a quarter of the room at once");
        assert_eq!(census.lacking(), 6500 * 128);
    }

    #[test]
    fn noise_gives_way_to_text_and_leaves_room_for_what_changes() {
        let mut census = Census::default();
        census.count(&held(500, NEW, FrameForm::Incompressible), false);
        census.count(&held(500, NEW, FrameForm::Compressed), false);
        census.count(&lacking(100, KNOWN), true);
        let stay = census.may_stay(1000);
        assert_eq!((stay[class(NEW, FrameForm::Incompressible)], stay[class(NEW, FrameForm::Compressed)]), (400, 500));
        let shares = Shares::new(1000, 100);
        let most = |idle, form| shares.most(class(idle, form));
        assert_eq!((most(NEW, FrameForm::Incompressible), most(NEW, FrameForm::Compressed)), (900, 900));
        assert_eq!((most(CHANGED, FrameForm::Incompressible), most(CHANGED, FrameForm::Raw)), (1000, 1000));
    }
}
