//! Whether another group has to let go what a stream of this one needs: the stream itself, the one
//! that it was before, or its table. What nobody leads has let go.

use sqlx::postgres::PgConnection;

use super::table_check::wanted;
use crate::error::{Class, Code, Fault};
use crate::pipeline::context::Context;
use crate::postgres::close;
use crate::state::StreamRow;

/// Streams that are configured no more, and whose table a stream is to be written into.
pub(super) fn in_its_place<'r>(
    context: &Context,
    rows: impl IntoIterator<Item = &'r StreamRow>,
) -> impl Iterator<Item = &'r StreamRow> {
    let is_configured =
        |name: &str| context.settings.streams.iter().any(|stream| stream.name == name);
    rows.into_iter().filter(move |row| row.is_of(&context.table) && !is_configured(&row.stream))
}

/// The one that a stream was before, under another name: with its collection, too. It may be in
/// another group.
pub(super) fn called_before<'r>(
    context: &Context,
    row: Option<&StreamRow>,
    rows: impl IntoIterator<Item = &'r StreamRow>,
) -> Option<&'r StreamRow> {
    if row.is_some_and(|row| row.binding().is_some()) {
        return None;
    }
    in_its_place(context, rows).find(|row| {
        row.collection.as_ref() == Some(&context.config.collection)
            && row.database.as_deref() == Some(context.source.database_name())
    })
}

/// The row of the stream, or of the one that it was, if that is in another group.
pub(in crate::pipeline) async fn elsewhere(context: &Context) -> Result<Option<StreamRow>, Fault> {
    let row = context.state.stream_row(&context.config.name).await?;
    let is_bound = row.as_ref().is_some_and(|row| row.binding().is_some());
    let rows = if is_bound { Vec::new() } else { context.state.streams().await? };
    let before = called_before(context, row.as_ref(), &rows).cloned();
    let both = [before, row].into_iter().flatten();
    Ok(both.into_iter().find(|row| row.is_elsewhere(&context.config.group)))
}

/// Why the stream's table is not written by this group: another one has not let it go.
pub(in crate::pipeline) async fn held_table(
    context: &Context,
    connection: &mut PgConnection,
) -> Result<Option<Fault>, Fault> {
    let tables: Vec<_> = wanted(context).map(|wanted| wanted.table).collect();
    let (group, stream) = (context.config.group.as_str(), context.config.name.as_str());
    let holder = context.state.table_holder(connection, (group, stream), &tables).await?;
    Ok(holder.map(|(stream, group)| {
        let message = format!(
            "its table {} is written for stream {stream} of group {group}, which has not let it go",
            context.table
        );
        let hint = "it goes on once that group is led with a configuration that writes another \
                    table, or none";
        Fault::new(Class::Halt, Code::StreamParked, message, hint)
    }))
}

/// Whether the stream, the one that it was before and its table are in the hands of no other group
/// that is led. Should somebody come to lead one of before it is taken, it is parked again.
///
/// # Errors
/// They are not.
pub(in crate::pipeline) async fn is_let_go(context: &Context) -> Result<(), Fault> {
    if let Some(row) = elsewhere(context).await?
        && context.state.is_in_led_group(&row.stream).await?
    {
        let message = "another group has not let it go";
        return Err(Fault::new(Class::Halt, Code::StreamParked, message, ""));
    }
    let mut connection = context.target.connect().await?;
    let held = held_table(context, &mut connection).await;
    close(connection).await;
    held?.map_or(Ok(()), Err)
}
