//! What is asked of a session is so, and one that has failed is nowhere used again.

use std::time::Duration;

use devstack::revalidation::{DOCTORS, Revalidation};
use devstack::{Mode, Proxy, Stack};
use sqlx::postgres::PgConnection;
use tidemark::postgres::{Pool, Target, with_deadline};
use tidemark::settings::{Origin, Settings};

use crate::support::{Config, Stopwatch, World, run, status_of_the_well};

fn target(world: &World) -> Target {
    let settings =
        Settings::load(&Origin { file: Some(world.config.clone()), ..Origin::default() }).unwrap();
    Target::new(&settings).unwrap()
}

async fn through(proxy: &Proxy, extra: &str) -> World {
    let stack = Stack::shared();
    let database = stack.postgres.database().await.unwrap();
    let url = format!("postgres://tidemark@127.0.0.1:{}/{database}", proxy.port());
    let config = Config { extra: extra.to_owned(), ..Config::default() };
    let mut world = World::of(&stack.mongo.uri(), &url, config).await;
    world.target_url = stack.postgres.url(&database);
    world
}

/// Everything that a schema on the way could put before Postgres's own, each of which writes down
/// that it was called by tidemark. The database's own setting puts `public` first.
const HOSTILE: &str = "
    create table public.called (what text);
    create function public.spy(what text) returns void language plpgsql set search_path = \
    pg_catalog as $$ begin
        if current_setting('application_name') = 'tidemark' then insert into public.called values \
        (what); end if;
    end $$;
    create function public.gather(state text[], value text) returns text[] language plpgsql as $$ \
    begin
        perform public.spy('array_agg'); return pg_catalog.array_append(state, value); end $$;
    create aggregate public.array_agg(text) (sfunc = public.gather, stype = text[]);
    create function public.unnest(a text[]) returns setof text language plpgsql as $$ begin
        perform public.spy('unnest'); return query select t from pg_catalog.unnest(a) t; end $$;
    create function public.now() returns timestamptz language plpgsql as $$ begin
        perform public.spy('now'); return pg_catalog.now(); end $$;
    create function public.clock_timestamp() returns timestamptz language plpgsql as $$ begin
        perform public.spy('clock_timestamp'); return pg_catalog.clock_timestamp(); end $$;
    create function public.set_config(text, text, boolean) returns text language plpgsql as $$ begin
        perform public.spy('set_config'); return pg_catalog.set_config($1, $2, $3); end $$;
    create function public.pg_backend_pid() returns int language plpgsql as $$ begin
        perform public.spy('pg_backend_pid'); return pg_catalog.pg_backend_pid(); end $$;
    create function public.same(text, text) returns boolean language plpgsql set search_path = \
    pg_catalog as $$ begin
        perform public.spy('='); return $1 = $2; end $$;
    create operator public.= (leftarg = text, rightarg = text, function = public.same);
    create function public.less(bigint, bigint) returns boolean language plpgsql set search_path = \
    pg_catalog as $$ begin
        perform public.spy('<='); return $1 <= $2; end $$;
    create operator public.<= (leftarg = bigint, rightarg = bigint, function = public.less);
    create table public.pg_namespace (nspname name);
    create table public.pg_class (relname name);
";

#[tokio::test]
async fn what_stands_in_a_schema_on_the_way_is_never_called() {
    let world = World::new().await;
    world.execute(HOSTILE).await;
    let first = "do $$ begin execute format('alter database %I set search_path = public, \
                 pg_catalog', current_database()); end $$";
    world.execute(first).await;
    let mut data = Revalidation::new(world.source.clone(), 161);
    data.load(1_500, 300).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    data.work(500).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    status_of_the_well(&world).await;
    for command in [&["check"][..], &["compare", "doctor"]] {
        let (code, text) = run(&world, command);
        assert_eq!(code, Some(0), "{text}");
    }
    run(&world, &["resync", "doctor", "--reason", "test", "--execute"]);
    let resynced = "select exists (select from tidemark.resync where reason = 'requested' and \
                    state = 'completed')";
    world.until("resynced", resynced).await;
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(world.column("select distinct what from public.called").await, Vec::<String>::new());
}

#[tokio::test]
async fn every_session_is_what_it_was_promised_to_be() {
    let world = World::new().await;
    let settings = [
        "search_path",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "jit",
    ];
    let show = async |connection: &mut PgConnection| {
        let all = "select array_agg(current_setting(name) order by place) from unnest($1) with \
                   ordinality u (name, place)";
        let names: Vec<String> = settings.iter().map(|name| (*name).to_owned()).collect();
        sqlx::query_scalar::<_, Vec<String>>(all).bind(names).fetch_one(connection).await.unwrap()
    };
    let target = target(&world);
    let mut own = target.connect().await.unwrap();
    assert_eq!(show(&mut own).await, ["pg_catalog", "3s", "2400ms", "1500ms", "off"]);
}

/// All its sessions are to be had together, and each answers.
async fn all_at_once(pool: &Pool, sessions: usize) {
    let mut all = Vec::new();
    for _ in 0..sessions {
        all.push(with_deadline(Duration::from_secs(10), pool.acquire()).await.unwrap());
    }
    for mut session in all {
        with_deadline(Duration::from_secs(10), sqlx::query("select 1").execute(&mut *session))
            .await
            .unwrap();
        session.give_back();
    }
}

#[tokio::test]
async fn a_call_that_times_out_keeps_nothing_of_its_pool() {
    let proxy = Proxy::to(Stack::shared().postgres.port()).unwrap();
    let world = through(&proxy, "").await;
    let pool = target(&world).pool(3);
    all_at_once(&pool, 3).await;
    for _ in 0..3 {
        proxy.set(Mode::Stall);
        let asks = (0..3).map(|_| {
            with_deadline(Duration::from_millis(200), sqlx::query("select 1").execute(&pool))
        });
        for answer in futures_util::future::join_all(asks).await {
            assert!(answer.unwrap_err().message.starts_with("no answer"));
        }
        // The wire comes back, and with it none of the connections.
        proxy.lose();
        proxy.set(Mode::Pass);
        all_at_once(&pool, 3).await;
    }
}

/// The lease is renewed on another session long before it has run out; what the data path had under
/// way is given up after the deadline of a statement, and then what was asked meanwhile has its
/// turn.
#[tokio::test]
async fn a_wire_lost_in_silence_costs_no_lease_and_a_request_is_obeyed_after_one_deadline() {
    let proxy = Proxy::to(Stack::shared().postgres.port()).unwrap();
    // Long enough that it is not lost to a busy machine.
    let world = through(&proxy, "lease.duration = \"18s\"\n").await;
    let mut data = Revalidation::new(world.source.clone(), 162);
    data.load(300, 100).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.until_phase("recommendation", "streaming").await;
    let begun = Stopwatch::start();
    proxy.lose();
    let renewed = "select bool_and(expires_at > now() + interval '12 seconds') from tidemark.lease";
    world.until("the leases last anew", renewed).await;
    let renewed = begun.elapsed();
    assert!(renewed < Duration::from_secs(36), "{renewed:?}\n{}", daemon.log());
    data.work(100).await.unwrap();
    let (_, text) = run(&world, &["resync", "doctor", "--reason", "test", "--execute"]);
    world
        .until(
            "the request is obeyed",
            "select bool_and(done_at is not null) from tidemark.command",
        )
        .await;
    let (obeyed, deadline) = (begun.elapsed(), target(&world).deadline());
    assert!(obeyed < deadline + Duration::from_secs(8), "{obeyed:?} {text}\n{}", daemon.log());
    world.until_equal(DOCTORS, "public.doctor").await;
    assert_eq!(daemon.stream("doctor").await["epoch"], 1, "the lease was never lost");
}
