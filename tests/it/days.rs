//! Days that are stored as midnight of a local time: the right ones in a `date` column with a zone,
//! and told of by `check` where it has none.

use mongodb::bson::{DateTime, Document, doc};

use crate::support::{Config, World, run, stream};

const COLUMNS: &str = "column = [ { name = \"born\", field = \"born\", type = \"date\", zone = \
                       \"Europe/London\" }, { name = \"born_utc\", field = \"born\", type = \
                       \"date\" } ]";

fn born(id: &str, at: &str) -> Document {
    doc! { "_id": id, "born": DateTime::parse_rfc3339_str(at).unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_a_zone_is_that_day_and_check_tells_of_those_that_are_not() {
    let config = Config { streams: stream("person", "person", COLUMNS), ..Config::default() };
    let world = World::with(config).await;
    let people = world.collection("person");
    let (summer, winter) =
        (born("summer", "2024-06-30T23:00:00Z"), born("winter", "2024-12-31T00:00:00Z"));
    people.insert_many([summer, winter]).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    people.insert_one(born("live", "1999-08-11T23:00:00Z")).await.unwrap();
    let days = "select array_agg(id || ' ' || born || ' ' || born_utc order by id) = array['live \
                1999-08-12 1999-08-11', 'summer 2024-07-01 2024-06-30', 'winter 2024-12-31 \
                2024-12-31'] from public.person";
    world.until("the days are those of London", days).await;
    world.until_equal("person", "public.person").await;
    let (code, said) = run(&world, &["check"]);
    let told = said.contains("born: 0 of 3 are not midnight Europe/London")
        && said.contains("born_utc: 2 of 3 (66 %) are not midnight UTC")
        && said.contains("zone = \"Europe/London\" in the [[stream.column]]");
    assert!(code == Some(0) && told, "{said}");
    let (code, said) = run(&world, &["init", "--all", "--zone", "Europe/London"]);
    let proposed = "name = \"born\", field = \"born\", type = \"date\", zone = \"Europe/London\"";
    assert!(code == Some(0) && said.contains(proposed), "{said}");
    let (code, said) = run(&world, &["init", "--all", "--zone", "Europe/Londn"]);
    assert!(code != Some(0) && said.contains("there is no zone \"Europe/Londn\""), "{said}");
}
