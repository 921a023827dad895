//! Letters that stand from before their stream hid what it hides now: they are rewritten before the
//! stream goes on.

use crate::error::Fault;
use crate::model::redaction::Evidence;
use crate::pipeline::context::{Context, GroupContext};
use crate::state::OldLetter;

/// Rewrites the letters of a group's streams.
pub(super) async fn hide_in_letters(group: &GroupContext) -> Result<(), Fault> {
    for context in group.streams.iter() {
        hide_in_letters_of(context).await?;
    }
    Ok(())
}

/// Rewrites a stream's letters, the resolved ones too, step by step: each is committed with the
/// mark of what it was made under, so that a kill costs a step.
async fn hide_in_letters_of(context: &Context) -> Result<(), Fault> {
    let redaction = context.mapping.redaction();
    if redaction.is_none() {
        return Ok(());
    }
    let (stream, mark) = (&*context.config.name, redaction.fingerprint());
    let mut rewritten = 0;
    loop {
        let letters = context.state.letters_of_other_redactions(stream, mark).await?;
        if letters.is_empty() {
            break;
        }
        let rewrite = |letter: OldLetter| {
            let evidence = context.mapping.evidence_of_letter(&letter.operation, &letter.event);
            (letter, evidence)
        };
        let kept: Vec<(OldLetter, Evidence)> = letters.into_iter().map(rewrite).collect();
        context.state.rewrite_letters(stream, mark, &kept).await?;
        rewritten += kept.len();
    }
    if rewritten > 0 {
        tracing::info!(
            stream,
            letters = rewritten,
            "dead letters rewritten: the stream hides more"
        );
    }
    Ok(())
}
