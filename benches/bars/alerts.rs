//! Bar 9: what a dead Slack and a dead Sentry cost the data.

use devstack::{Behaviour, Fakes};

use crate::daemon::Bench;
use crate::load::{self, Shape};
use crate::table::{Bar, Limit, median};

/// Paired runs over one backlog while an incident is open: with Slack and Sentry that never answer,
/// and with none.
pub async fn bar(bench: &Bench, events: usize, rounds: usize) -> Bar {
    // A column that no value fits: an incident opens at the first batch and stays.
    let drifting = "[[stream]]\nname = \"doctor\"\ncollection = \"doctorsForDB\"\ntable = \
                    \"doctor\"\ncolumn = [\n{ name = \"last_name\", field = \"doctorLastName\", \
                    type = \"boolean\" } ]\n";
    let world = bench.world_of("alerts", drifting).await;
    let fakes = Fakes::start().unwrap();
    fakes.slack(Behaviour::Hangs);
    fakes.sentry(Behaviour::Hangs);
    let holed = world.with(&fakes.config());
    world.first_position().await;
    load::backlog(&world.source, Shape::Big, events).await;
    let (mut ratios, mut rates) = (vec![], vec![]);
    for round in 0..rounds.max(3) {
        let mut pair = [0.0, 0.0];
        // Which of the two comes first changes, so that neither has the warmer caches.
        for place in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let world = if place == 0 { &world } else { &holed };
            world.rewind().await;
            world.execute("delete from tidemark.incident").await;
            pair[place] = world.drain(events as u64).await.events_per_second;
        }
        rates.push(pair[0]);
        ratios.push(pair[1] / pair[0]);
    }
    assert!(!fakes.calls().is_empty(), "nothing was ever sent to the dead Slack");
    Bar::new(
        "9 drain, Slack and Sentry black-holed ÷ without",
        median(&ratios),
        Limit::AtLeast(0.95),
        "",
    )
    .with(format!("{:.0} events/s without", median(&rates)))
}
