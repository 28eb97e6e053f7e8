//! The table of `make sim`: a Markdown row for each scenario and poll interval, with chronyd's result if that is known.
use super::{Figures, Polls, SCENARIOS, Scenario};

/// Results of chronyd 4.3 in the same conditions: scenario, polls, median of the RMS, seconds. At poll 4 it uses
/// interleaved mode.
const CHRONYD: [(&str, Polls, f64); 15] = [
    ("lan", (6, 10), 19e-6),
    ("lan", (6, 6), 5.7e-6),
    ("lan", (4, 4), 2.75e-6),
    ("net", (6, 10), 304e-6),
    ("net", (6, 6), 102e-6),
    ("net", (4, 4), 105e-6),
    ("bad", (6, 10), 2.36e-3),
    ("bad", (6, 6), 1.03e-3),
    ("bad", (4, 4), 1.14e-3),
    ("loss50", (6, 10), 514e-6),
    ("loss50", (6, 6), 195e-6),
    ("loss50", (4, 4), 109e-6),
    ("falsetick", (6, 10), 386e-6),
    ("falsetick", (6, 6), 66e-6),
    ("falsetick", (4, 4), 59e-6),
];

/// The default polls here. They are compared with chronyd's default.
const OUR_DEFAULT: Polls = (4, 6);
const ITS_DEFAULT: Polls = (6, 10);

/// The first two lines of the table.
pub const HEADING: &str = "\
| scenario | polls | RMS | 95 % | largest | frequency | < 1 ms after | packets/h | bound holds | bound / 99 % | chronyd | ratio |
|---|---|---|---|---|---|---|---|---|---|---|---|";

/// A row.
pub fn row(scenario: &Scenario, polls: Polls, figures: &Figures) -> String {
    let theirs = if polls == OUR_DEFAULT { ITS_DEFAULT } else { polls };
    let chronyd = CHRONYD.iter().find(|known| (known.0, known.1) == (scenario.name, theirs));
    format!(
        "| {} | {} | {} | {} | {} | {:.3} ppm | {} | {:.0} | {} | {:.2} | {} | {} |",
        scenario.name,
        interval(polls),
        span(figures.rms),
        span(figures.most),
        span(figures.largest),
        figures.frequency * 1e6,
        figures.right_after.map_or("–".to_owned(), |seconds| format!("{seconds:.1} s")),
        figures.packets,
        share(figures.held.into(), figures.bounded.into()),
        figures.looseness,
        chronyd.map_or("–".to_owned(), |known| span(known.2)),
        chronyd.map_or("–".to_owned(), |known| format!("{:.2}", figures.rms / known.2)),
    )
}

/// The text before the table.
pub fn explanation(seeds: u64) -> String {
    let scenarios: Vec<String> =
        SCENARIOS.iter().map(|scenario| format!("* `{}`: {}.\n", scenario.name, scenario.about)).collect();
    format!(
        "`make sim` writes this part. The real engine runs against a simulated clock, network and servers, {seeds} \
         seeds a row.\nThe oscillator is 50 ppm fast and walks by 1e-9 per √s, the clock starts 0.1 s ahead, one \
         server is asked with iburst,\nand a run takes 20000 s, of which the second half is measured, unless said \
         otherwise:\n\n{}\n\
         The error is the clock's true one, looked at each second. RMS, 95 % and the frequency's error are medians \
         of the seeds,\nthe largest error is that of all seeds. *< 1 ms after* is when the error came under 1 ms to \
         stay there for a minute.\n*Bound holds* is the share of all seconds, from the start, in which the error \
         bound was no less than the error; *bound / 99 %*\nis its mean over the 99th percentile of the error. \
         Packets are requests, to all servers.\n\n\
         The column *chronyd* has the RMS of chronyd 4.3 in clknetsim, median of 20 seeds, in the same conditions; \
         its figures at\npoll 4 are with interleaved mode. Our default, 4..6, is compared with its default, 6..10. \
         In `net` chronyd takes 6 s\nuntil its error stays under 1 ms.\n",
        scenarios.concat()
    )
}

/// The text after the table: results of all rows together.
pub fn summary(rows: &[Figures]) -> String {
    let sum = |figure: fn(&Figures) -> u32| rows.iter().map(|row| u64::from(figure(row))).sum::<u64>();
    let bound = share(sum(|row| row.held), sum(|row| row.bounded));
    let misled = sum(|row| row.misled);
    format!(
        "The bound held in {bound} of all these seconds. Servers that lie were followed for {misled} seconds."
    )
}

/// Polls as text: 6, or 4..6.
fn interval((shortest, longest): Polls) -> String {
    if shortest == longest { shortest.to_string() } else { format!("{shortest}..{longest}") }
}

/// A time with three digits and a unit.
fn span(seconds: f64) -> String {
    let (size, unit) = match seconds {
        _ if seconds < 1e-6 => (seconds * 1e9, "ns"),
        _ if seconds < 1e-3 => (seconds * 1e6, "µs"),
        _ if seconds < 1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let digits = if size < 10.0 { 2 } else { usize::from(size < 100.0) };
    format!("{size:.digits$} {unit}")
}

/// A share in percent, rounded down, so that 100 % means all.
fn share(part: u64, whole: u64) -> String {
    if part == whole {
        return "100 %".to_owned();
    }
    format!("{:.3} %", (part as f64 / whole.max(1) as f64 * 1e5).floor() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        for (seconds, expected) in [
            (2.754e-6, "2.75 µs"),
            (19e-6, "19.0 µs"),
            (304.4e-6, "304 µs"),
            (1.14e-3, "1.14 ms"),
            (1.2, "1.20 s"),
        ] {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!((share(5, 5), share(99_999, 100_000)), ("100 %".to_owned(), "99.999 %".to_owned()));
        assert_eq!((interval((4, 4)), interval((4, 6))), ("4".to_owned(), "4..6".to_owned()));
    }

    #[test]
    fn what_is_compared_exists() {
        for (name, ..) in CHRONYD {
            assert!(SCENARIOS.iter().any(|scenario| scenario.name == name), "{name}");
        }
    }
}
