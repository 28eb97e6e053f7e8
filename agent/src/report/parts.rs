//! The parts of the report, as last passed in by their owners; and the transitions so far.
use std::collections::VecDeque;

use contract::{
    Assignment, BootReport, Mode, ProfileError, ProfileName, RtcReport, ServerReport, StepReport,
    TimezoneReport, Transition, TransitionKind, limits::MOST_TRANSITIONS,
};
use ntp::{Snapshot, Wall};

use super::conflict::Conflicts;
use crate::clock::unix_seconds;

/// What the reloader knows of the profile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProfileStatus {
    /// The annotation's value.
    pub(crate) assignment: Assignment,
    /// The running profile.
    pub(crate) running: Option<ProfileName>,
    /// The running profile's mode.
    pub(crate) mode: Option<Mode>,
    /// Why the assigned profile does not run, or runs with less than it asks for.
    pub(crate) error: Option<ProfileError>,
}

/// Everything that the report is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) snapshot: Option<Snapshot>,
    pub(super) last_step: Option<StepReport>,
    pub(super) restored: u32,
    pub(super) resumed: u32,
    pub(super) raised: u32,
    pub(super) external_steps: u32,
    pub(super) last_external_step: Option<StepReport>,
    pub(super) conflicts: Conflicts,
    pub(super) profile: ProfileStatus,
    pub(super) rtc: RtcReport,
    pub(super) timezone: Option<TimezoneReport>,
    pub(super) boot: Option<BootReport>,
    pub(super) state_error: Option<String>,
    pub(super) server: ServerReport,
    pub(super) http_message: String,
    pub(super) transitions: VecDeque<Transition>,
    pub(super) last_number: u64,
}

impl Parts {
    /// Without a snapshot and without transitions.
    pub(super) fn new() -> Self {
        Self {
            snapshot: None,
            last_step: None,
            restored: 0,
            resumed: 0,
            raised: 0,
            external_steps: 0,
            last_external_step: None,
            conflicts: Conflicts::default(),
            profile: ProfileStatus {
                assignment: Assignment::Unassigned,
                running: None,
                mode: None,
                error: None,
            },
            rtc: RtcReport::default(),
            timezone: None,
            boot: None,
            state_error: None,
            server: ServerReport::default(),
            http_message: String::new(),
            transitions: VecDeque::new(),
            last_number: 0,
        }
    }

    /// Counts steps of the agent and of other processes.
    pub(super) fn count(&mut self, now: Wall, transition: &ntp::Transition) {
        let at = unix_seconds(now);
        match *transition {
            ntp::Transition::Stepped { by, why } => {
                self.last_step = Some(StepReport { at, by });
                match why {
                    // These are counted for the boot, and stored on disk.
                    ntp::StepReason::Start => {}
                    ntp::StepReason::ExternalStep => self.restored = self.restored.saturating_add(1),
                    ntp::StepReason::Floor => self.raised = self.raised.saturating_add(1),
                    ntp::StepReason::Resume => self.resumed = self.resumed.saturating_add(1),
                }
            }
            ntp::Transition::ExternalStep { by, .. } => {
                self.external_steps = self.external_steps.saturating_add(1);
                self.last_external_step = Some(StepReport { at, by });
            }
            ntp::Transition::Conflict(sign) => self.conflicts.begin(sign, at),
            ntp::Transition::ConflictEnded => self.conflicts.end(),
            _ => {}
        }
    }

    /// The mode in force: during a conflict the agent does not steer the clock.
    pub(super) fn mode(&self) -> Option<Mode> {
        if self.conflicts.running() { self.profile.mode.map(|_| Mode::Observe) } else { self.profile.mode }
    }

    /// The number of steps that are outside of the policy's count.
    pub(super) fn steps(&self) -> u32 {
        self.restored.saturating_add(self.resumed).saturating_add(self.raised)
    }

    pub(super) fn record(&mut self, now: Wall, kind: TransitionKind, message: String) {
        self.last_number += 1;
        if self.transitions.len() == MOST_TRANSITIONS {
            self.transitions.pop_front();
        }
        self.transitions.push_back(Transition {
            number: self.last_number,
            at: unix_seconds(now),
            kind,
            message,
        });
    }
}
