//! Leader election on a Lease: one replica works, the others wait. A Lease has expired if it did not change for its
//! duration by *our monotonic clock*. The times written in the Lease are never compared with our clock, because this
//! program moves wall clocks. Each write names the resourceVersion, so that of two replicas only one succeeds.
use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::{
    health::Health,
    term::{BootTime, Term, WriteError, limited},
};

/// The Lease, in the operator's namespace.
pub(crate) const LEASE: &str = "timesync-operator";
/// Other replicas wait for this long after the last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops its work, well before another replica may take over.
const TERM: Duration = Duration::from_secs(10);
/// Pause between two readings of the Lease.
const RETRY: Duration = Duration::from_secs(2);
/// Time limit of one request, so that an API server that hangs does not use up the term.
const REQUEST: Duration = Duration::from_secs(3);

/// Its name at /readyz.
const WHAT: &str = "the Lease timesync-operator";

/// One replica's view of the Lease.
pub(crate) struct Leader {
    leases: Api<Lease>,
    identity: String,
    seen: Option<ObservedLease>,
    term: Term,
    health: Health,
}

/// A state of the Lease, and when this replica first saw it.
struct ObservedLease {
    version: Option<String>,
    since: Instant,
}

impl Leader {
    /// `identity` must differ between replicas; it is the pod's name.
    pub(crate) fn new(client: Client, namespace: &str, identity: String, term: Term, health: Health) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity, seen: None, term, health }
    }

    /// Waits until this replica leads. That is possible when the Lease is free, released or expired.
    pub(crate) async fn acquire(&mut self) {
        let mut complained = false;
        loop {
            let attempt = self.attempt().await;
            self.health.set(WHAT, attempt.as_ref().map(|_| ()).map_err(ToString::to_string));
            match attempt {
                Ok(true) => {
                    info!(identity = self.identity, "Leading");
                    return;
                }
                Ok(false) => complained = false,
                Err(error) if !complained => {
                    warn!(%error, "Cannot read or write the Lease; trying again");
                    complained = true;
                }
                Err(_) => {}
            }
            sleep(RETRY).await;
        }
    }

    /// Renews the Lease. Returns if that has failed for too long, or if another replica leads.
    pub(crate) async fn hold(&mut self) {
        while !self.term.left().is_zero() {
            sleep(RETRY).await;
            let attempt = self.attempt().await;
            self.health.set(WHAT, attempt.as_ref().map(|_| ()).map_err(ToString::to_string));
            match attempt {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => warn!(%error, "Cannot renew the Lease"),
            }
        }
        self.term.end();
    }

    /// Releases the Lease, so that another replica need not wait until it expires.
    pub(crate) async fn release(&mut self) {
        self.term.end();
        let released = async {
            let Some(mut lease) = self.leases.get_opt(LEASE).await? else {
                return Ok(());
            };
            if holder(&lease) == Some(self.identity.as_str()) {
                let spec = lease.spec.get_or_insert_default();
                spec.holder_identity = None;
                spec.renew_time = Some(MicroTime(Timestamp::now()));
                self.leases.replace(LEASE, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = timeout(REQUEST, released).await {
            warn!(%error, "Cannot release the Lease");
        }
    }

    /// Reads the Lease, and takes or renews it if allowed. Returns true if this replica leads.
    async fn attempt(&mut self) -> Result<bool, WriteError> {
        let Some(lease) = limited(REQUEST, self.leases.get_opt(LEASE)).await? else {
            return self.write(None).await;
        };
        let version = lease.metadata.resource_version.clone();
        if self.seen.as_ref().is_none_or(|seen| seen.version != version) {
            self.seen = Some(ObservedLease { version, since: Instant::now() });
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.since.elapsed());
        match holder(&lease) {
            Some(holder) if holder != self.identity && unchanged < duration(&lease) => Ok(false),
            _ => self.write(Some(lease)).await,
        }
    }

    async fn write(&mut self, lease: Option<Lease>) -> Result<bool, WriteError> {
        let now = MicroTime(Timestamp::now());
        let before = lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if ours { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(!ours))),
            ..LeaseSpec::default()
        };
        let params = PostParams::default();
        let asked = BootTime::now();
        let written = match lease {
            Some(mut lease) => {
                lease.spec = Some(spec);
                limited(REQUEST, self.leases.replace(LEASE, &params, &lease)).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                limited(REQUEST, self.leases.create(&params, &lease)).await
            }
        };
        match written {
            Ok(lease) => {
                self.term.renew(asked, TERM);
                self.seen =
                    Some(ObservedLease { version: lease.metadata.resource_version, since: Instant::now() });
                Ok(true)
            }
            // Another replica wrote first. The next reading shows whether it leads now.
            Err(error) if error.code() == Some(409) && !ours => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn duration(lease: &Lease) -> Duration {
    let secs = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    secs.and_then(|secs| u64::try_from(secs).ok()).map_or(DURATION, Duration::from_secs)
}
