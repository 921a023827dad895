//! Groups that may be a slip: any name in `group` of a `[[stream]]` makes one, and parts its table
//! from the moment at which the others are shown. Pure.

use super::finding::Finding;
use crate::settings::{GroupSettings, MAIN};

/// So many are named; of more, their number is told.
const NAMED_MAX: usize = 5;

/// Which groups no `[[group]]` names though it names others, or though they have one stream alone;
/// `None` where nothing looks like a slip.
pub fn unlisted(groups: &[GroupSettings]) -> Option<Finding> {
    let lists = groups.iter().any(|group| group.is_listed && group.name != MAIN);
    let may_be_slip = |group: &&GroupSettings| {
        group.name != MAIN && !group.is_listed && (lists || group.streams.len() == 1)
    };
    let names: Vec<&str> =
        groups.iter().filter(may_be_slip).map(|group| group.name.as_str()).collect();
    if names.is_empty() || groups.len() == 1 {
        return None;
    }
    let mut named = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED_MAX {
        named = format!("{named} and {} more", names.len() - NAMED_MAX);
    }
    let detail = format!("no [[group]] names {named}: the tables of each group are of one moment");
    let remedy = "if a name is a slip, correct `group` in [[stream]]; if it is meant, list it in \
                  [[group]]";
    Some(Finding { remedy: remedy.to_owned(), ..Finding::ok("groups", detail) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_nobody_listed_is_told_where_it_may_be_a_slip() {
        let group = |name: &str, streams: usize, is_listed| GroupSettings {
            name: name.to_owned(),
            database: "db".to_owned(),
            schema: "public".to_owned(),
            streams: (0..streams).collect(),
            is_listed,
        };
        let told = |groups: &[GroupSettings]| unlisted(groups).map(|finding| finding.detail);
        let main = || group(MAIN, 3, false);
        let one = told(&[main(), group("mian", 1, false)]).unwrap();
        assert!(one.starts_with("no [[group]] names mian: "), "{one}");
        assert_eq!(told(&[main(), group("other", 2, false)]), None, "two streams name it");
        assert_eq!(told(&[main(), group("other", 1, true)]), None, "it is listed");
        let lists = [main(), group("archive", 2, true), group("archvie", 2, false)];
        assert!(told(&lists).unwrap().contains("archvie"));
        assert_eq!(told(&[group("only", 1, false)]), None, "there are no others");
        let each: Vec<_> = (0..9).map(|n| group(&format!("g{n}"), 1, false)).collect();
        assert!(told(&each).unwrap().contains("g4 and 4 more"));
    }
}
