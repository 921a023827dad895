//! Dates against days: a `date` column keeps the day alone, which is the wrong one where days are
//! stored as midnight of a local time.

use super::finding::Finding;
use crate::apply::Sampled;
use crate::model::format::percent;
use crate::model::value::ColumnType;
use crate::settings::Column;

const REMEDY: &str = "a date column keeps the day, in UTC unless it says whose: of days that are \
                      midnights of a local time, zone = \"Europe/London\" in the \
                      [[stream.column]] makes the right ones; times want a timestamptz";

/// What is to be said of the `date` columns of a stream; `None` where it has none with a value.
pub(super) fn days(what: String, columns: &[Column], found: &[Sampled]) -> Option<Finding> {
    let dates = columns.iter().zip(found).filter(|(column, _)| column.kind == ColumnType::Date);
    let dates: Vec<(&Column, &Sampled)> =
        dates.filter(|(_, sampled)| sampled.present > sampled.unfit).collect();
    let told: Vec<String> = dates.iter().map(|(column, sampled)| one(column, sampled)).collect();
    let is_right = dates.iter().all(|(_, sampled)| sampled.amid_days == 0);
    (!told.is_empty()).then(|| Finding {
        remedy: if is_right { String::new() } else { REMEDY.to_owned() },
        ..Finding::ok(what, told.join("; "))
    })
}

fn one(column: &Column, sampled: &Sampled) -> String {
    let (dates, amid) = (sampled.present - sampled.unfit, sampled.amid_days);
    let zone = column.zone.map_or("UTC", |zone| zone.name());
    let share = if amid == 0 { String::new() } else { format!(" ({})", percent(amid, dates)) };
    format!("{}: {amid} of {dates}{share} are not midnight {zone}", column.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::Zone;

    #[test]
    fn every_date_column_is_told_of_with_its_share_and_what_to_do() {
        let column = |name: &str, kind, zone: Option<&str>| Column {
            name: name.to_owned(),
            paths: vec![],
            kind,
            required: false,
            mask: None,
            zone: zone.and_then(Zone::parse),
        };
        let columns = [
            column("born", ColumnType::Date, None),
            column("seen_at", ColumnType::Timestamptz, None),
            column("due", ColumnType::Date, Some("Europe/London")),
            column("never", ColumnType::Date, None),
        ];
        let of = |present, unfit, amid_days| Sampled { present, unfit, amid_days };
        let found = [of(40, 0, 30), of(9, 0, 0), of(12, 2, 0), of(0, 0, 0)];
        let told = days("days of c".to_owned(), &columns, &found).unwrap();
        assert_eq!(
            told.detail,
            "born: 30 of 40 (75 %) are not midnight UTC; due: 0 of 10 are not midnight \
             Europe/London"
        );
        assert!(told.ok && told.remedy.contains("zone = "));
        let right = days(String::new(), &columns[1..], &found[1..]).unwrap();
        assert_eq!(right.remedy, "");
        assert_eq!(days(String::new(), &columns[3..], &found[3..]), None);
    }
}
