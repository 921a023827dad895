use super::*;

fn seen(there: bool, documents: u64, unmapped: &[(Box<str>, u64)]) -> FieldsSeen<'_> {
    let absent = if there { 0 } else { documents };
    FieldsSeen { documents, presence: vec![(there, absent)], unmapped, ..FieldsSeen::default() }
}

#[test]
fn a_renamed_field_is_told_once_with_its_likely_new_name() {
    let now = Utc::now();
    let columns = vec![("body".to_owned(), vec!["designateBody".to_owned()])];
    let mut fields = Fields { columns, ..Fields::default() };
    let old: [(Box<str>, u64); 1] = [("_class".into(), 500)];
    let new: [(Box<str>, u64); 2] = [("_class".into(), 500), ("designatedBodyCode".into(), 500)];
    assert!(
        fields.see(now, &seen(true, 500, &old), false).is_empty(),
        "the first documents are the baseline"
    );
    let told: Vec<Vec<DriftReport>> =
        (0..4).map(|_| fields.see(now, &seen(false, 500, &new), false)).collect();
    let brief = |reports: &[DriftReport]| {
        reports.iter().map(|r| format!("{} {}", r.kind, r.field)).collect::<Vec<_>>()
    };
    assert_eq!(brief(&told[0]), ["unknown designatedBodyCode"]);
    assert_eq!(brief(&told[1]), ["vanished designateBody"]);
    assert!(told[2].is_empty() && told[3].is_empty());
    let drift = fields.drift();
    let vanished = drift.iter().find(|report| report.kind == DriftKind::Vanished).unwrap();
    assert_eq!(vanished.likely_new_name.as_deref(), Some("designatedBodyCode"));
    // What a new leader with the same configuration knows; and that it is over when the field
    // is back.
    let mut after = Fields { columns: fields.columns.clone(), ..Fields::default() };
    after.remember(&fields.report(), &drift);
    assert_eq!(after.drift(), drift);
    after.see(now, &seen(true, 1, &new), false);
    assert!(after.drift().iter().all(|report| report.kind != DriftKind::Vanished));
    // Once the new field is read too, nothing of it is left, and neither is it one that no
    // column reads.
    let mended = vec![(
        "body".to_owned(),
        vec!["designateBody".to_owned(), "designatedBodyCode".to_owned()],
    )];
    let mut mended = Fields { columns: mended, ..Fields::default() };
    let left = FieldsReport { unmapped: vec!["designatedBodyCode".to_owned()], ..fields.report() };
    mended.remember(&left, &drift);
    assert!(mended.drift().is_empty() && mended.unmapped.is_empty());
    // A day later the new field is known.
    let later = now + TimeDelta::days(2);
    after.see(later, &seen(true, 1, &new), false);
    after.see(later, &seen(true, 1, &new), false);
    assert!(after.drift().is_empty() && after.unmapped.contains("designatedBodyCode"));
}

/// One field's name among keys that are data: it is told, they are not, and all stays small.
#[test]
fn of_a_hundred_thousand_keys_that_are_data_none_is_told_and_a_field_among_them_is() {
    let now = Utc::now();
    let columns = vec![("body".to_owned(), vec!["body".to_owned()])];
    let mut fields = Fields { columns, ..Fields::default() };
    let key = |number: usize| format!("person{}", "abcdefghij".chars().nth(number % 10).unwrap());
    let mut told = Vec::new();
    for batch in 0..1_000 {
        let data = (0..99).map(|n| (format!("{}{}", key(n), batch * 100 + n).into_boxed_str(), 1));
        let field = ("comment".into(), if batch < 500 { 0 } else { 100 });
        let names: Vec<(Box<str>, u64)> =
            std::iter::once(field).filter(|(_, n)| *n > 0).chain(data).collect();
        told.extend(fields.see(now, &seen(true, 100, &names), batch < 10));
    }
    let names: Vec<&str> = told.iter().map(|report| report.field.as_str()).collect();
    assert_eq!(names, ["comment"], "the rest was met in the first walk, and is one entry");
    assert_eq!(fields.report().unmapped, [DATA]);
    let kept = fields.few.len() + fields.unmapped.len() + fields.drift.len();
    assert!(kept <= NAMES_MAX + 1, "{kept}");
    let report = serde_json::to_string(&(fields.report(), fields.drift())).unwrap();
    assert!(report.len() < 1_000 && !report.contains("person"), "{report}");
}

#[test]
fn a_name_is_told_once_one_in_a_hundred_documents_and_twenty_have_it() {
    let now = Utc::now();
    let columns = vec![("body".to_owned(), vec!["body".to_owned()])];
    let mut fields = Fields { columns, ..Fields::default() };
    fields.see(now, &seen(true, 100, &[]), false);
    let rare: [(Box<str>, u64); 1] = [("rare".into(), 1)];
    for number in 0..19 {
        assert!(fields.see(now, &seen(true, 1, &rare), false).is_empty(), "{number}");
    }
    assert_eq!(fields.see(now, &seen(true, 1, &rare), false).len(), 1, "the twentieth");
    let rarer: [(Box<str>, u64); 1] = [("rarer".into(), 1)];
    for _ in 0..300 {
        assert!(
            fields.see(now, &seen(true, 101, &rarer), false).is_empty(),
            "less than one in a hundred"
        );
    }
    // What the first documents have is nothing new, however few they were, nor for the next
    // leader.
    let mut young = Fields { columns: fields.columns.clone(), ..Fields::default() };
    let old: [(Box<str>, u64); 1] = [("old".into(), 5)];
    young.see(now, &seen(true, 5, &old), true);
    let mut next = Fields { columns: fields.columns.clone(), ..Fields::default() };
    next.remember(&young.report(), &young.drift());
    let told: Vec<DriftReport> =
        (0..100).flat_map(|_| next.see(now, &seen(true, 5, &old), false)).collect();
    assert!(told.is_empty() && next.report().unmapped == ["old"], "{told:?}");
}
