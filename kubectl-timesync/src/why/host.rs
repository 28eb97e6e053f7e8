//! Other troubles of a node: another program that steers the clock, the hardware clock, the NTP server, the time zone, and
//! the agent's files.
use api::{LastStep, NodeClockStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::{
    observed::condition,
    why::cause::{
        Chain,
        Severity::{Broken, Degraded, Notice},
        Subject,
    },
    words::{age, seconds, sentence},
};

/// The chain if another program steers the clock. `clock` is the chain of the clock's state, if it is not right.
pub(super) fn conflict(
    subject: &Subject<'_>,
    status: &NodeClockStatus,
    clock: Option<&Chain>,
) -> Option<Chain> {
    let conflict = status.conflict.as_ref()?;
    let since = conflict
        .since
        .as_ref()
        .map_or(String::new(), |since| format!(" for {}", age(subject.observed.now, since.0)));
    let what = format!("The agent has only observed{since}, since another program steers this clock.");
    let means =
        "Two programs that steer one clock make it worse, so the agent stands back until it is alone.";
    let chain = match clock.and_then(|clock| clock.causes.first()) {
        Some(first) => {
            Chain::new(Broken, first.id, first.what.clone()).because(1, "Conflict", what).means(means)
        }
        None => Chain::new(Broken, "Conflict", what).means(means),
    };
    let depth = chain.below();
    let id = if conflict.suspects.is_empty() { "UnknownProgram" } else { "OtherDaemon" };
    let chain = chain.because(depth, id, sentence(&conflict.message));
    let units: Vec<_> =
        conflict.suspects.iter().filter_map(|suspect| suspect.split_whitespace().next()).collect();
    let chain = match units.as_slice() {
        [] => chain.todo("Look on the node for chronyd, ntpd, systemd-timesyncd, ptp4l, scripts, and guest tools of the hypervisor."),
        units => chain.todo(format!(
            "Stop {0} on the node, and keep it from starting again, as the message says. If its image or its configuration \
             management brings it back, remove it there.",
            units.join(", ")
        )),
    };
    Some(
        chain
            .todo("If the other program is to steer the clock, set mode: Observe in a policy for this node."),
    )
}

/// The chain if the hardware clock is not healthy.
pub(super) fn rtc(status: &NodeClockStatus) -> Option<Chain> {
    let found = condition(&status.conditions, "RTCHealthy").filter(|found| found.status == "False")?;
    let (id, todo) = match found.reason.as_str() {
        "Off" => {
            ("RTCOff", "Set rtc.mode: Verified in the policy: then the agent writes it, and reads it back.")
        }
        "Drifting" => (
            "RTCDrifting",
            "Replace the board or its hardware clock, or do not rely on a boot without a network.",
        ),
        "BatterySuspect" => ("RTCBattery", "Replace the battery of the node's board."),
        "LocalTime" => ("RTCLocalTime", "Let it have UTC: run `timedatectl set-local-rtc 0` on the node."),
        "WriteFailed" => {
            ("RTCWriteFailed", "See the agent's log for the system's error. The clock's chip may be broken.")
        }
        _ => (
            "RTCUnreadable",
            "Set agent.privileged: true in the chart's values, or rtc.mode: Kernel in the policy.",
        ),
    };
    Some(
        Chain::new(Notice, "RTCUnhealthy", format!("The hardware clock is not healthy ({}).", found.reason))
            .means("The system clock is not affected now. After its next boot the node may have a wrong time until an upstream answers.")
            .because(1, id, sentence(&found.message))
            .todo(todo),
    )
}

/// The chain if the node does not serve time although its policy asks for it.
pub(super) fn serving(subject: &Subject<'_>, status: &NodeClockStatus) -> Option<Chain> {
    let found = condition(&status.conditions, "Serving")?;
    let is_wanted = found.status == "False" && found.reason != "Disabled";
    if !is_wanted && found.reason != "Partial" {
        return None;
    }
    let chain = Chain::new(Degraded, "NotServing", "The node does not serve time as its policy says.")
        .means("Its own clock is corrected all the same. Machines that ask this node get no answer.");
    let message = sentence(&found.message);
    let port = subject.policy().and_then(|policy| policy.spec.serve.as_ref()).map_or(123, |serve| serve.port);
    Some(match found.reason.as_str() {
        "PortTaken" => chain
            .because(1, "PortTaken", message)
            .means("Only one program can have the port. The agent tries again every 5 s.")
            .run(
                "Stop the other program; on the node this names it. It is often chronyd or ntpd, which would steer the clock, \
                 too.",
                format!("ss -lunp 'sport = :{port}'"),
            )
            .todo("If the node is not to serve time, set serve.enabled: false in the policy."),
        "NotPermitted" => chain
            .because(1, "ServingNotPermitted", message)
            .todo(
                "The chart gives the agent the capability NET_BIND_SERVICE. Look for an admission policy of the cluster, or \
                 a setting of the container runtime, that removes it.",
            ),
        "NoAddress" => chain
            .because(1, "NoAddress", message)
            .todo("Correct serve.addresses, or give the node one of these addresses. A standby of a virtual IP can stay so."),
        _ => chain.because(1, "ServingFailed", message).todo("See the agent's log for the system's error."),
    })
}

/// A step by another process is a trouble only for this long: one that happened once and was undone asks for nothing, and
/// the NodeClock keeps it until the agent's next start.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// Returns true if the step is worth telling. Its time is what the clock said after it. Which of the two was right, that
/// time or the one before the step, is not known here, so either counts.
fn is_recent(step: &LastStep, now: Timestamp) -> bool {
    let Some(time) = step.time.as_ref().map(|time| time.0) else { return true };
    let by = seconds(&step.by).and_then(|by| SignedDuration::try_from_secs_f64(by).ok()).unwrap_or_default();
    let is_recent = |at: Timestamp| now.duration_since(at).abs() <= RECENT;
    is_recent(time) || time.checked_sub(by).is_ok_and(is_recent)
}

/// Chains of smaller troubles: steps by other processes, the time zone, the state folder, the boot pod.
pub(super) fn others(subject: &Subject<'_>, status: &NodeClockStatus) -> Vec<Chain> {
    let mut chains = Vec::new();
    let now = subject.observed.now;
    if let Some(step) = status.last_external_step.as_ref().filter(|step| is_recent(step, now)) {
        let when = step.time.as_ref().map_or(String::new(), |time| format!(" {} ago", age(now, time.0)));
        let times = status.external_steps.unwrap_or(1);
        chains.push(
            Chain::new(
                Notice,
                "ExternalStep",
                format!(
                    "Another process set the clock by {}{when} ({times} times since the agent's start).",
                    step.by
                ),
            )
            .means("A user ran `date -s`, or a program such as a guest tool of the hypervisor did the same.")
            .todo("If it happens again, find what sets the clock: cron jobs, guest tools of the hypervisor."),
        );
    }
    if let Some(message) = status.timezone.as_ref().and_then(|zone| zone.message.as_ref()) {
        chains.push(
            Chain::new(
                Notice,
                "TimezoneNotSet",
                format!("The node does not have the policy's time zone: {}", sentence(message)),
            )
            .todo("Correct timezone in the policy, or install the zone in /usr/share/zoneinfo of the node."),
        );
    }
    if let Some(error) = status.agent.as_ref().and_then(|agent| agent.state_error.as_ref()) {
        chains.push(
            Chain::new(Degraded, "StateNotWritten", format!("The agent cannot write its state folder: {}", sentence(error)))
                .means("The clock is still corrected, but not stepped, and what the agent has learnt is lost at its next restart.")
                .todo("Free space in /var/lib/timesync of the node, or make it writable."),
        );
    }
    let boot = status
        .agent
        .as_ref()
        .and_then(|agent| agent.boot.as_deref())
        .and_then(|boot| boot.strip_prefix("Failed"));
    if let Some(why) = boot {
        chains.push(
            Chain::new(
                Notice,
                "BootPodFailed",
                format!("The static pod for the next boot is not installed{}", sentence(why)),
            )
            .means("After its next boot the node may start with a wrong time until an upstream answers."),
        );
    }
    chains
}
