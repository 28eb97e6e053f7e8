//! Sources that handle leap seconds differently must not be mixed.
use crate::{
    Leap, Wall,
    clock::leap::{DAY, begins_half_year, ends_half_year},
    source::reply::Server,
};

/// Why a source must not be used together with the others: some smear leap seconds and some do not, so they differ by
/// up to a second for a day. None if it may.
pub(crate) fn mixture(server: &Server, smeared: bool, now: Wall) -> Option<String> {
    let announces = matches!(server.leap, Leap::Insert | Leap::Delete);
    if smeared {
        let why = "Mixed: it announces a leap second, but the upstreams are declared to smear it.";
        return announces.then(|| why.to_owned());
    }
    let day = now.0.div_euclid(DAY);
    // ntpd shows this reference id while it smears. On other days the hash of an IPv6 upstream may look the same.
    let near = ends_half_year(day) || begins_half_year(day);
    let [a, b, c, d] = server.reference_id;
    let smears = [a, b, c, d] == CHRONY_SMEARS || near && server.stratum > 1 && a == NTPD_SMEARS;
    let id = format!("{a}.{b}.{c}.{d}");
    smears.then(|| format!("Mixed: it smears a leap second (reference id {id}), which is not declared."))
}

/// The reference id of a chronyd whose served time is smoothed.
const CHRONY_SMEARS: [u8; 4] = [127, 127, 1, 255];

/// First octet of the reference id of an ntpd that smears. The other octets are the amount.
const NTPD_SMEARS: u8 = 254;

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(seconds: i64) -> Wall {
        Wall(seconds * 1_000_000_000)
    }

    /// 2027-07-01T00:00:00Z.
    const JULY: i64 = 1_814_400_000;

    #[test]
    fn the_smeared_and_the_others_do_not_mix() {
        let check = |leap, stratum, reference_id, smeared, at, mixed| {
            let server = Server { leap, stratum, reference_id };
            assert_eq!(mixture(&server, smeared, wall(at)).is_some(), mixed, "{server:?}");
        };
        check(Leap::Insert, 2, [192, 0, 2, 1], false, JULY - 9, false);
        check(Leap::Insert, 2, [192, 0, 2, 1], true, JULY - 9, true);
        check(Leap::None, 2, [254, 1, 2, 3], true, JULY - 9, false);
        check(Leap::None, 2, [254, 1, 2, 3], false, JULY - 9, true);
        check(Leap::None, 2, [254, 1, 2, 3], false, JULY + 9, true);
        check(Leap::None, 2, [254, 1, 2, 3], false, JULY - 10 * 86_400, false);
        check(Leap::None, 2, [127, 127, 1, 255], false, JULY - 10 * 86_400, true);
    }
}
