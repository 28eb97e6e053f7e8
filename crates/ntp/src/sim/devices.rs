//! Hardware clocks of the machine. They are read within a window of a microsecond, as the kernel does.
use super::Sim;
use crate::{Event, RequestId};

/// The reading of a device minus true time at a moment, seconds. None if it cannot be read.
pub type Shown = Box<dyn Fn(f64) -> Option<f64>>;

impl Sim {
    /// Reads a device between two readings of the system clock.
    pub(super) fn read(&mut self, request: RequestId, path: &str) {
        let device = self.devices.iter().find(|(name, _)| *name == path);
        let Some(shown) = device.and_then(|(_, shown)| shown(self.now)) else {
            return self.give(Event::SendFailed { request, why: crate::SendError::Other(5) });
        };
        let mut window = || 0.5e-6 + self.host.exponential(0.5e-6);
        let (before, after) = (window(), window());
        let middle = (after - before) / 2.0;
        self.give(Event::Measured {
            request,
            at: self.clocks().wall.plus(middle),
            offset: self.offset - shown + middle,
            dispersion: (before + after) / 2.0,
        });
    }
}
