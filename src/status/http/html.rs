//! What the pages are made of: escaped text, times, charts, and the document around them.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::rates::Series;
use crate::model::format::{length, thousands};
use crate::model::shown::shown;

/// What stands as it is in a part of a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'~');

/// A whole document.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub title: &'a str,
    /// The way to the address's root: empty, or `../`.
    pub root: &'a str,
    /// Of `<main>`: `events` or `poll`, which is how it is kept live.
    pub live: &'a str,
    /// How often a browser without JavaScript asks again, in seconds.
    pub refresh: u32,
    pub body: &'a str,
}

impl Document<'_> {
    pub fn html(&self, now: DateTime<Utc>) -> String {
        let Self { title, root, live, refresh, body } = self;
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta \
             name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{}</title>\
             <link rel=\"stylesheet\" href=\"{root}page.css\"><link rel=\"icon\" href=\"data:,\">\
             <noscript><meta http-equiv=\"refresh\" content=\"{refresh}\"></noscript><script \
             src=\"{root}page.js\" defer></script></head><body><main id=\"live\" \
             data-live=\"{live}\">{body}</main><p class=\"small\">as of <span id=\"as-of\">{}\
             </span></p><p id=\"link\" role=\"status\"></p></body></html>",
            escape(title),
            at(now),
        )
    }
}

pub(super) fn escape(text: &str) -> String {
    shown(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A link to a stream's own page.
pub(super) fn link(name: &str) -> String {
    format!("<a href=\"stream/{}\">{}</a>", utf8_percent_encode(name, PATH), escape(name))
}

pub(super) fn at(time: DateTime<Utc>) -> String {
    format!(
        "<time datetime=\"{}\">{}</time>",
        time.format("%Y-%m-%dT%H:%M:%SZ"),
        time.format("%Y-%m-%d %H:%M:%S UTC")
    )
}

/// How long ago, to the minute: what is shown a thousand times does not change every second.
pub(super) fn minutes(ago: TimeDelta) -> String {
    if ago < TimeDelta::minutes(1) { "&lt; 1 min".to_owned() } else { length(ago) }
}

pub(super) fn seconds(seconds: f64) -> TimeDelta {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of an oplog's length")]
    let seconds = seconds as i64;
    TimeDelta::try_seconds(seconds).unwrap_or(TimeDelta::MAX)
}

/// To two figures or more: `0`, `0.3`, `28,148`.
pub(super) fn figure(value: f32) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates and lags are small and none is below zero"
    )]
    let whole = value.round() as u64;
    match whole {
        0 if value < 0.05 => "0".to_owned(),
        0..10 => format!("{value:.1}"),
        more => thousands(more),
    }
}

/// A line over the last five minutes, with its numbers in words for who cannot see it.
pub(super) fn chart(out: &mut String, what: &str, series: &Series) {
    let values = series.values();
    let most = values.clone().fold(0.0, f32::max);
    let last = values.clone().last().unwrap_or_default();
    // The newest value stands at the right.
    let empty = 150 - values.clone().count().min(150);
    let scale = if most > 0.0 { 28.0 / most } else { 0.0 };
    let mut points = String::new();
    for (place, value) in values.enumerate() {
        let _ = write!(points, "{},{:.1} ", empty + place, 30.0 - value * scale);
    }
    let (last, most) = (figure(last), figure(most));
    let _ = write!(
        out,
        "<figure><svg role=\"img\" viewBox=\"0 0 150 32\" preserveAspectRatio=\"none\" \
         aria-label=\"{what} over the last five minutes: now {last}, most {most}\"><polyline \
         points=\"{}\"/></svg><figcaption>{what}: {last} <span class=\"small\">most \
         {most}</span></figcaption></figure>",
        points.trim_end(),
    );
}

/// A small chart for a table, in few bytes: nothing where nothing went on. It has its number beside
/// it.
pub(super) fn spark(out: &mut String, points: &[f32]) {
    /// How high it is, and how far its points are from each other.
    const HEIGHT: f32 = 12.0;
    const STEP: u32 = 4;
    let most = points.iter().copied().fold(0.0, f32::max);
    if most <= 0.0 || points.len() < 2 {
        return;
    }
    #[expect(clippy::cast_possible_truncation, reason = "0 to 12")]
    let mut heights = points.iter().map(|point| (HEIGHT - point / most * HEIGHT).round() as i32);
    let mut last = heights.next().unwrap_or_default();
    let _ = write!(out, "<svg viewBox=\"0 -1 56 14\"><path d=\"M0 {last}");
    let mut flat = 0;
    for height in heights {
        if height == last {
            flat += STEP;
            continue;
        }
        if flat > 0 {
            let _ = write!(out, "h{flat}");
            flat = 0;
        }
        let minus = if height < last { "" } else { " " };
        let _ = write!(out, "l{STEP}{minus}{}", height - last);
        last = height;
    }
    if flat > 0 {
        let _ = write!(out, "h{flat}");
    }
    out.push_str("\"/></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spark_is_a_path_in_few_bytes_or_nothing() {
        let path = |points: &[f32]| {
            let mut out = String::new();
            spark(&mut out, points);
            out.split('"').nth(3).unwrap_or_default().to_owned()
        };
        assert_eq!(path(&[0.0, 0.0, 6.0, 12.0, 12.0, 3.0, 3.0]), "M0 12h4l4-6l4-6h4l4 9h4");
        assert_eq!([path(&[0.0; 14]), path(&[1.0])], ["", ""]);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.0, 0.04, 0.25, 9.96, 28_148.5].map(figure),
            ["0", "0", "0.2", "10", "28,149"]
        );
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(link("a-b_1"), "<a href=\"stream/a-b_1\">a-b_1</a>");
        assert_eq!(link("a/../\"b c"), "<a href=\"stream/a%2F..%2F%22b%20c\">a/../&quot;b c</a>");
    }
}
