//! Why a collection is walked as a whole.

use super::vocabulary::vocabulary;

vocabulary! {
    /// The reason of a snapshot or a resync; also a metric's label.
    pub enum Reason {
        /// The stream was never followed before, and its table is empty.
        FirstSnapshot = "first_snapshot",
        /// The server has thrown away the history after the position, or does not know the token.
        HistoryLost = "history_lost",
        /// There is no stored position, though the table holds rows.
        PositionMissing = "position_missing",
        /// The stored position has lost its token or its time.
        PositionEmpty = "position_empty",
        /// The stored token is not BSON.
        PositionUnreadable = "position_unreadable",
        /// The stored position belongs to another database.
        PositionForeign = "position_foreign",
        /// The stored token was made under other stream options.
        OptionsChanged = "options_changed",
        /// The collection was dropped or renamed, and is there again.
        CollectionRecreated = "collection_recreated",
        /// The table is not the one the position speaks for: emptied, replaced or restored.
        TableReplaced = "table_replaced",
        /// The stream was parked: what it missed meanwhile is not told event by event.
        Parked = "parked",
        /// A person told the stream to stop for a while, which is over.
        Paused = "paused",
        /// The stream was taken out of the configuration, and is in it again.
        Rejoined = "rejoined",
        /// The configuration makes other rows of the same documents than it did.
        MappingChanged = "mapping_changed",
        /// A person said that this source is meant, though it is another or an older one.
        SourceAdopted = "source_adopted",
        /// A person asked.
        Requested = "requested",
        /// A comparison found differences, and repairing them was asked for.
        Divergence = "divergence",
    }
}

impl Reason {
    /// As stored. One of another release is taken for a comparison's: it opens no incident, and
    /// closes none.
    pub fn stored(word: &str) -> Self {
        Self::parse(word).unwrap_or(Self::Divergence)
    }

    /// Whether it makes up for changes that were not seen: what happened before it began is of a
    /// collection that may be another one by now, and none of it is applied any more.
    pub const fn makes_up(self) -> bool {
        !matches!(
            self,
            Self::FirstSnapshot | Self::MappingChanged | Self::Requested | Self::Divergence
        )
    }

    /// Whether nobody asked for it.
    pub const fn is_automatic(self) -> bool {
        !matches!(
            self,
            Self::FirstSnapshot
                | Self::MappingChanged
                | Self::Paused
                | Self::Requested
                | Self::Divergence
                | Self::SourceAdopted
        )
    }

    /// Whether a person asked for this very walk, of rows that are made as they should be: those of
    /// a source that was adopted are of another one until it is completed.
    pub const fn is_asked_for(self) -> bool {
        matches!(self, Self::Requested | Self::Divergence)
    }
}
