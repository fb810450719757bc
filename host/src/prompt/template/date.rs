//! The template function `strftime_now`: the current date and time, for templates that include it in the
//! prompt. In UTC, because the time zone is unknown.

use std::time::{SystemTime, UNIX_EPOCH};

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

const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// Formats `now` by a `strftime` pattern. Only the letters that templates use are supported.
pub(super) fn format(pattern: &str, now: SystemTime) -> Result<String, String> {
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut text = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let letter = letters.next().unwrap_or('%');
        text += &match letter {
            'd' => format!("{day:02}"),
            'm' => format!("{month:02}"),
            'y' => format!("{:02}", year % 100),
            'Y' => format!("{year}"),
            'b' => month_name[..3].to_owned(),
            'B' => month_name.to_owned(),
            'a' => day_name[..3].to_owned(),
            'A' => day_name.to_owned(),
            'H' => format!("{:02}", time / 3600),
            'M' => format!("{:02}", time / 60 % 60),
            'S' => format!("{:02}", time % 60),
            '%' => "%".to_owned(),
            other => {
                return Err(format!(
                    "strftime_now: expected %d %m %y %Y %b %B %a %A %H %M %S, found %{other}"
                ));
            }
        };
    }
    Ok(text)
}

/// Returns year, month and day for a number of days after 1 January 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // The calendar repeats every 400 years, which have 146,097 days.
    let (mut year, mut left) = (1970 + 400 * (days / 146_097), days % 146_097);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_match_the_calendar() {
        // The output of `date -u -d @N`.
        for (seconds, expected) in [
            (0, "Thu 01 Jan 1970 00:00:00"),
            (951_782_399, "Mon 28 Feb 2000 23:59:59"),
            (951_782_400, "Tue 29 Feb 2000 00:00:00"),
            (1_735_689_599, "Tue 31 Dec 2024 23:59:59"),
            (4_107_542_400, "Mon 01 Mar 2100 00:00:00"),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(format("%a %d %b %Y %H:%M:%S", now).unwrap(), expected);
        }
        assert_eq!(
            format("%A, %B %m/%y %%", UNIX_EPOCH).unwrap(),
            "Thursday, January 01/70 %"
        );
        assert!(format("%Q", UNIX_EPOCH).is_err());
    }
}
