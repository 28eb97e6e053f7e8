//! `top`: the clocks, the worst first, renewed every two seconds until the key q or Ctrl-C. In a pipe each picture is
//! printed below the one before.
mod terminal;

use std::time::Duration;

use clap::Args;
use contract::Span;
use k8s_openapi::jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    fetch::{Error, Reader},
    nodes::{self, Filter, Order},
    observed::Observed,
    output,
    screen::{Paint, Screen},
    words::{count, span},
};

/// Shows the clocks live.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Only nodes of this policy
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The order of the lines
    #[arg(long, value_enum, default_value = "state")]
    sort_by: Order,
    /// The time between two pictures, at least 1s
    #[arg(long, value_name = "TIME", default_value = "2s")]
    interval: Span,
}

impl Top {
    pub(crate) async fn run(&self, reader: &Reader) -> anyhow::Result<()> {
        let filter = Filter { policy: self.policy.clone(), sort_by: self.sort_by, ..Filter::default() };
        let pause = self.interval.as_duration().max(Duration::from_secs(1));
        let mut observed = reader.clocks().await?;
        let mut trouble = None;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminal = terminal::Terminal::open()?;
        loop {
            let screen = Screen::of_stdout();
            let picture = picture(&observed, &filter, trouble.as_ref(), reader.now(), &screen);
            match &terminal {
                Some(terminal) => terminal.show(&picture)?,
                None => output::write(&format!("{picture}\n"))?,
            }
            let quit = async {
                match &mut terminal {
                    Some(terminal) => terminal.quit().await,
                    None => std::future::pending().await,
                }
            };
            // A request may hang until its timeout, so the end is awaited beside it, too.
            let renewed = async {
                tokio::time::sleep(pause).await;
                reader.clocks().await
            };
            tokio::select! {
                () = quit => return Ok(()),
                _ = terminated.recv() => return Ok(()),
                _ = interrupted.recv() => return Ok(()),
                new = renewed => match new {
                    Ok(new) => (observed, trouble) = (new, None),
                    Err(error) => trouble = Some(error),
                },
            }
        }
    }
}

/// One picture. On a terminal it has as many rows as fit.
fn picture(
    observed: &Observed,
    filter: &Filter,
    trouble: Option<&Error>,
    now: Timestamp,
    screen: &Screen,
) -> String {
    let views = nodes::views(observed, filter);
    let synchronized = views.iter().filter(|view| view.is_synchronized()).count();
    let mut text = format!(
        "{}   {synchronized} of {} synchronised\n",
        now.strftime("%H:%M:%SZ"),
        count(views.len(), "node")
    );
    if let Some(trouble) = trouble {
        let age = span(now.duration_since(observed.now));
        text += &screen.paint(&format!("This picture is {age} old: {trouble}"), Paint::Bad);
        text.push('\n');
    }
    // The lines above, and the headings.
    let rows = screen.height.map(|height| height.saturating_sub(text.lines().count() + 2));
    text + &nodes::text(&views, now, false, screen, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::fixture;

    #[test]
    fn a_picture_fits_the_screen_and_says_how_old_it_is() {
        let observed = fixture("healthy");
        let screen = Screen { height: Some(4), ..Screen::of_file() };
        let filter = Filter::default();
        let fresh = picture(&observed, &filter, None, observed.now, &screen);
        assert!(fresh.starts_with("12:00:00Z   1 of 1 node synchronised\nNODE "), "{fresh}");
        let later = observed.now + Duration::from_secs(20);
        let old = picture(&observed, &filter, Some(&Error::NotInstalled("x")), later, &screen);
        assert!(old.contains("This picture is 20s old: the cluster has no x"), "{old}");
        assert!(old.lines().count() <= 4, "{old}");
    }
}
