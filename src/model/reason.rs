//! Why a collection is walked as a whole.

/// The reason of a snapshot or a resync; also a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The stream was never followed before, and its table is empty.
    FirstSnapshot,
    /// The server has thrown away the history after the position, or does not know the token.
    HistoryLost,
    /// There is no stored position, though the table holds rows.
    PositionMissing,
    /// The stored position has lost its token or its time.
    PositionEmpty,
    /// The stored token is not BSON.
    PositionUnreadable,
    /// The stored position belongs to another collection.
    PositionForeign,
    /// The stored token was made under other stream options.
    OptionsChanged,
    /// The collection was dropped or renamed, and is there again.
    CollectionRecreated,
    /// The table is not the one the position speaks for: emptied, replaced or restored.
    TableReplaced,
    /// A person said that this source is meant, though it is another or an older one.
    SourceAdopted,
    /// A person asked.
    Requested,
    /// A comparison found differences, and repairing them was asked for.
    Divergence,
}

impl Reason {
    pub const ALL: [Self; 12] = [
        Self::FirstSnapshot,
        Self::HistoryLost,
        Self::PositionMissing,
        Self::PositionEmpty,
        Self::PositionUnreadable,
        Self::PositionForeign,
        Self::OptionsChanged,
        Self::CollectionRecreated,
        Self::TableReplaced,
        Self::SourceAdopted,
        Self::Requested,
        Self::Divergence,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstSnapshot => "first_snapshot",
            Self::HistoryLost => "history_lost",
            Self::PositionMissing => "position_missing",
            Self::PositionEmpty => "position_empty",
            Self::PositionUnreadable => "position_unreadable",
            Self::PositionForeign => "position_foreign",
            Self::OptionsChanged => "options_changed",
            Self::CollectionRecreated => "collection_recreated",
            Self::TableReplaced => "table_replaced",
            Self::SourceAdopted => "source_adopted",
            Self::Requested => "requested",
            Self::Divergence => "divergence",
        }
    }

    /// As stored; `None` for one of another release.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Whether nobody asked for it.
    pub const fn is_automatic(self) -> bool {
        !matches!(
            self,
            Self::FirstSnapshot | Self::Requested | Self::Divergence | Self::SourceAdopted
        )
    }

    /// Whether it counts towards `resync.automatic_per_day_max`. A collection that is made anew
    /// every hour (`$out`) is no sign of trouble, however often it happens.
    pub const fn is_counted(self) -> bool {
        self.is_automatic() && !matches!(self, Self::CollectionRecreated)
    }
}
