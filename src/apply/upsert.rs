//! The upsert of one table, in all its forms: alone, or in one statement with what keeps versions
//! and with the tables of arrays.

use super::child_tables::ChildTables;
use super::contents::{Contents, Given};
use super::history::History;
use crate::settings::Keeping;

/// The guard: nothing older replaces what is newer. A row that carries no time, of a table that was
/// adopted, is older than any.
const NOT_NEWER: &str = "(t._cluster_time <= excluded._cluster_time) is not false";

/// An upsert but for the condition under which a row that is there is written.
pub(super) struct Upsert<'a> {
    contents: &'a Contents,
    children: &'a ChildTables,
    history: Option<&'a History>,
    /// What the statement begins with, where it is more than the upsert.
    with: String,
    write: String,
    /// The row, or one of its elements, would change.
    differs: String,
}

impl<'a> Upsert<'a> {
    pub fn new(
        sql: &str,
        contents: &'a Contents,
        children: &'a ChildTables,
        history: Option<&'a History>,
        keeping: Keeping,
    ) -> Self {
        let Given { from, values } = contents.given();
        let (mut with, mut given) = ("with ".to_owned(), from);
        let (names, before, after) =
            (contents.list(""), contents.list("t."), contents.list("excluded."));
        let mut differs = format!("({before}) is distinct from ({after})");
        let mut unmarked = "";
        if keeping.marks_deletes() {
            // A document that is there again takes the mark off its row.
            unmarked = ", _deleted_at = null";
            differs += " or t._deleted_at is not null";
        }
        if !children.is_none() {
            // Asked of none whose own row differs, and of all that are left at once.
            differs += " or t.id in (select a.id from altered as a)";
            with = format!(
                "with given as materialized (select u.* from {given}), altered as (select u.id \
                 from given as u where {}), ",
                children.differ()
            );
            "given as u".clone_into(&mut given);
        }
        let write = format!(
            "insert into {sql} as t (id, {names}, _hash, _cluster_time, _applied_at) select u.id, \
             {values}, u.hash, u.cluster_time, now() from {given} on conflict (id) do update set \
             {}_hash = excluded._hash, _cluster_time = excluded._cluster_time, _applied_at = \
             excluded._applied_at{unmarked}",
            contents.assignments()
        );
        Self { contents, children, history, with, write, differs: format!("({differs})") }
    }

    /// Of changes. Where it is no more than an upsert it answers nothing, else how many rows were
    /// written.
    pub fn plain(&self) -> String {
        let upsert = format!("{} where {NOT_NEWER} and {}", self.write, self.differs);
        if self.writes_beside() {
            self.answering(&upsert, "true", "select count(*) from written")
        } else {
            upsert
        }
    }

    /// Of a resync; `fresh` tells which rows `t` were not there.
    pub fn repair(&self, fresh: &str, renewed: &str, astray: &str) -> String {
        let differs = format!("({} or {renewed})", self.differs);
        let upsert = format!("{} where {NOT_NEWER} and {differs} or {astray}", self.write);
        let answer = "select count(*) filter (where fresh), count(*) filter (where not fresh), \
                      coalesce((array_agg(id))[1:5], '{}') from written";
        self.answering(&upsert, fresh, answer)
    }

    /// It writes to other tables besides.
    pub const fn writes_beside(&self) -> bool {
        self.history.is_some() || !self.children.is_none()
    }

    fn answering(&self, upsert: &str, fresh: &str, answer: &str) -> String {
        let Self { with, history, .. } = self;
        let written = match history {
            Some(history) => history.upsert(self.contents, upsert, fresh),
            None => format!("written as ({upsert} returning t.id, {fresh} as fresh)"),
        };
        format!("{with}{written}{} {answer}", self.children.replacing())
    }
}
