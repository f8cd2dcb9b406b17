//! Dates for `strftime_now`.

/// A point in time, in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    year: i64,
    month: usize,
    day: i64,
    /// 0 is Sunday.
    weekday: usize,
    day_of_year: i64,
    seconds: i64,
}

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

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl Clock {
    /// From seconds since the beginning of 1970.
    pub(super) fn new(unix_seconds: i64) -> Clock {
        let days = unix_seconds.div_euclid(86_400);
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        // Whole cycles of 400 years at once, then year by year and month by month.
        let cycles = days.div_euclid(146_097);
        let mut left = days - cycles * 146_097;
        let mut year = 1970 + 400 * cycles;
        while left >= 365 + i64::from(is_leap(year)) {
            left -= 365 + i64::from(is_leap(year));
            year += 1;
        }
        let day_of_year = left + 1;
        let february = 28 + i64::from(is_leap(year));
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while left >= lengths[month] {
            left -= lengths[month];
            month += 1;
        }
        Clock {
            year,
            month,
            day: left + 1,
            // 1 January 1970 was a Thursday.
            weekday: (days + 4).rem_euclid(7) as usize,
            day_of_year,
            seconds: unix_seconds.rem_euclid(86_400),
        }
    }

    /// As C's `strftime` in the locale C; a directive that is not known stays as it is.
    pub(super) fn format(&self, format: &str) -> String {
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            match chars.next() {
                Some('-') => {
                    let directive = chars.next();
                    let padded = directive
                        .and_then(|c| self.directive(c))
                        .unwrap_or_default();
                    match padded.trim_start_matches(['0', ' ']) {
                        "" => text.push('0'),
                        trimmed => text.push_str(trimmed),
                    }
                }
                Some(c) => match self.directive(c) {
                    Some(part) => text.push_str(&part),
                    None => text.extend(['%', c]),
                },
                None => text.push('%'),
            }
        }
        text
    }

    fn directive(&self, c: char) -> Option<String> {
        let (hour, minute, second) = (
            self.seconds / 3600,
            self.seconds / 60 % 60,
            self.seconds % 60,
        );
        let hour_of_12 = (hour + 11) % 12 + 1;
        Some(match c {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year.rem_euclid(100)),
            'm' => format!("{:02}", self.month + 1),
            'B' => MONTHS[self.month].to_owned(),
            'b' | 'h' => MONTHS[self.month][..3].to_owned(),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year),
            'A' => WEEKDAYS[self.weekday].to_owned(),
            'a' => WEEKDAYS[self.weekday][..3].to_owned(),
            'w' => self.weekday.to_string(),
            'u' => ((self.weekday + 6) % 7 + 1).to_string(),
            'H' => format!("{hour:02}"),
            'I' => format!("{hour_of_12:02}"),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'z' => "+0000".to_owned(),
            'Z' => "UTC".to_owned(),
            'F' => self.format("%Y-%m-%d"),
            'T' => self.format("%H:%M:%S"),
            'R' => self.format("%H:%M"),
            'D' => self.format("%m/%d/%y"),
            'c' => self.format("%a %b %e %H:%M:%S %Y"),
            'x' => self.format("%m/%d/%y"),
            'X' => self.format("%H:%M:%S"),
            '%' => "%".to_owned(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `date -u -d @SECONDS` says.
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "Thursday 01 January 1970 001 00:00:00 12 AM"),
            (951_782_400, "Tuesday 29 February 2000 060 00:00:00 12 AM"),
            (1_791_792_930, "Monday 12 October 2026 285 08:15:30 08 AM"),
            (4_107_542_399, "Sunday 28 February 2100 059 23:59:59 11 PM"),
            (-1, "Wednesday 31 December 1969 365 23:59:59 11 PM"),
        ] {
            let text = Clock::new(seconds).format("%A %d %B %Y %j %H:%M:%S %I %p");
            assert_eq!(text, expected);
        }
        assert_eq!(
            Clock::new(0).format("%-d %b %y %e %Q 100%"),
            "1 Jan 70  1 %Q 100%"
        );
    }
}
