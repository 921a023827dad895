//! Which of the fields that have come is probably one that has gone, under a new name. Pure.

/// Two names this alike (Jaro-Winkler) are probably one field renamed.
const ALIKE: f64 = 0.7;

/// The one of the new names that is most like the old one, if any is like it at all.
pub fn likely_name(old: &str, new: &[String]) -> Option<String> {
    let alike = |name: &String| strsim::jaro_winkler(name, old);
    let best = new.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    best.filter(|name| alike(name) >= ALIKE).cloned()
}
