//! Bars for walks under way, on a terminal only.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::status::Board;

/// Draws until told to stop, on a thread of its own, because writing to a terminal may block. Draws
/// nothing where there is no terminal.
pub fn show(board: Arc<Board>, stop: CancellationToken) {
    if std::io::stderr().is_terminal() {
        std::thread::spawn(move || draw(&board, &stop));
    }
}

fn draw(board: &Board, stop: &CancellationToken) {
    let screen = MultiProgress::new();
    let mut bars: HashMap<String, ProgressBar> = HashMap::new();
    while !stop.is_cancelled() {
        std::thread::sleep(Duration::from_millis(200));
        for stream in board.streams() {
            let Some(walk) = stream.report().resync else {
                if let Some(bar) = bars.remove(stream.name()) {
                    bar.finish_and_clear();
                }
                continue;
            };
            let bar = bars.entry(stream.name().to_owned()).or_insert_with(|| {
                let style = ProgressStyle::with_template(
                    "{msg:16} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
                );
                let bar = ProgressBar::new(0).with_message(stream.name().to_owned());
                screen
                    .add(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)))
            });
            bar.set_length(
                walk.documents_estimated.unwrap_or(walk.documents_read).max(walk.documents_read),
            );
            bar.set_position(walk.documents_read);
        }
    }
}
