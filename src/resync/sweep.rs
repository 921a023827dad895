//! Whether a sweep may delete what the walk did not see. Pure.

/// What a walk left over, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepCounts {
    /// Documents the walk read; none, if it read none that is followed.
    pub documents: u64,
    /// Rows in the table; counted only if some were not seen.
    pub rows: u64,
    /// Of them, not seen by the walk and older than its start.
    pub unseen: u64,
}

/// The caps, from `[resync]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepLimits {
    pub delete_fraction_max: f64,
    pub delete_count_min: u64,
}

/// Whether what a walk left over may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepVerdict {
    Sweep,
    /// A person must say so first; the text says why.
    Hold(String),
}

/// A source that shows nothing never empties a table; one that shows much less than before is not
/// believed either. `approved` is what a person allowed when asked before: no more than that.
pub fn judge(found: SweepCounts, limits: SweepLimits, approved: Option<u64>) -> SweepVerdict {
    let SweepCounts { documents, rows, unseen } = found;
    if unseen == 0 {
        return SweepVerdict::Sweep;
    }
    match approved {
        Some(allowed) if unseen <= allowed => return SweepVerdict::Sweep,
        Some(allowed) => {
            return SweepVerdict::Hold(format!(
                "{allowed} rows were approved to be deleted, and now it would be {unseen} of \
                 {rows}: look again"
            ));
        }
        None => {}
    }
    if documents == 0 {
        return SweepVerdict::Hold(format!(
            "the source showed no document at all that is followed, the table holds {rows} rows"
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "a share of rows; exact below 2^53 of them")]
    let within = unseen as f64 <= rows as f64 * limits.delete_fraction_max;
    if unseen < limits.delete_count_min || within {
        return SweepVerdict::Sweep;
    }
    let percent = limits.delete_fraction_max * 100.0;
    SweepVerdict::Hold(format!(
        "the sweep would delete {unseen} of {rows} rows: more than {percent} % and not fewer than \
         {}",
        limits.delete_count_min
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_held_over_the_cap_and_always_when_the_source_shows_nothing() {
        let limits = SweepLimits { delete_fraction_max: 0.05, delete_count_min: 100 };
        let sweeps = |documents, rows, unseen, approved: Option<u64>| {
            judge(SweepCounts { documents, rows, unseen }, limits, approved) == SweepVerdict::Sweep
        };
        assert!(sweeps(950, 1_000, 0, None));
        assert!(sweeps(950, 1_000, 50, None));
        assert!(sweeps(901, 1_000, 99, None), "fewer than the count are let through");
        assert!(!sweeps(900, 1_000, 100, None));
        assert!(sweeps(900, 1_000, 100, Some(100)));
        assert!(sweeps(900, 1_000, 100, Some(120)), "some were put back since");
        assert!(!sweeps(900, 1_000, 101, Some(100)), "more than the person saw");
        assert!(!sweeps(0, 3, 3, None), "an empty source never empties a table, however small");
        assert!(sweeps(0, 3, 3, Some(3)));
        assert!(sweeps(0, 3, 0, None), "nothing to delete is nothing to ask about");
    }
}
