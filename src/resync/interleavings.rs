//! The walk beside the live stream, as a model: thousands of interleavings of changes, batches,
//! chunks, kills, a database that goes back, a collection dropped and made again, persons who
//! approve, and the sweep must end with the table equal to the source and no row gone back to what
//! is older than it has shown; and with any one safeguard taken out, some must not.

mod memory;
mod model_source;
mod model_walk;
mod safeguard;
mod world;

use std::collections::BTreeMap;

use fastrand::Rng;

use safeguard::Without;
use world::World;

/// `asks` is the last line of defence: the source is asked for what is to be swept. Behind it, some
/// safeguards of a walk could be missing and nobody would notice.
fn run(without: Without, asks: bool, overlooks: bool, seed: u64) -> World {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::after_a_gap(&mut rng, without);
    (world.asks, world.overlooks) = (asks, overlooks);
    (0..rng.usize(5..150)).for_each(|_| world.step(&mut rng));
    world.quieten(&mut rng);
    world
}

impl World {
    /// One thing happens.
    fn step(&mut self, rng: &mut Rng) {
        match rng.u8(..64) {
            0..=9 => self.source.change(rng, true),
            10..=19 => self.apply_batch(rng),
            20..=22 => self.begin_chunk(),
            23..=46 => self.read_on(rng),
            47..=50 => self.write_chunk(rng),
            51..=52 => self.search(),
            53..=54 => self.ask(),
            55..=56 => self.delete(),
            57 => self.person(rng),
            58 => self.kill(),
            59 => self.go_back(rng),
            60 if rng.u8(..4) == 0 => self.source.drop_it(),
            61 => {
                let before = self.stored.table.iter().map(|(key, row)| (*key, row.value)).collect();
                self.source.make_again(rng, &before);
            }
            62..=63 => self.heal(),
            _ => {}
        }
    }

    /// The source falls quiet, and everything is finished.
    fn quieten(&mut self, rng: &mut Rng) {
        self.source.make_again(rng, &BTreeMap::new());
        for _ in 0..10_000 {
            if self.is_finished() {
                return;
            }
            self.apply_batch(rng);
            self.heal();
            self.begin_chunk();
            self.begin_find(rng);
            self.answer_find(rng);
            self.take_find(rng);
            self.write_chunk(rng);
            self.search();
            self.person(rng);
            self.ask();
            self.delete();
        }
    }
}

#[test]
fn twenty_thousand_interleavings_converge() {
    for seed in 0..20_000 {
        assert!(run(Without::Nothing, true, false, seed).ended_well(), "seed {seed}");
        assert!(run(Without::Nothing, false, false, seed).ended_well(), "seed {seed}, not asking");
    }
}

#[test]
fn with_any_safeguard_taken_out_some_interleaving_fails() {
    let safeguards = [
        Without::Sweep,
        Without::Guard,
        Without::EarlyStamp,
        Without::ReadStamp,
        Without::TouchedKeys,
        Without::SweepAge,
        Without::PlaceWithChunk,
        Without::SeenThoughKnown,
        Without::SeenThoughUnwritten,
        Without::NothingElseInSegment,
        Without::OneLine,
        Without::Revision,
        Without::SameCollection,
    ];
    for without in safeguards {
        assert!(
            (0..20_000).any(|seed| !run(without, false, false, seed).ended_well()),
            "{without:?} is not needed, or the model does not see it"
        );
    }
}

/// The last line of defence is one of its own: it holds though the walk itself is wrong.
#[test]
fn a_living_row_that_a_walk_overlooks_is_not_swept_because_the_source_is_asked() {
    let swept = |asks| (0..5_000).any(|seed| run(Without::Nothing, asks, true, seed).swept_alive);
    assert!(!swept(true));
    assert!(swept(false), "asking is not needed, or the model does not see it");
}
