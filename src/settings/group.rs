//! `[[group]]`: which streams are followed as one, from which database, into which schema.

use std::collections::{BTreeMap, BTreeSet};

use super::ends::{SourceSettings, TargetSettings};
use super::entry::Entry;
use super::stream::{MAIN, StreamSettings};
use super::values::Reader;
use crate::model::namespace::HISTORY;

const KEYS: [&str; 3] = ["name", "database", "schema"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    pub name: String,
    /// The source's database it follows.
    pub database: String,
    /// Where its tables live.
    pub schema: String,
    /// Its streams by their place in [`super::Settings::streams`], ascending; never empty.
    pub streams: Vec<usize>,
    /// A `[[group]]` names it.
    pub is_listed: bool,
}

pub(super) fn read(
    r: &mut Reader,
    source: &SourceSettings,
    target: &TargetSettings,
    streams: &[StreamSettings],
) -> Vec<GroupSettings> {
    let mut unlisted = GroupSettings {
        name: String::new(),
        database: source.database.clone(),
        schema: target.schema.clone(),
        streams: Vec::new(),
        is_listed: false,
    };
    let listed = read_listed(r, &unlisted);
    let mut groups: Vec<GroupSettings> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, stream) in streams.iter().enumerate() {
        let place = *places.entry(&stream.group).or_insert_with(|| {
            unlisted.name.clone_from(&stream.group);
            groups.push(listed.get(&stream.group).unwrap_or(&unlisted).clone());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.streams.push(index);
        }
    }
    // A slip in the name would follow another database in silence.
    for name in listed.keys().filter(|name| *name != MAIN && !places.contains_key(name.as_str())) {
        let message = format!("no [[stream]] is of group {name:?}: correct the name or remove it");
        r.problem("group", message);
    }
    check_names(r, &groups, streams);
    check_tables(r, &groups, streams);
    groups
}

fn read_listed(r: &mut Reader, unlisted: &GroupSettings) -> BTreeMap<String, GroupSettings> {
    let mut listed = BTreeMap::new();
    for (index, table) in r.tables("group").into_iter().enumerate() {
        let mut entry = Entry { reader: r, list: "group", place: format!("[{index}]"), table };
        let mut group =
            GroupSettings { name: entry.label("name"), is_listed: true, ..unlisted.clone() };
        if entry.has("database") {
            group.database = entry.word("database");
        }
        if entry.has("schema") {
            group.schema = entry.identifier("schema");
        }
        if listed.contains_key(&group.name) {
            entry.problem("name", &format!("{:?} is used twice", group.name));
        }
        entry.finish(&KEYS);
        listed.insert(group.name.clone(), group);
    }
    listed
}

/// A command or an incident that names one of several streams would name their group, too.
fn check_names(r: &mut Reader, groups: &[GroupSettings], streams: &[StreamSettings]) {
    let names: BTreeSet<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
    for group in groups.iter().filter(|group| names.contains(group.name.as_str())) {
        let mut members = group.streams.iter().filter_map(|&index| streams.get(index));
        let is_its_only_one = members.all(|stream| stream.name == group.name);
        let message = format!(
            "{:?} is the name of a stream and of a group of others: rename one",
            group.name
        );
        r.check("stream", is_its_only_one, &message);
    }
}

fn check_tables(r: &mut Reader, groups: &[GroupSettings], streams: &[StreamSettings]) {
    let mut seen = BTreeSet::new();
    for group in groups {
        for stream in group.streams.iter().filter_map(|&index| streams.get(index)) {
            let history = stream.keeping.history.then(|| format!("{}{HISTORY}", stream.table));
            let children = stream.children.iter().map(|child| child.table.clone());
            for table in std::iter::once(stream.table.clone()).chain(history).chain(children) {
                let message = format!("table {table:?} is used twice in schema {:?}", group.schema);
                r.check("stream", seen.insert((&group.schema, table)), &message);
            }
        }
    }
}
