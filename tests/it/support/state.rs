//! tidemark's own tables, as tests read and damage them: the one place that knows which row a
//! stream's position, lease and report are.

use super::World;

/// What every stream reports: a table with `stream` and `report`.
pub const REPORTS: &str = "tidemark.stream";

/// Why groups were halted and streams parked last, a text each.
pub const HALT_REASONS: &str = "select concat(halt_reason) from tidemark.checkpoint union all \
                                select concat(parked_reason) from tidemark.stream";

/// What names a row of `checkpoint`.
pub const KEY: &str = "\"group\"";

/// The row of `checkpoint` or `lease` of a stream's group, as a condition.
pub fn of(stream: &str) -> String {
    let whole = "\"group\", service, environment";
    format!("({whole}) = (select {whole} from tidemark.stream where stream = '{stream}')")
}

/// What names the row of `checkpoint` of a stream, given as an expression.
pub fn key(stream: &str) -> String {
    format!("(select s.\"group\" from tidemark.stream as s where s.stream = {stream})")
}

/// A stream's positions that were given up, as a condition on `checkpoint_history`.
pub fn retired_of(stream: &str) -> String {
    format!("{KEY} = {}", key(&format!("'{stream}'")))
}

/// One column of a stream's position.
pub fn position(column: &str, stream: &str) -> String {
    format!("select {column} from tidemark.checkpoint where {}", of(stream))
}

/// What is said of a stream's group.
pub fn group_report(stream: &str) -> String {
    format!("select report from tidemark.lease where {}", of(stream))
}

/// A stream's report.
pub fn report(stream: &str) -> String {
    format!("select report from {REPORTS} where stream = '{stream}'")
}

/// How many more events of a stream may be set aside than an accident brings.
pub fn letters_accepted(stream: &str) -> String {
    format!("select letters_accepted from tidemark.stream where stream = '{stream}'")
}

/// A stream's position becomes another.
pub fn damage(set: &str, stream: &str) -> String {
    format!("update tidemark.checkpoint set {set} where {}", of(stream))
}

/// Keeps every position as it is now.
pub fn keep_positions() -> String {
    format!(
        "create table public.kept as select {KEY} as key, resume_token, token, cluster_time from \
         tidemark.checkpoint"
    )
}

/// Every position becomes what it was when it was kept.
pub fn take_positions_back() -> String {
    format!(
        "update tidemark.checkpoint as c set resume_token = k.resume_token, token = k.token, \
         cluster_time = k.cluster_time from public.kept as k where k.key = c.{KEY}"
    )
}

/// A stream's position takes columns of another stream's.
pub fn mix_up(columns: &[&str], stream: &str, other: &str) -> String {
    let set: Vec<String> = columns.iter().map(|column| format!("{column} = o.{column}")).collect();
    let (own, other) = (key(&format!("'{stream}'")), key(&format!("'{other}'")));
    format!(
        "update tidemark.checkpoint as c set {} from tidemark.checkpoint as o where c.{KEY} = \
         {own} and o.{KEY} = {other}",
        set.join(", ")
    )
}

/// The stored position becomes one that no server knows.
pub async fn lose_position(world: &World, stream: &str) {
    world.execute(&damage("resume_token = '\\x00'", stream)).await;
}

/// Waits until a stream's position is as good as that of now: before it the history may go.
pub async fn until_young(world: &World, stream: &str) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let young =
        format!("select ({}) >= {}", position("cluster_time >> 32", stream), now.as_secs() - 2);
    world.until("who is to keep up does", &young).await;
}
