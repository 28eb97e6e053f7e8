//! Carries out the engine's actions in their order: on the clock, requests, devices and the disk, and in the log.
use std::{collections::VecDeque, net::SocketAddr};

use ntp::{Action, Clocks, Event, Pause, RequestId, SendError, SourceId, Transition, packet::Header};
use tracing::{debug, error, info, warn};

use super::{Driver, timed_action::TimedAction};
use crate::{report, resolve, send_error::send_error};

impl Driver {
    /// Carries out actions in their order. Actions that follow from their outcomes come after them.
    pub(super) fn carry_out(&mut self, actions: Vec<TimedAction>) {
        let mut open: VecDeque<TimedAction> = actions.into();
        let mut jumped = None;
        while let Some(TimedAction { action, raw }) = open.pop_front() {
            match action {
                action if !self.permits(&action) => {}
                Action::Resolve { source, host } => open.extend(self.resolve(source, host)),
                Action::Send { request, source, to, header } => {
                    open.extend(self.send(request, source, to, header))
                }
                Action::Read { request, source: _, path } => open.extend(self.read(request, &path)),
                Action::Close { request } => self.close(request),
                Action::SetFrequency { ppm } => self.clock.set_frequency(ppm),
                Action::Step { by } => self.clock.step(by),
                Action::SetTai { seconds } => self.clock.set_tai(seconds),
                Action::SetStatus { synchronized, leap, max_error, estimated_error } => {
                    self.clock.set_status(synchronized, leap, max_error, estimated_error);
                }
                Action::SaveDrift(drift) => {
                    self.drift = Some(drift);
                    self.state.save_drift(drift);
                }
                Action::SaveSamples { samples, at } => {
                    self.state.save_samples(samples, Clocks { now: at, raw });
                }
                // The following actions are only valid after the step.
                Action::SaveBoot(boot) if !self.count(boot) => return self.restart_engine(),
                Action::SaveBoot(_) => {}
                Action::Announce(transition) => {
                    if let Transition::ExternalStep { by, .. } = transition {
                        jumped = Some(jumped.unwrap_or(0.0) + by);
                    }
                    self.announce(transition);
                }
            }
        }
        if let Some(by) = jumped {
            self.stepped_by_another(by);
        }
    }

    pub(super) fn announce(&mut self, transition: Transition) {
        let lost = transition == Transition::UpstreamsUnreachable;
        let view = if lost { self.snapshot() } else { None };
        log(&transition, &view.as_ref().map(report::reasons).unwrap_or_default());
        self.announced.push(transition);
    }

    pub(super) fn close(&mut self, request: RequestId) {
        self.requests.close(request);
        self.authenticator.close(request);
    }

    fn resolve(&mut self, source: SourceId, host: String) -> Vec<TimedAction> {
        if let Some(wanted) = self.exchange(source, &host) {
            return wanted;
        }
        if let Some(resolver) = &self.resolver {
            resolver.ask(self.epoch, source, &host);
            return Vec::new();
        }
        match resolve::look_up(&host) {
            Ok(addresses) => self.notify_engine(Event::Resolved { source, addresses: &addresses }),
            Err(why) => self.notify_engine(Event::Unresolved { source, why: &why.to_string() }),
        }
    }

    /// Compares a device with the system clock, and passes the result to the engine.
    fn read(&mut self, request: RequestId, path: &str) -> Vec<TimedAction> {
        let event = match self.devices.read(path) {
            Some(reading) => Event::Measured {
                request,
                at: ntp::Wall(reading.system_ns),
                // Both are nanoseconds since 1970, so their difference does not overflow.
                offset: reading.system_ns.saturating_sub(reading.device_ns) as f64 / 1e9,
                dispersion: reading.window_ns as f64 / 2e9,
            },
            // The device has logged the reason itself.
            None => Event::SendFailed { request, why: SendError::Other(0) },
        };
        self.notify_engine(event)
    }

    /// Sends a request from a new port, and passes the result to the engine.
    fn send(
        &mut self,
        request: RequestId,
        source: SourceId,
        to: SocketAddr,
        header: Header,
    ) -> Vec<TimedAction> {
        let (cookie, datagram) = match self.prove(request, source, header) {
            Ok(proven) => proven,
            Err(wanted) => return wanted,
        };
        let event = match self.requests.send(request, to, cookie, &datagram) {
            Ok(at) => Event::Sent { request, cookie, at },
            Err(error) => {
                debug!(%error, %to, "Request not sent");
                Event::SendFailed { request, why: send_error(error, to) }
            }
        };
        self.notify_engine(event)
    }
}

/// Logs a transition with its facts, once; `why` upstreams give no time.
fn log(transition: &Transition, why: &str) {
    match transition {
        Transition::Synchronized => info!("Clock synchronized"),
        Transition::LocalReference => warn!("On the time of a local clock; UTC is unknown"),
        Transition::SynchronizationLost => warn!("Synchronization lost"),
        Transition::SynchronizationRegained => info!("Synchronization regained"),
        Transition::UpstreamsUnreachable => warn!(why, "No upstream gives time"),
        Transition::UpstreamsReachable => info!("An upstream gives time again"),
        Transition::Stepped { by, why } => warn!(by_s = by, ?why, "Clock stepped"),
        Transition::LeapSecond { by } => info!(by_s = by, "Leap second passed"),
        Transition::CorrectionRefused { offset, why } => {
            error!(offset_s = offset, ?why, "Correction refused")
        }
        Transition::ExternalStep { by, then } => {
            error!(by_s = by, ?then, "Clock was moved by another process")
        }
        Transition::Resumed(Pause::Asleep { seconds }) => warn!(asleep_s = seconds, "Node was asleep"),
        Transition::Resumed(Pause::Unseen { offset }) => {
            warn!(offset_s = offset, "Clock is off all at once, as after a pause of the node")
        }
        Transition::Conflict(sign) => {
            error!(sign = sign.as_str(), "Another process steers the clock; standing back")
        }
        Transition::ConflictEnded => info!("No other process steers the clock any more"),
    }
}
