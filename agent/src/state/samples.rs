//! Saved samples as text, and back: one line for the boot and its clocks, one line per source, one line per sample. Any
//! other text is refused as a whole.
use std::{
    fmt::Write,
    str::{FromStr, SplitWhitespace},
};

use ntp::{Clocks, Drift, Leap, Mono, Now, Samples, SavedSample, SourceSamples, Wall};
use tracing::info;

/// The content of a file of samples.
#[derive(Debug, PartialEq)]
pub(crate) struct SavedSamples {
    /// The kernel's boot id.
    pub(super) boot_id: String,
    /// The clock readings to which the samples are relative.
    pub(super) clocks: Clocks,
    /// The samples.
    pub(super) samples: Samples,
}

impl SavedSamples {
    /// The samples as of `now`; none if they are not valid any more.
    pub(crate) fn at(self, now: Clocks) -> Option<Samples> {
        self.samples
            .carry(self.clocks, now)
            .inspect_err(|stale| info!(why = stale.why(), "Saved samples are not used"))
            .ok()
    }
}

/// The text of a file.
pub(super) fn to_text(saved: &SavedSamples) -> String {
    let SavedSamples { boot_id, clocks: Clocks { now, raw }, samples: Samples { drift, sources } } = saved;
    let Drift { frequency_ppm, skew_ppm } = drift;
    let mut text = format!("{boot_id} {} {} {raw} {frequency_ppm} {skew_ppm}\n", now.wall.0, now.mono.0);
    // A line end in a device's path would begin a new line.
    for source in sources.iter().filter(|source| !source.asked.contains('\n')) {
        let SourceSamples { name, asked, leap, stratum, reference_id, samples } = source;
        let reference_id = u32::from_be_bytes(*reference_id);
        // Writing to a String cannot fail. The text that was asked for comes last, since a path may have spaces.
        let _ = writeln!(text, "{SOURCE} {} {stratum} {reference_id:08x} {name} {asked}", *leap as u8);
        for sample in samples {
            let SavedSample { at, offset, delay, dispersion, root_delay, root_dispersion } = sample;
            let _ = writeln!(text, "{} {offset} {delay} {dispersion} {root_delay} {root_dispersion}", at.0);
        }
    }
    text
}

const SOURCE: &str = "source";

/// Parses the text; none if it is not a file of samples.
pub(super) fn from_text(text: &str) -> Option<SavedSamples> {
    // If the file was cut, the end of its last line is missing.
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let mut words = lines.next()?.split_whitespace();
    let boot_id = words.next()?.to_owned();
    let now = Now { wall: Wall(next(&mut words)?), mono: Mono(next(&mut words)?) };
    let clocks = Clocks { now, raw: next(&mut words)? };
    let drift = Drift { frequency_ppm: next(&mut words)?, skew_ppm: next(&mut words)? };
    over(words)?;
    let mut sources: Vec<SourceSamples> = Vec::new();
    for line in lines {
        if let Some(line) = line.strip_prefix(SOURCE) {
            sources.push(source(line.strip_prefix(' ')?)?);
        } else {
            sources.last_mut()?.samples.push(sample(line)?);
        }
    }
    Some(SavedSamples { boot_id, clocks, samples: Samples { drift, sources } })
}

fn source(line: &str) -> Option<SourceSamples> {
    let [leap, stratum, reference_id, name, asked] =
        <[&str; 5]>::try_from(line.splitn(5, ' ').collect::<Vec<_>>()).ok()?;
    Some(SourceSamples {
        name: name.to_owned(),
        asked: asked.to_owned(),
        leap: match leap {
            "0" => Leap::None,
            "1" => Leap::Insert,
            "2" => Leap::Delete,
            _ => return None,
        },
        stratum: stratum.parse().ok().filter(|stratum| *stratum < 16)?,
        reference_id: u32::from_str_radix(reference_id, 16).ok()?.to_be_bytes(),
        samples: Vec::new(),
    })
}

fn sample(line: &str) -> Option<SavedSample> {
    let mut words = line.split_whitespace();
    let sample = SavedSample {
        at: Wall(next(&mut words)?),
        offset: next(&mut words)?,
        delay: next(&mut words)?,
        dispersion: next(&mut words)?,
        root_delay: next(&mut words)?,
        root_dispersion: next(&mut words)?,
    };
    over(words).map(|()| sample)
}

fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn over(mut words: SplitWhitespace<'_>) -> Option<()> {
    words.next().is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    prop_compose! {
        fn a_sample()(at in any::<i64>(), numbers in any::<[f64; 5]>()) -> SavedSample {
            let [offset, delay, dispersion, root_delay, root_dispersion] = numbers;
            SavedSample { at: Wall(at), offset, delay, dispersion, root_delay, root_dispersion }
        }
    }

    prop_compose! {
        fn a_source()(
            name in "[a-zA-Z0-9._-]{1,63}",
            asked in "/dev/[a-z ]{0,9}|192\\.0\\.2\\.[0-9]:123|\\[2001:db8::[0-9]\\]:123",
            leap in prop_oneof![Just(Leap::None), Just(Leap::Insert), Just(Leap::Delete)],
            stratum in 0_u8..16,
            reference_id in any::<[u8; 4]>(),
            samples in vec(a_sample(), 0..9),
        ) -> SourceSamples {
            SourceSamples { name, asked, leap, stratum, reference_id, samples }
        }
    }

    prop_compose! {
        fn a_file()(
            clocks in any::<[i64; 3]>(),
            drift in any::<[f64; 2]>(),
            sources in vec(a_source(), 0..5),
        ) -> SavedSamples {
            let now = Now { wall: Wall(clocks[0]), mono: Mono(clocks[1]) };
            let drift = Drift { frequency_ppm: drift[0], skew_ppm: drift[1] };
            let clocks = Clocks { now, raw: clocks[2] };
            SavedSamples { boot_id: "6f8a-1".to_owned(), clocks, samples: Samples { drift, sources } }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(saved in a_file()) {
            prop_assert_eq!(from_text(&to_text(&saved)), Some(saved));
        }

        #[test]
        fn a_text_that_was_cut_short_is_refused_or_whole_lines(saved in a_file(), share in 0.0..1.0) {
            let text = to_text(&saved);
            let cut = &text[..(text.len() as f64 * share) as usize];
            prop_assert!(cut.ends_with('\n') || from_text(cut).is_none());
        }

        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}|[0-9a-z. \n-]{0,200}") {
            let _ = from_text(&text);
        }
    }
}
