//! Replicas share the groups: one that leads fewer asks one that leads more for a group.

use crate::state::LeaseRow;

/// Whether to ask for a group: its holder leads at least two more than `me`. So no two processes
/// ask for the same group in turn, and what is uneven by one stays as it is.
pub(super) fn is_to_ask(leases: &[LeaseRow], group: &str, me: &str) -> bool {
    let held = leases.iter().filter(|lease| lease.live);
    let Some(holder) = held.clone().find(|lease| lease.group == group) else { return false };
    let leads = |who: Option<&str>| held.clone().filter(|l| l.holder.as_deref() == who).count();
    leads(Some(me)) + 1 < leads(holder.holder.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(of: &[&str]) -> Vec<LeaseRow> {
        let lease = |(n, holder): (usize, &&str)| LeaseRow {
            group: format!("g{n}"),
            holder: (!holder.is_empty()).then(|| (*holder).to_owned()),
            epoch: 1,
            live: !holder.is_empty(),
        };
        of.iter().enumerate().map(lease).collect()
    }

    #[test]
    fn who_leads_two_fewer_asks_and_nobody_asks_back() {
        assert!(is_to_ask(&leases(&["a", "a"]), "g0", "b"));
        assert!(!is_to_ask(&leases(&["a"]), "g0", "b"), "one group has one leader");
        assert!(!is_to_ask(&leases(&["a", "a", "b"]), "g0", "b"));
        assert!(is_to_ask(&leases(&["a", "a", "a", "b"]), "g2", "b"));
        assert!(!is_to_ask(&leases(&["a", "a", "a", "b"]), "g3", "b"), "its own");
        assert!(!is_to_ask(&leases(&["a", "a", ""]), "g2", "b"), "nobody's: it is to be had");
    }

    #[test]
    fn whoever_asks_first_all_ends_even() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let names = ["a", "b", "c"];
            let count = rng.usize(1..12);
            let mut held: Vec<&str> = (0..count).map(|_| names[rng.usize(0..3)]).collect();
            for _ in 0..1_000 {
                let (group, me) = (rng.usize(0..count), names[rng.usize(0..3)]);
                if is_to_ask(&leases(&held), &format!("g{group}"), me) {
                    held[group] = me;
                }
            }
            let leads = names.map(|name| held.iter().filter(|holder| **holder == name).count());
            let (least, most) = (leads.iter().min().unwrap(), leads.iter().max().unwrap());
            assert!(most - least <= 1, "{leads:?}");
        }
    }
}
