//! `top`: the containers of the node on a screen, by their CPU time, memory and requests.
//!
//! ```text
//! sampler (a thread) ── samples ─▶ model ─▶ view ─▶ terminal
//!                          keys ──▶   │
//! ```
//!
//! Decisions are in [`model`], the drawing is in [`view`]; both have no effects. A daemon that
//! does not answer delays the samples, not the keys.

mod keys;
mod model;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use ratatui::crossterm::event;
use runwasi_core::sys;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag, low_level,
};

use self::model::{Model, Sample};
use super::{error::CommandError, list, node::Node, status};

/// Longest wait for a key, between two looks for a sample.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Signals that end the program, which must leave the screen before.
const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// The last of these signals that has come. 0 at first.
#[derive(Clone, Default)]
struct Signalled(Arc<AtomicUsize>);

impl Signalled {
    /// Catches the signals.
    fn catch() -> io::Result<Self> {
        let signalled = Self::default();
        for signal in ENDING {
            // Never an error: all are small and positive.
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, signalled.0.clone(), number)?;
        }
        Ok(signalled)
    }

    fn signal(&self) -> Option<i32> {
        // The flag guards no other data.
        let number = self.0.load(Ordering::Relaxed);
        i32::try_from(number).ok().filter(|number| *number > 0)
    }
}

/// Shows the screen until a key or a signal ends it.
pub(super) fn run(node: &Node, interval: Duration) -> Result<(), CommandError> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let reason = "top needs a terminal; --batch prints it once without one";
        return Err(CommandError::Other(reason.to_owned()));
    }
    // Before the screen: absence and a missing permission are told on a plain terminal.
    let first = sample(node, Instant::now())?;
    let samples = sampler(node.clone(), interval);
    let signalled = Signalled::catch()?;
    // Restored at the end, and by a panic.
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, first, &samples, &signalled);
    let restored = ratatui::try_restore();
    // Shows the cursor.
    drop(terminal);
    if let Some(signal) = signalled.signal() {
        // The parent sees the signal, as without a handler.
        low_level::emulate_default_handler(signal)?;
    }
    restored?;
    shown
}

/// The second of two looks, as text.
pub(super) fn batch(node: &Node, interval: Duration) -> Result<String, CommandError> {
    let mut model = Model::default();
    model.take(sample(node, Instant::now())?);
    sys::pause(interval);
    model.take(sample(node, Instant::now())?);
    Ok(view::plain(&model))
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    first: Sample,
    samples: &Receiver<Result<Sample, CommandError>>,
    signalled: &Signalled,
) -> Result<(), CommandError> {
    let mut model = Model::default();
    model.take(first);
    // Drawn when something has changed: a key, the size, or a sample.
    let mut changed = true;
    while signalled.signal().is_none() {
        if changed {
            terminal.draw(|frame| view::draw(frame, &model))?;
        }
        changed = event::poll(KEY_WAIT)?;
        let mut pending = changed;
        while pending {
            let event = event::read()?;
            if keys::of(&event).into_iter().any(|key| model.press(key)) {
                return Ok(());
            }
            // Drawn once for all that was typed.
            pending = event::poll(Duration::ZERO)?;
        }
        while let Ok(sample) = samples.try_recv() {
            changed = true;
            match sample {
                Ok(sample) => model.take(sample),
                // The daemons may come back: a restart takes a moment.
                Err(error) => model.fail(&error.to_string()),
            }
        }
    }
    Ok(())
}

/// Takes a sample every `interval` on a thread of its own, until the receiver has gone.
// Not joined: it may wait for an answer, and the end of the process ends it.
fn sampler(node: Node, interval: Duration) -> Receiver<Result<Sample, CommandError>> {
    let (sender, receiver): (SyncSender<_>, _) = sync_channel(1);
    thread::spawn(move || {
        loop {
            sys::pause(interval);
            if sender.send(sample(&node, Instant::now())).is_err() {
                return;
            }
        }
    });
    receiver
}

fn sample(node: &Node, at: Instant) -> Result<Sample, CommandError> {
    let daemons = node.daemons(false)?;
    let sandboxes = node.sandboxes(&daemons);
    let rows = list::rows(&daemons, &sandboxes);
    let mut faults = status::faults(&daemons);
    faults.extend(list::faults(&daemons, &sandboxes));
    faults.extend(list::unknown(&daemons, &sandboxes, node.program));
    Ok(Sample { at, containers: model::containers(&rows), daemons: daemons.len(), faults })
}
