//! Dates and seconds since 1970, both ways, in UTC (proleptic Gregorian calendar).

/// Seconds since 1970 of a date (year, month, day) and a time of day (hour, minute, second).
pub fn seconds(date: (i64, i64, i64), time: (i64, i64, i64)) -> i64 {
    let (year, month, day) = date;
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    days * 86_400 + time.0 * 3600 + time.1 * 60 + time.2
}

/// `2020-01-01T00:00:00Z` for seconds since 1970.
pub fn shown(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (text, date, time, expected) in [
            ("1970-01-01T00:00:00Z", (1970, 1, 1), (0, 0, 0), 0),
            ("2000-02-29T23:59:59Z", (2000, 2, 29), (23, 59, 59), 951_868_799),
            ("2020-01-01T00:00:00Z", (2020, 1, 1), (0, 0, 0), 1_577_836_800),
            ("2026-11-22T12:34:56Z", (2026, 11, 22), (12, 34, 56), 1_795_350_896),
        ] {
            assert_eq!(seconds(date, time), expected);
            assert_eq!(shown(expected), text);
        }
    }
}
