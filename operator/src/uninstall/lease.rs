//! Takes the Lease from the operator, so that it does not write again what the uninstallation has withdrawn. If another
//! holder has the Lease, the operator ends. Its successors wait until that Lease has expired, and then lead again. So
//! an uninstallation that fails halfway leaves no cluster without an operator.
use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::leader::LEASE;

const HOLDER: &str = "timesync-uninstall";
/// Duration of the Lease. An uninstallation takes at most three minutes. Then the release is removed, with its Lease.
const HELD_FOR: Duration = Duration::from_secs(300);
/// The operator holds its Lease for 15 s at a time, and writes nothing after that.
const OPERATOR_LEASE: Duration = Duration::from_secs(15);
/// Pause between two tries, as long as the operator's between two renewals.
const RETRY: Duration = Duration::from_secs(2);
/// Time limit of one request.
const REQUEST: Duration = Duration::from_secs(3);

/// Takes the Lease, whichever replica has it; tries until `deadline`. Returns from when on no replica writes; none if
/// the Lease could not be taken.
pub(super) async fn take(client: &Client, namespace: &str, deadline: Instant) -> Option<Instant> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let mut complained = false;
    loop {
        match timeout(REQUEST, try_to_take(&leases)).await {
            Ok(Ok(Some(before))) => {
                info!(
                    holder = before.as_deref().unwrap_or_default(),
                    "The Lease is taken: the operator stands back"
                );
                let wait = if before.is_some() { OPERATOR_LEASE } else { Duration::ZERO };
                return Some(Instant::now() + wait);
            }
            // The operator has renewed the Lease in the meantime.
            Ok(Ok(None)) => {}
            Ok(Err(error)) if !complained => {
                warn!(%error, "Cannot take the Lease; trying again");
                complained = true;
            }
            Ok(Err(_)) | Err(_) => sleep(RETRY).await,
        }
        if Instant::now() >= deadline {
            return None;
        }
    }
}

/// Tries to take the Lease. Returns its former holder; none if another process wrote it in the meantime.
async fn try_to_take(leases: &Api<Lease>) -> Result<Option<Option<String>>, kube::Error> {
    let params = PostParams::default();
    let (before, written) = match leases.get_opt(LEASE).await? {
        Some(mut lease) => {
            let before = lease.spec.take().unwrap_or_default();
            lease.spec = Some(ours(&before));
            let written = leases.replace(LEASE, &params, &lease).await;
            (before.holder_identity.filter(|holder| !holder.is_empty()), written)
        }
        None => {
            let metadata = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(ours(&LeaseSpec::default())) };
            (None, leases.create(&params, &lease).await)
        }
    };
    match written {
        Ok(_) => Ok(Some(before)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

fn ours(before: &LeaseSpec) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    LeaseSpec {
        holder_identity: Some(HOLDER.to_owned()),
        lease_duration_seconds: i32::try_from(HELD_FOR.as_secs()).ok(),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(1)),
        ..LeaseSpec::default()
    }
}
