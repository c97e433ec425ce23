//! Times as `%START_TIME%` and `%START_TIME(format)%` print them, in UTC.

use std::{
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// Formats a time by Envoy's rules: the conversions of `strftime` that tell numbers and English names, `%s` for the
/// seconds since 1970, and `%f`, `%3f`… for parts of a second. What is no conversion stands as it is.
pub(crate) fn format(format: Option<&str>, time: SystemTime) -> Vec<u8> {
    let moment = Moment::of(time);
    let mut out = Vec::new();
    let mut rest = format.unwrap_or("%Y-%m-%dT%H:%M:%S.%3fZ");
    while let Some((before, after)) = rest.split_once('%') {
        out.extend_from_slice(before.as_bytes());
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let conversion = after[digits..].chars().next().unwrap_or('%');
        moment.write(&mut out, conversion, after[..digits].parse().ok());
        rest = after.get(digits + conversion.len_utf8()..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// A time, taken apart by the Gregorian calendar.
struct Moment {
    since_epoch: u64,
    year: i64,
    month: usize,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    nanosecond: u32,
    weekday: usize,
    day_of_year: u64,
}

const DAY: u64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Moment {
    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / DAY, since.as_secs() % DAY);
        let (mut year, mut left) = (1970, days);
        while left >= days_of(year) {
            left -= days_of(year);
            year += 1;
        }
        let day_of_year = left + 1;
        let february = if days_of(year) == 366 { 29 } else { 28 };
        let mut month = 0;
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if left < days {
                break;
            }
            left -= days;
            month += 1;
        }
        Self {
            since_epoch: since.as_secs(),
            year,
            month,
            day: left + 1,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            nanosecond: since.subsec_nanos(),
            // The first of January 1970 was a Thursday.
            weekday: ((days + 4) % 7) as usize,
            day_of_year,
        }
    }

    fn write(&self, out: &mut Vec<u8>, conversion: char, width: Option<u32>) {
        let Self { year, day, hour, minute, second, .. } = self;
        let (month, month_name, weekday) = (self.month + 1, MONTHS[self.month], WEEKDAYS[self.weekday]);
        // Writing into memory cannot fail.
        _ = match conversion {
            'Y' => write!(out, "{year}"),
            'y' => write!(out, "{:02}", year % 100),
            'm' => write!(out, "{month:02}"),
            'd' => write!(out, "{day:02}"),
            'e' => write!(out, "{day:2}"),
            'j' => write!(out, "{:03}", self.day_of_year),
            'H' => write!(out, "{hour:02}"),
            'I' => write!(out, "{:02}", (hour + 11) % 12 + 1),
            'p' => out.write_all(if *hour < 12 { b"AM" } else { b"PM" }),
            'M' => write!(out, "{minute:02}"),
            'S' => write!(out, "{second:02}"),
            'F' => write!(out, "{year}-{month:02}-{day:02}"),
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            'a' => out.write_all(&weekday.as_bytes()[..3]),
            'A' => out.write_all(weekday.as_bytes()),
            'b' | 'h' => out.write_all(&month_name.as_bytes()[..3]),
            'B' => out.write_all(month_name.as_bytes()),
            'Z' => out.write_all(b"UTC"),
            'z' => out.write_all(b"+0000"),
            's' => self.write_since_epoch(out, width),
            'f' => self.write_fraction(out, width.unwrap_or(9)),
            '%' => out.write_all(b"%"),
            other => write!(out, "%{other}"),
        };
    }

    /// `%s` in seconds; `%3s`, `%6s` and `%9s` in thousandths and so on.
    fn write_since_epoch(&self, out: &mut Vec<u8>, digits: Option<u32>) -> std::io::Result<()> {
        write!(out, "{}", self.since_epoch)?;
        self.write_fraction(out, digits.unwrap_or(0))
    }

    fn write_fraction(&self, out: &mut Vec<u8>, digits: u32) -> std::io::Result<()> {
        let nanoseconds = format!("{:09}", self.nanosecond);
        out.write_all(&nanoseconds.as_bytes()[..digits.min(9) as usize])
    }
}

fn days_of(year: i64) -> u64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, text: Option<&str>) -> String {
        let time = UNIX_EPOCH + Duration::new(seconds, 123_456_789);
        String::from_utf8(format(text, time)).unwrap()
    }

    #[test]
    fn times_print_as_envoy_prints_them() {
        assert_eq!(at(0, None), "1970-01-01T00:00:00.123Z");
        // The last second before and the first after a leap day.
        assert_eq!(at(951_782_399, None), "2000-02-28T23:59:59.123Z");
        assert_eq!(at(951_868_799, Some("%F %T")), "2000-02-29 23:59:59");
        assert_eq!(at(1_795_000_000, Some("%a %e %b %Y %I%p day %j")), "Wed 18 Nov 2026 11AM day 322");
    }

    #[test]
    fn parts_of_a_second_and_what_is_no_conversion() {
        assert_eq!(at(1_000, Some("%s %3s %f %6f %% %Q 5%")), "1000 1000123 123456789 123456 % %Q 5%");
        assert_eq!(at(0, Some("ü%")), "ü%");
    }
}
