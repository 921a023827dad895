//! Bar 7: how soon a write is visible while nothing else happens; ours against a careful script's,
//! and both over the bare stream.

use std::time::Duration;

use crate::daemon::{Bench, World};
use crate::load::COLLECTION;
use crate::script::{self, Script};
use crate::table::{Bar, Limit};
use crate::visible::{Latencies, PAUSE, Watched, quantile};

/// Writes of each a round.
const WRITES: usize = 200;

/// As soon as the script, within what two runs of one program differ by in the median.
const AS_SOON: f64 = 1.05;

/// What came of one of the two.
#[derive(Default)]
struct Measured {
    at_rest: Latencies,
    /// The next write at once after one was visible.
    in_a_row: Latencies,
}

impl Measured {
    async fn add(&mut self, watched: &mut Watched) {
        self.at_rest.add(watched.write(WRITES, PAUSE).await);
        self.in_a_row.add(watched.write(WRITES, Duration::ZERO).await);
    }
}

pub async fn bars(bench: &Bench, rounds: usize) -> Vec<Bar> {
    let (ours, scripts) = measured(bench, rounds.max(5)).await;
    let beside = |of: fn(&Measured) -> &Latencies, share| {
        let after = |who| quantile(&of(who).after_acknowledged, share);
        let (mine, script) = (after(&ours), after(&scripts));
        (mine / script, format!("{mine:.2} and {script:.2} ms after the acknowledgement"))
    };
    let over = |share| {
        let of = |who: &Measured| quantile(&who.at_rest.over_bare, share);
        (of(&ours), format!("the script {:.2} ms", of(&scripts)))
    };
    let bar = |name: &str, (figure, note): (f64, String), limit, unit| {
        Bar::new(format!("7 {name}"), figure, Limit::AtMost(limit), unit).with(note)
    };
    vec![
        bar(
            "at rest, visible ÷ a careful script, p50",
            beside(|of| &of.at_rest, 0.50),
            AS_SOON,
            "",
        ),
        bar("at rest, visible ÷ a careful script, p99", beside(|of| &of.at_rest, 0.99), 1.2, ""),
        bar(
            "in a row, visible ÷ a careful script, p50",
            beside(|of| &of.in_a_row, 0.50),
            AS_SOON,
            "",
        ),
        bar("at rest, over a bare stream, p50", over(0.50), 2.0, "ms"),
        bar("at rest, over a bare stream, p99", over(0.99), 5.0, "ms"),
    ]
}

/// By turns, each alone: ours with two streams, as the default configuration has.
async fn measured(bench: &Bench, rounds: usize) -> (Measured, Measured) {
    let ours = two_streams(bench).await;
    let world = bench.world("rest_script").await;
    Script::prepare(&world.target_url).await;
    let (mut mine, mut scripts) = (Measured::default(), Measured::default());
    let mut watched = None;
    let mut of_script = of(&world, script::TABLE).await;
    for _ in 0..rounds {
        let daemon = ours.start().await;
        daemon.until_all("streaming").await;
        let watched = match &mut watched {
            Some(watched) => watched,
            none => none.insert(of(&ours, "public.doctor").await),
        };
        mine.add(watched).await;
        daemon.stop();
        let uri = bench.mongo.uri();
        let script = Script::start(&uri, world.source.name(), &world.target_socket).await;
        scripts.add(&mut of_script).await;
        drop(script);
    }
    ours.assert_equal().await;
    (mine, scripts)
}

async fn of(world: &World, table: &str) -> Watched {
    let collections = [COLLECTION.to_owned()];
    Watched::new(&world.source, &collections, &world.target_url, &[table.to_owned()]).await
}

async fn two_streams(bench: &Bench) -> World {
    let column = "column = [{ name = \"last_name\", field = \"doctorLastName\", type = \"text\" }]";
    let stream = |name: &str, collection: &str| {
        format!(
            "[[stream]]\nname = {name:?}\ncollection = {collection:?}\ntable = \
             {name:?}\n{column}\n"
        )
    };
    let streams = stream("doctor", COLLECTION) + &stream("recommendation", "recommendation");
    bench.world_of("rest", &streams).await
}
