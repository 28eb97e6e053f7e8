//! Clocks follow the upstreams: to true time by a step, to +100 ms only by slewing, to a rate of +80 ppm by the
//! frequency.
use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use lab::{
    truth,
    under_test::{self, MS},
    upstream, vm, wait,
};
use xtask::interrupt;

pub(super) fn run() -> anyhow::Result<()> {
    // Both clocks were set wrong by some seconds before: expects a step in the start phase, and an Event about it.
    under_test::settle()?;
    for vm in vm::VMS {
        under_test::wait_for_event(vm, "Stepped")?;
    }
    let steps: Vec<_> =
        vm::VMS.iter().map(|vm| Ok(under_test::report(*vm)?.clock.steps)).collect::<anyhow::Result<_>>()?;

    let target = upstream::bend_all("offset=0.1")?;
    follow_without_step(target)?;
    for (vm, before) in vm::VMS.into_iter().zip(&steps) {
        let now = under_test::report(vm)?.clock.steps;
        ensure!(now == *before, "{} stepped: {before} steps before, {now} after", vm.name());
    }

    let before = settled_frequencies()?;
    upstream::bend_all("ppm=80")?;
    wait::until(
        "the kernels' frequencies to follow by 80 ± 2 ppm",
        "60 s",
        Duration::from_secs(300),
        || {
            let now = frequencies()?;
            let gained: Vec<_> = now.iter().zip(&before).map(|(now, before)| now - before).collect();
            eprintln!("    gained {gained:.2?} ppm");
            Ok(gained.iter().all(|gain| (gain - 80.0).abs() <= 2.0).then_some(()))
        },
    )?;
    // Restores the state for the next test.
    under_test::settle()
}

/// Observes both clocks: they must reach the target, and never faster than the policy's slew rate allows.
fn follow_without_step(target: i64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut last = Vec::new();
    for vm in vm::VMS {
        last.push(vm.probe()?.offset()?);
    }
    loop {
        interrupt::check()?;
        ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "the clocks did not follow to +100 ms within 120 s: {last:?}"
        );
        let mut there = true;
        for (vm, last) in vm::VMS.into_iter().zip(&mut last) {
            let reading = vm.probe()?.offset()?;
            let (moved, passed) = (reading.offset - last.offset, reading.at - last.at);
            // The limit: 5000 ppm of slew, some ppm for the oscillator, a millisecond, and the uncertainty of both
            // measurements.
            let most = passed * 6 / 1000 + MS + reading.uncertainty + last.uncertainty;
            ensure!(
                moved.abs() <= most,
                "{} moved by {} within {}: a step",
                vm.name(),
                truth::shown(moved),
                truth::shown(passed)
            );
            *last = reading;
            there &= (reading.offset - target).abs() < MS;
        }
        if there {
            eprintln!("  both at +100 ms after {:.1} s, by slewing", begun.elapsed().as_secs_f64());
            return under_test::wait_within(MS, target, Duration::from_secs(30));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The kernels' frequencies once two readings in a row agree within 1 ppm.
fn settled_frequencies() -> anyhow::Result<Vec<f64>> {
    let mut last = vec![f64::NAN; vm::VMS.len()];
    wait::until("the kernels' frequencies to settle", "30 s", Duration::from_secs(300), || {
        let now = frequencies()?;
        let settled = now.iter().zip(&last).all(|(now, last)| (now - last).abs() < 1.0);
        last.clone_from(&now);
        Ok(settled.then_some(now))
    })
}

/// The kernels' frequencies, ppm: the median of 31 over 15 s, because slews are part of it.
fn frequencies() -> anyhow::Result<Vec<f64>> {
    let mut all = vec![Vec::new(), Vec::new()];
    for _ in 0..31 {
        interrupt::check()?;
        for (vm, readings) in vm::VMS.into_iter().zip(&mut all) {
            readings.push(vm.probe()?.kernel()?.frequency_ppm);
        }
        thread::sleep(Duration::from_millis(500));
    }
    Ok(all
        .into_iter()
        .map(|mut readings| {
            readings.sort_by(f64::total_cmp);
            readings[15]
        })
        .collect())
}
