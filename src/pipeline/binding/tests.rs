use super::*;
use uuid::Uuid;

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);

fn table(name: &str) -> Table {
    Table { schema: "public".into(), name: name.into() }
}

fn judged(change: impl FnOnce(&mut Binding, &mut Here)) -> BindingVerdict {
    let mut bound = Binding {
        cluster: Some("a".into()),
        collection_uuid: Some(ONE),
        table_schema: "public".into(),
        table_name: "doctor".into(),
        table_oid: 7,
        witness_id: Some("d1".into()),
        witness_time: Some(5),
    };
    let table_now =
        TableNow { oid: 7, witness_time: Some(5), holds_rows: true, holds_orphans: false };
    let mut here =
        Here { cluster: Some("a".into()), found: Found::Collection(Some(ONE)), table: table_now };
    change(&mut bound, &mut here);
    judge(Some(&bound), &here, &table("doctor"), false, false)
}

#[test]
fn a_first_token_proves_nothing_and_every_later_one_does() {
    let token = |time: u64| ResumeToken::of_text(&format!("82{time:016x}2B0229296E04"));
    let proves = |time: u64, begun| entry_of(&token((7 << 32) + time), begun).is_some();
    let begun = Some((7_i64 << 32) + 11);
    assert!(!proves(11, begun) && !proves(12, begun) && proves(13, begun) && proves(10, begun));
    assert!(proves(12, None) && !proves(0, None));
}

#[test]
fn what_is_at_the_source_is_told_from_what_was() {
    assert_eq!(judged(|_, _| {}), BindingVerdict::Same);
    assert_eq!(taken_back(Some(Entry::There)), None);
    let (at, next) = (ClusterTime::new(1), ClusterTime::new(2));
    assert!(taken_back(Some(Entry::Gone { at, next })).is_some());
    assert!(matches!(
        judged(|_, here| here.cluster = Some("b".into())),
        BindingVerdict::Foreign(_)
    ));
    assert!(matches!(
        judged(|_, here| here.found = Found::Collection(Some(TWO))),
        BindingVerdict::Recreated(_)
    ));
    let unknown = |bound: &mut Binding, here: &mut Here| {
        bound.cluster = None;
        here.found = Found::Collection(Some(TWO));
    };
    assert!(
        matches!(judged(unknown), BindingVerdict::Foreign(_)),
        "nothing tells that it is the same cluster"
    );
    assert_eq!(judged(|_, here| here.found = Found::Nothing), BindingVerdict::Dropped);
    assert_eq!(judged(|_, here| here.found = Found::View), BindingVerdict::Unfollowable("a view"));
    assert_eq!(judged(|bound, _| bound.cluster = None), BindingVerdict::Known);
    assert_eq!(judged(|_, here| here.found = Found::Collection(None)), BindingVerdict::Known);
}

#[test]
fn a_table_is_told_from_another_and_from_what_it_was() {
    let replaced = |change: fn(&mut Here)| {
        matches!(judged(|_, here| change(here)), BindingVerdict::TableReplaced(_))
    };
    assert!(replaced(|here| here.table.witness_time = None), "emptied");
    assert!(replaced(|here| here.table.witness_time = Some(4)), "restored from an older backup");
    assert!(
        replaced(|here| (here.table.oid, here.table.witness_time) = (8, None)),
        "dropped and made again"
    );
    assert!(
        replaced(|here| here.table.oid = 8),
        "made anew, as far as the witness tells with all its rows"
    );
    let emptied = |bound: &mut Binding, here: &mut Here| {
        bound.table_name = "old".into();
        here.table =
            TableNow { oid: 8, witness_time: None, holds_rows: false, holds_orphans: false };
    };
    assert_eq!(judged(emptied), BindingVerdict::TableFresh);
    let filled = |bound: &mut Binding, here: &mut Here| {
        bound.table_name = "old".into();
        here.table.oid = 8;
    };
    assert_eq!(judged(filled), BindingVerdict::TableAnother, "that is meant");
    let never_written = |bound: &mut Binding, here: &mut Here| {
        bound.witness_id = None;
        here.table =
            TableNow { oid: 8, witness_time: None, holds_rows: false, holds_orphans: false };
    };
    assert_eq!(judged(never_written), BindingVerdict::Known);
}
