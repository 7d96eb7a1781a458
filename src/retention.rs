//! Retention: which snapshots stay, as a pure function over dates.
//!
//! Chains are removed whole: when the newest snapshot is older than the rule says and a newer good chain exists. The
//! newest good chain of a set, and later ones, always stay. Rules for tags, and for a number of chains, only lengthen.
//!
//! The client feeds it with the times in its snapshots, a backup host with the times at which they arrived. Their order
//! is that of the numbers that come with them, whatever the times say; see [`order`].

mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::entry::Untrusted;
use crate::id::{ChainId, SnapshotId};
use crate::time::Timestamp;

/// A gap between two snapshots is long where it is more than this and more than `keep`.
pub const LONG_GAP: Duration = Duration::from_secs(14 * 24 * 3600);

/// After a long gap nothing is removed for this time: the clock may be wrong, or the machine was off, and nobody has
/// checked its new snapshots.
pub const AFTER_GAP: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long a pack stays that no snapshot needs: an upload may take days before its snapshot comes.
pub const UNNEEDED_FOR: Duration = Duration::from_secs(14 * 24 * 3600);

/// The effect of a tag on its snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagRule {
    /// The newest so many of a set stay.
    Newest(u32),
    /// Each stays so long.
    For(Duration),
}

/// How long the snapshots of a set stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The age of a chain's newest snapshot after which the chain is removed.
    pub keep: Duration,
    /// How many of the newest good chains stay, however old they are.
    pub keep_chains: u32,
    /// Rules for tags.
    pub tags: BTreeMap<String, TagRule>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { keep: Duration::from_secs(28 * 24 * 3600), keep_chains: 1, tags: BTreeMap::new() }
    }
}

/// How the rules are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// The clock's time.
    pub now: Timestamp,
    /// Whether ages are counted by the clock, on a person's word. Else they are counted at the newest snapshot of the
    /// set, so that a clock which runs ahead of it makes nothing old.
    pub by_clock: bool,
    /// Whether an adversary may add snapshots, who must not displace others. Then a snapshot that displaces an older
    /// one, or is counted by a rule with a number, has been there for `keep` itself; and all that arrived on one day
    /// counts as one.
    pub settled: bool,
}

impl Basis {
    /// For snapshots that are all trusted.
    pub fn at(now: Timestamp) -> Self {
        Self { now, by_clock: false, settled: false }
    }
}

/// A snapshot as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its set.
    pub set: String,
    /// Its chain.
    pub chain: ChainId,
    /// Its rank in the order of arrival.
    pub sequence: u64,
    /// The start of its age.
    pub time: Timestamp,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it is intact and not suspect, and all of its chain before it exists.
    pub good: bool,
    /// The paths or databases that it has. The last good chain that has one of them stays, though newer ones lack it.
    pub holds: Vec<Untrusted>,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its chain's newest snapshot is younger than the rule requires, until then.
    Young {
        /// When that ends.
        until: Timestamp,
    },
    /// It is as old as the rule requires, but the set has been silent: ages are counted at its newest snapshot.
    Silent {
        /// When that was.
        newest: Timestamp,
    },
    /// No newer chain of the set is good, or none has been there long enough to push it out.
    Newest,
    /// Its chain is among the newest good chains that `keep_chains` asks for.
    Counted,
    /// It has a path or a database that no newer good chain has.
    Last {
        /// The first of them.
        what: Untrusted,
    },
    /// A snapshot of its chain has a tag with a rule.
    Tagged {
        /// The tag.
        tag: String,
        /// The snapshot that has it.
        snapshot: SnapshotId,
        /// When the rule ends; None if it is a number.
        until: Option<Timestamp>,
    },
    /// The last snapshots came after a long gap, and nothing is removed until then.
    Gap {
        /// When that ends.
        until: Timestamp,
    },
}

/// The decision about a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainVerdict {
    /// The chain.
    pub chain: ChainId,
    /// Its set.
    pub set: String,
    /// Its snapshots, by sequence.
    pub snapshots: Vec<SnapshotId>,
    /// Why it stays; empty if it is removed.
    pub reasons: Vec<Reason>,
}

impl ChainVerdict {
    /// Whether the chain is removed.
    pub fn goes(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The earliest moment at which the chain may go, if no rule changes: the latest end of its reasons; None if one has
    /// no end of its own.
    pub fn until(&self) -> Option<Timestamp> {
        let ends = self.reasons.iter().map(|reason| match reason {
            Reason::Young { until } | Reason::Gap { until } => Some(*until),
            Reason::Tagged { until, .. } => *until,
            Reason::Silent { .. } | Reason::Newest | Reason::Counted | Reason::Last { .. } => None,
        });
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// Judges all chains. The verdicts come by set, and in it by age, the oldest first.
pub fn judge(snapshots: &[Snapshot], rules: impl Fn(&str) -> Rules, basis: Basis) -> Vec<ChainVerdict> {
    let mut sets: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        sets.entry(&snapshot.set).or_default().push(snapshot);
    }
    let mut verdicts = Vec::new();
    for (set, mut of_set) in sets {
        of_set.sort_by_key(|snapshot| (snapshot.sequence, snapshot.id));
        let times: Vec<Timestamp> = of_set.iter().map(|snapshot| snapshot.time).collect();
        let times = order::in_order(&times, basis.now);
        let newest = times.iter().copied().max().unwrap_or(basis.now);
        // Counting at the newest snapshot keeps a silent set: a machine that is off for months loses nothing by that.
        let now = if basis.by_clock { basis.now } else { newest.min(basis.now) };
        let members = of_set.into_iter().zip(times).map(|(snapshot, time)| Member { snapshot, time });
        verdicts.extend(SetSnapshots { rules: &rules(set), now, basis, members: members.collect() }.judge());
    }
    verdicts
}

/// A snapshot, with the time at which it came by the order of all.
#[derive(Clone, Copy)]
struct Member<'a> {
    snapshot: &'a Snapshot,
    time: Timestamp,
}

/// A chain with its members, at least one.
type Chain<'a> = (ChainId, Vec<Member<'a>>);

/// One set's snapshots, by sequence.
struct SetSnapshots<'a> {
    rules: &'a Rules,
    /// The time at which ages are computed.
    now: Timestamp,
    basis: Basis,
    members: Vec<Member<'a>>,
}

impl SetSnapshots<'_> {
    fn judge(&self) -> Vec<ChainVerdict> {
        let chains = self.chains();
        let counted = self.newest_good(&chains, self.rules.keep_chains.max(1) as usize);
        let best = chains.iter().position(|(chain, _)| counted.first() == Some(chain)).unwrap_or(0);
        let gap = self.gap();
        let tagged = self.tagged();
        let mut last = self.last_holders(&chains);
        let verdicts = chains.iter().enumerate().map(|(place, (chain, members))| {
            let mut reasons = Vec::new();
            let until = members.iter().map(|member| member.time).max().unwrap_or(self.now).after(self.rules.keep);
            if until > self.basis.now {
                reasons.push(Reason::Young { until });
            } else if until > self.now {
                reasons.push(Reason::Silent { newest: self.now });
            }
            // Later chains are not good yet, but hold the data that came since.
            if place >= best {
                reasons.push(Reason::Newest);
            } else if counted.contains(chain) {
                reasons.push(Reason::Counted);
            }
            let what = last.remove(chain).filter(|_| place < best);
            reasons.extend(what.map(|what| Reason::Last { what }));
            let ids = members.iter().map(|member| member.snapshot.id);
            reasons.extend(ids.clone().flat_map(|id| tagged.get(&id).cloned().unwrap_or_default()));
            reasons.extend(gap.map(|until| Reason::Gap { until }));
            ChainVerdict { chain: *chain, set: members[0].snapshot.set.clone(), snapshots: ids.collect(), reasons }
        });
        verdicts.collect()
    }

    /// The chains in the order of their first snapshots.
    fn chains(&self) -> Vec<Chain<'_>> {
        let mut chains: Vec<Chain<'_>> = Vec::new();
        let mut places: BTreeMap<ChainId, usize> = BTreeMap::new();
        for &member in &self.members {
            let place = *places.entry(member.snapshot.chain).or_insert(chains.len());
            match chains.get_mut(place) {
                Some((_, members)) => members.push(member),
                None => chains.push((member.snapshot.chain, vec![member])),
            }
        }
        chains
    }

    /// The chains that are the last good ones to have something, each with the first such thing.
    fn last_holders(&self, chains: &[Chain<'_>]) -> BTreeMap<ChainId, Untrusted> {
        let mut held = BTreeSet::new();
        let mut last = BTreeMap::new();
        for (chain, members) in chains.iter().rev() {
            let good = members.iter().filter(|member| member.snapshot.good);
            let here: BTreeSet<&Untrusted> = good.flat_map(|member| &member.snapshot.holds).collect();
            if let Some(what) = here.iter().find(|what| !held.contains(**what)) {
                last.insert(*chain, (*what).clone());
            }
            held.extend(here);
        }
        last
    }

    /// Whether a snapshot may push others out.
    fn counts(&self, member: &Member<'_>) -> bool {
        member.snapshot.good && (!self.basis.settled || member.time.after(self.rules.keep) <= self.now)
    }

    /// The newest chains that count, the newest first: `count` of them, or those of so many days.
    fn newest_good(&self, chains: &[Chain<'_>], count: usize) -> Vec<ChainId> {
        let mut good = Vec::new();
        let mut days = BTreeSet::new();
        for (place, (chain, members)) in chains.iter().enumerate().rev() {
            let Some(first) = members.iter().find(|member| self.counts(member)) else { continue };
            days.insert(self.unit(first, place));
            if days.len() > count {
                break;
            }
            good.push(*chain);
        }
        good
    }

    /// The unit of counting: the day, or each for itself.
    fn unit(&self, member: &Member<'_>, number: usize) -> i64 {
        match self.basis.settled {
            true => member.time.seconds().div_euclid(24 * 3600),
            false => i64::try_from(number).unwrap_or(i64::MAX),
        }
    }

    /// When the peace after a gap between the last snapshots ends, if there is one.
    fn gap(&self) -> Option<Timestamp> {
        if self.basis.by_clock {
            return None;
        }
        let recent = |time: &Timestamp| time.after(AFTER_GAP) > self.basis.now;
        let times: BTreeSet<Timestamp> = self.members.iter().map(|member| member.time).collect();
        let first = *times.iter().find(|time| recent(time))?;
        let before = times.range(..first).next_back()?;
        // A pause shorter than `keep` makes nothing due all at once.
        (first.since(*before) > self.rules.keep.max(LONG_GAP)).then(|| first.after(AFTER_GAP))
    }

    /// The reasons that tags give, by the snapshots that have them.
    fn tagged(&self) -> BTreeMap<SnapshotId, Vec<Reason>> {
        let mut reasons: BTreeMap<SnapshotId, Vec<Reason>> = BTreeMap::new();
        for (tag, rule) in &self.rules.tags {
            let having = self.members.iter().filter(|member| member.snapshot.tags.contains(tag));
            let pinned: Vec<(SnapshotId, Option<Timestamp>)> = match rule {
                TagRule::Newest(count) => self.newest_tagged(having.copied().collect(), *count as usize),
                TagRule::For(length) => having
                    .map(|member| (member.snapshot.id, Some(member.time.after(*length))))
                    .filter(|(_, until)| until.is_some_and(|until| until > self.now))
                    .collect(),
            };
            for (snapshot, until) in pinned {
                reasons.entry(snapshot).or_default().push(Reason::Tagged { tag: tag.clone(), snapshot, until });
            }
        }
        reasons
    }

    /// The newest `count` of those that have a tag. Snapshots that may not displace others don't count, and stay as long
    /// as those.
    fn newest_tagged(&self, having: Vec<Member<'_>>, count: usize) -> Vec<(SnapshotId, Option<Timestamp>)> {
        let mut pinned = Vec::new();
        let mut units = BTreeSet::new();
        for (number, member) in having.iter().enumerate().rev() {
            if !self.basis.settled || self.counts(member) {
                units.insert(self.unit(member, number));
            }
            if units.len() > count {
                break;
            }
            pinned.push((member.snapshot.id, None));
        }
        pinned
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn on(day: i64) -> Timestamp {
        Timestamp::from_seconds(day * 86_400)
    }

    fn snapshot(number: u64, chain: u8, day: i64, tags: &[&str], good: bool) -> Snapshot {
        let mut id = [0; SnapshotId::LEN];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Snapshot {
            id: SnapshotId::from_bytes(id),
            set: "agama".to_owned(),
            chain: ChainId::from_bytes([chain; 16]),
            sequence: number,
            time: on(day),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            good,
            holds: Vec::new(),
        }
    }

    /// A snapshot a day, a full each seventh.
    fn weeks(days: std::ops::Range<i64>) -> Vec<Snapshot> {
        days.map(|day| snapshot(day as u64, (day / 7) as u8, day, &[], true)).collect()
    }

    fn rules(keep: Duration, tags: &[(&str, TagRule)]) -> Rules {
        let tags = tags.iter().map(|(tag, rule)| ((*tag).to_owned(), *rule)).collect();
        Rules { keep, tags, ..Rules::default() }
    }

    /// The numbers of the chains that stay.
    fn kept(snapshots: &[Snapshot], rules: &Rules, now: i64) -> Vec<u8> {
        let verdicts = judge(snapshots, |_| rules.clone(), Basis::at(on(now)));
        verdicts.iter().filter(|verdict| !verdict.goes()).map(|verdict| verdict.chain.as_bytes()[0]).collect()
    }

    #[test]
    fn four_weeks_of_weekly_chains() {
        let rules = rules(28 * DAY, &[]);
        // The chain of days 0 to 6 is removed when day 6 is 28 days old.
        assert_eq!(kept(&weeks(0..34), &rules, 33), [0, 1, 2, 3, 4]);
        assert_eq!(kept(&weeks(0..35), &rules, 34), [1, 2, 3, 4]);
        assert_eq!(kept(&weeks(0..41), &rules, 40), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_week_and_the_last_two_before_a_deployment() {
        let mut snapshots = weeks(0..60);
        for day in [3, 20, 31] {
            snapshots[day].tags.push("pre-deploy".to_owned());
        }
        let rules = rules(7 * DAY, &[("pre-deploy", TagRule::Newest(2))]);
        assert_eq!(kept(&snapshots, &rules, 59), [2, 4, 7, 8]);
        let verdicts = judge(&snapshots, |_| rules.clone(), Basis::at(on(59)));
        let tagged = &verdicts.iter().find(|verdict| verdict.chain.as_bytes()[0] == 2).unwrap().reasons;
        let reason = Reason::Tagged { tag: "pre-deploy".to_owned(), snapshot: snapshots[20].id, until: None };
        assert_eq!(*tagged, [reason]);
    }

    #[test]
    fn one_day_in_development() {
        let snapshots: Vec<Snapshot> = (0..10).map(|day| snapshot(day as u64, day as u8, day, &[], true)).collect();
        assert_eq!(kept(&snapshots, &rules(DAY, &[]), 9), [9]);
    }

    #[test]
    fn a_tag_for_a_year() {
        let mut snapshots = weeks(0..100);
        snapshots[8].tags.push("monthly".to_owned());
        let rules = rules(28 * DAY, &[("monthly", TagRule::For(91 * DAY))]);
        assert!(kept(&snapshots, &rules, 98).contains(&1));
        assert!(!kept(&snapshots, &rules, 99).contains(&1));
    }

    #[test]
    fn what_is_suspect_pushes_nothing_out() {
        let mut snapshots = weeks(0..70);
        snapshots[14..].iter_mut().for_each(|snapshot| snapshot.good = false);
        let kept = kept(&snapshots, &rules(7 * DAY, &[]), 69);
        assert_eq!(kept, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn the_last_good_chain_of_a_path_or_a_database_stays_though_newer_ones_lack_it() {
        let mut snapshots = weeks(0..70);
        for snapshot in &mut snapshots {
            let day = snapshot.sequence;
            snapshot.holds = if day < 20 { vec!["shop".into(), "wiki".into()] } else { vec!["shop".into()] };
        }
        assert_eq!(kept(&snapshots, &rules(7 * DAY, &[]), 69), [2, 9]);
        snapshots[14..20].iter_mut().for_each(|snapshot| snapshot.good = false);
        assert_eq!(kept(&snapshots, &rules(7 * DAY, &[]), 69), [1, 9], "a suspect one doesn't have it");
        snapshots[69].holds.push("wiki".into());
        assert_eq!(kept(&snapshots, &rules(7 * DAY, &[]), 69), [9], "it has come back");
    }

    #[test]
    fn times_of_a_wrong_clock_pin_nothing_and_free_nothing() {
        let mut snapshots = weeks(0..70);
        snapshots[14].time = on(500);
        assert_eq!(kept(&snapshots, &rules(28 * DAY, &[]), 69), kept(&weeks(0..70), &rules(28 * DAY, &[]), 69));
        // Silent, and by the clock on a person's word.
        let silent = &weeks(0..28);
        let verdicts = judge(silent, |_| rules(28 * DAY, &[]), Basis::at(on(60)));
        assert_eq!(verdicts[0].reasons[0], Reason::Silent { newest: on(27) });
        let now = Basis { by_clock: true, ..Basis::at(on(60)) };
        let verdicts = judge(silent, |_| rules(28 * DAY, &[]), now);
        assert_eq!(verdicts.iter().map(ChainVerdict::goes).collect::<Vec<_>>(), [true, true, true, false]);
    }

    #[test]
    fn a_number_of_chains() {
        let rules = Rules { keep_chains: 4, ..rules(DAY, &[]) };
        assert_eq!(kept(&weeks(0..70), &rules, 69), [6, 7, 8, 9]);
    }

    #[test]
    fn a_clock_that_runs_ahead_makes_nothing_old() {
        let rules = rules(28 * DAY, &[]);
        assert_eq!(kept(&weeks(0..28), &rules, 400), [0, 1, 2, 3]);
        // Nor does it while backups are made with it, for a week.
        let mut snapshots = weeks(0..28);
        snapshots.extend((0..9).map(|day| snapshot(100 + day as u64, 50, 400 + day, &[], true)));
        assert_eq!(kept(&snapshots[..30], &rules, 402), [0, 1, 2, 3, 50]);
        assert_eq!(kept(&snapshots, &rules, 406), [0, 1, 2, 3, 50]);
        assert_eq!(kept(&snapshots, &rules, 408), [50]);
    }

    #[test]
    fn a_clock_that_jumps_back_makes_nothing_old() {
        assert_eq!(kept(&weeks(0..28), &rules(28 * DAY, &[]), -100), [0, 1, 2, 3]);
    }

    #[test]
    fn rare_snapshots_go_too() {
        let snapshots: Vec<Snapshot> =
            (0..12).map(|month| snapshot(month, month as u8, month as i64 * 30, &[], true)).collect();
        assert_eq!(kept(&snapshots, &rules(28 * DAY, &[]), 332), (0..12).collect::<Vec<u8>>());
        assert_eq!(kept(&snapshots, &rules(28 * DAY, &[]), 338), [11]);
    }

    prop_compose! {
        fn histories()(steps in prop::collection::vec((0_i64..9, 0_u8..8, any::<bool>(), 0_u8..12), 1..80)) -> Vec<Snapshot> {
            let (mut day, mut chain) = (0, 0);
            steps.into_iter().enumerate().map(|(number, (pause, fresh, good, tag))| {
                day += pause;
                chain += u8::from(fresh == 0);
                let tags: &[&str] = match tag { 0 => &["pre-deploy"], 1 => &["monthly"], _ => &[] };
                snapshot(number as u64 + 1, chain, day, tags, good || fresh > 3)
            }).collect()
        }
    }

    proptest! {
        /// The promises of the rules, in other words.
        #[test]
        fn all_that_is_promised_stays(snapshots in histories(), later in 0_i64..60, keep in 1_u32..40, chains in 1_u32..4) {
            let tags = &[("pre-deploy", TagRule::Newest(2)), ("monthly", TagRule::For(60 * DAY))];
            let rules = Rules { keep_chains: chains, ..rules(keep * DAY, tags) };
            let newest = snapshots.last().unwrap();
            let now = newest.time.after(later as u32 * DAY);
            let verdicts = judge(&snapshots, |_| rules.clone(), Basis::at(now));
            let stays = |snapshot: &Snapshot| !verdicts.iter().any(|v| v.goes() && v.snapshots.contains(&snapshot.id));

            prop_assert_eq!(verdicts.iter().map(|verdict| verdict.snapshots.len()).sum::<usize>(), snapshots.len());
            prop_assert!(stays(newest));
            prop_assert!(snapshots.iter().rfind(|snapshot| snapshot.good).is_none_or(&stays));
            for snapshot in &snapshots {
                let young = snapshot.time.after(rules.keep) > newest.time;
                prop_assert!(!young || stays(snapshot), "a young one went");
                let monthly = snapshot.tags.contains(&"monthly".to_owned());
                prop_assert!(!monthly || snapshot.time.after(60 * DAY) <= newest.time || stays(snapshot));
            }
            let deploys = snapshots.iter().rev().filter(|snapshot| snapshot.tags.contains(&"pre-deploy".to_owned()));
            prop_assert!(deploys.take(2).all(&stays));
            // A removed chain is old, has a newer good chain, and no gap before the last days.
            for verdict in verdicts.iter().filter(|verdict| verdict.goes()) {
                let members = || snapshots.iter().filter(|snapshot| snapshot.chain == verdict.chain);
                prop_assert!(members().all(|member| member.time.after(rules.keep) <= newest.time));
                let last = members().map(|member| member.sequence).max().unwrap();
                prop_assert!(snapshots.iter().any(|other| other.good && other.sequence > last));
            }
            // Time alone never brings back a removed chain.
            let gone = |at| judge(&snapshots, |_| rules.clone(), Basis::at(at)).iter().filter(|v| v.goes()).count();
            prop_assert!(gone(now.after(30 * DAY)) >= gone(now));
        }
    }
}
