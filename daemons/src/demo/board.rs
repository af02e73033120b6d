//! What a person watches meanwhile: a table that redraws itself on a terminal, a line every few seconds elsewhere.
//! It goes to standard error, so that standard output holds the receipt and nothing else.

use super::progress::{Progress, Snapshot};
use super::units::{bytes, seconds};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the table is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);
/// The longest silence where there is no terminal, and the steps in percent that are worth a line.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const LINE_PERCENT: usize = 10;

/// Draws until it is dropped; only [`draw`](Self::draw) draws at the end of the work.
pub(super) struct Board {
    is_terminal: bool,
    rows_drawn: usize,
    said_at: Instant,
    said_percent: usize,
}

impl Board {
    /// A board that suits standard error.
    pub(super) fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            rows_drawn: 0,
            said_at: Instant::now(),
            said_percent: 0,
        }
    }

    /// Draws again and again; never ends by itself.
    pub(super) async fn follow(&mut self, progress: &Progress) -> std::convert::Infallible {
        let mut ticks = tokio::time::interval(DRAW_INTERVAL);
        loop {
            ticks.tick().await;
            let snapshot = progress.snapshot();
            let percent = snapshot.percent();
            let is_due =
                percent >= self.said_percent + LINE_PERCENT || self.said_at.elapsed() >= LINE_INTERVAL;
            if self.is_terminal || is_due {
                self.draw(&snapshot);
            }
        }
    }

    /// Draws once.
    pub(super) fn draw(&mut self, snapshot: &Snapshot) {
        self.said_at = Instant::now();
        self.said_percent = snapshot.percent();
        let text = if self.is_terminal {
            let rows = table(snapshot);
            let mut text = String::new();
            if self.rows_drawn > 0 {
                write!(text, "\x1b[{}A", self.rows_drawn).expect("writing to a string cannot fail");
            }
            for row in &rows {
                writeln!(text, "\x1b[2K{row}").expect("writing to a string cannot fail");
            }
            self.rows_drawn = rows.len();
            text
        } else {
            line(snapshot) + "\n"
        };
        // Nobody to talk to is no reason to stop working.
        drop(std::io::stderr().write_all(text.as_bytes()));
    }
}

fn table(snapshot: &Snapshot) -> Vec<String> {
    let mut rows = vec![
        format!(
            "{:>3} %  {} of {} versions written, {} tag changes, {}, {}",
            snapshot.percent(),
            snapshot.written,
            snapshot.planned,
            snapshot.changes,
            bytes(snapshot.bytes),
            seconds(snapshot.elapsed)
        ),
        format!(
            "{:<16} {:>8} {:>10} {:>7} {:>11} {:>8}",
            "SITE", "PENDING", "COMPLETED", "FAILED", "COPIED", "OLDEST"
        ),
    ];
    for site in &snapshot.sites {
        rows.push(format!(
            "{:<16} {:>8} {:>10} {:>7} {:>11} {:>8}",
            site.name,
            site.pending,
            site.completed,
            site.failed,
            bytes(site.bytes),
            seconds(site.age_max)
        ));
    }
    rows
}

fn line(snapshot: &Snapshot) -> String {
    let mut text = format!(
        "progress={}% elapsed={:.1}s written={}/{} bytes={}",
        snapshot.percent(),
        snapshot.elapsed.as_secs_f64(),
        snapshot.written,
        snapshot.planned,
        snapshot.bytes
    );
    for site in &snapshot.sites {
        let name = &site.name;
        write!(
            text,
            " {name}.pending={} {name}.completed={} {name}.failed={}",
            site.pending, site.completed, site.failed
        )
        .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::progress::SiteProgress;
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            planned: 10,
            written: 8,
            changes: 2,
            bytes: 3 * 1024 * 1024,
            sites: vec![SiteProgress {
                name: "paris".to_owned(),
                pending: 3,
                completed: 5,
                failed: 0,
                bytes: 1024,
                age_max: Duration::from_millis(1500),
            }],
            elapsed: Duration::from_secs(4),
        }
    }

    #[test]
    fn the_table_has_aligned_columns() {
        assert_eq!(
            table(&snapshot()),
            [
                " 50 %  8 of 10 versions written, 2 tag changes, 3.0 MiB, 4.0 s",
                "SITE              PENDING  COMPLETED  FAILED      COPIED   OLDEST",
                "paris                   3          5       0     1.0 KiB    1.5 s",
            ]
        );
    }

    #[test]
    fn a_line_is_made_of_pairs() {
        assert_eq!(
            line(&snapshot()),
            "progress=50% elapsed=4.0s written=8/10 bytes=3145728 paris.pending=3 paris.completed=5 paris.failed=0"
        );
    }
}
