//! Figures beside their limits.

/// What a figure is held to.
#[derive(Clone, Copy)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

pub struct Bar {
    name: String,
    figure: f64,
    limit: Limit,
    unit: &'static str,
    note: String,
}

impl Bar {
    pub fn new(name: impl Into<String>, figure: f64, limit: Limit, unit: &'static str) -> Self {
        Self { name: name.into(), figure, limit, unit, note: String::new() }
    }

    pub fn with(self, note: String) -> Self {
        Self { note, ..self }
    }

    pub fn holds(&self) -> bool {
        match self.limit {
            Limit::AtLeast(limit) => self.figure >= limit,
            Limit::AtMost(limit) => self.figure <= limit,
        }
    }

    fn shown_limit(&self) -> String {
        match self.limit {
            Limit::AtLeast(limit) => format!("≥ {limit}"),
            Limit::AtMost(limit) => format!("≤ {limit}"),
        }
    }
}

pub fn print(bars: &[Bar]) {
    println!("\n{:<46} {:>10} {:>10}", "BAR", "FIGURE", "LIMIT");
    for bar in bars {
        let figure = format!("{:.2} {}", bar.figure, bar.unit);
        let verdict = if bar.holds() { "ok" } else { "MISSED" };
        println!(
            "{:<46} {:>10} {:>10}  {verdict:<6} {}",
            bar.name,
            figure.trim(),
            bar.shown_limit(),
            bar.note
        );
    }
}

pub fn json(bars: &[Bar]) -> String {
    let list: Vec<_> = bars
        .iter()
        .map(|bar| {
            let (kind, limit) = match bar.limit {
                Limit::AtLeast(limit) => ("at_least", limit),
                Limit::AtMost(limit) => ("at_most", limit),
            };
            serde_json::json!({
                "bar": bar.name, "figure": bar.figure, "unit": bar.unit, "limit": limit,
                "kind": kind, "holds": bar.holds(), "note": bar.note,
            })
        })
        .collect();
    serde_json::to_string_pretty(&list).unwrap()
}

pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
