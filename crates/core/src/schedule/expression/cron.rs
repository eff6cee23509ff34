//! AWS's cron dialect: six fields, to the minute.

use std::fmt;

use jiff::civil::{Date, DateTime, Weekday};

use super::Text;
use super::error::{ExpressionError, Field, Problem};
use super::numbers::Numbers;
use crate::query::shortened;

/// The first year of a cron expression.
pub(super) const FIRST_YEAR: i16 = 1970;
/// The last one.
pub(super) const LAST_YEAR: i16 = 2199;

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A cron expression: what it says, and what that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    /// As given, with single spaces and capital letters.
    text: Box<str>,
    minutes: Numbers,
    hours: Numbers,
    days: Days,
    months: Numbers,
    /// Years since [`FIRST_YEAR`].
    years: Numbers,
}

/// Which days of a month. Days of the week are counted from Sunday, which is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Days {
    /// These.
    OfMonth(Numbers),
    /// `L`: the last one.
    Last,
    /// `15W`: the weekday closest to this day, in the same month.
    NearestWeekday(u16),
    /// These days of every week.
    OfWeek(Numbers),
    /// `5L`: the last one of its kind.
    LastOf(u16),
    /// `3#2`: the nth of its kind.
    Nth { day: u16, nth: u16 },
}

impl Cron {
    /// Reads what stands between the parentheses.
    pub(super) fn read(inner: Text<'_>) -> Result<Self, ExpressionError> {
        let fields: Vec<Text<'_>> = inner.words().collect();
        let &[minutes, hours, day_of_month, month, day_of_week, year] = fields.as_slice() else {
            return Err(Problem::FieldCount(fields.len()).at(inner.at));
        };
        let upper: Vec<String> = fields.iter().map(|field| field.text.to_ascii_uppercase()).collect();
        Ok(Self {
            text: upper.join(" ").into(),
            minutes: plain(Field::Minutes, minutes)?,
            hours: plain(Field::Hours, hours)?,
            days: days(day_of_month, day_of_week)?,
            months: plain(Field::Month, month)?,
            years: plain(Field::Year, year)?,
        })
    }

    /// The first time it says that is not before `from`, which is a whole minute. Looks at years, months and days that can be,
    /// and at nothing in between.
    pub(in crate::schedule) fn next_from(&self, from: DateTime) -> Option<DateTime> {
        let today = self.next_date(from.date())?;
        if today == from.date()
            && let Some(time) = self.next_time(from.hour() as u16, from.minute() as u16)
        {
            return Some(at(today, time));
        }
        let date = if today == from.date() { self.next_date(today.tomorrow().ok()?)? } else { today };
        Some(at(date, self.next_time(0, 0)?))
    }

    fn next_time(&self, hour: u16, minute: u16) -> Option<(u16, u16)> {
        let this = self.hours.next_from(hour)?;
        if this == hour {
            if let Some(minute) = self.minutes.next_from(minute) {
                return Some((this, minute));
            }
            return Some((self.hours.next_from(hour + 1)?, self.minutes.next_from(0)?));
        }
        Some((this, self.minutes.next_from(0)?))
    }

    fn next_date(&self, from: Date) -> Option<Date> {
        let mut first = from;
        loop {
            let year = FIRST_YEAR + self.years.next_from((first.year().max(FIRST_YEAR) - FIRST_YEAR) as u16)? as i16;
            if year > first.year() {
                first = Date::new(year, 1, 1).ok()?;
            }
            while let Some(month) = self.months.next_from(first.month() as u16) {
                if month > first.month() as u16 {
                    first = Date::new(year, month as i8, 1).ok()?;
                }
                if let Some(day) = self.days.next_in_month(first) {
                    return Some(day);
                }
                if month == 12 {
                    break;
                }
                first = Date::new(year, month as i8 + 1, 1).ok()?;
            }
            first = Date::new(year + 1, 1, 1).ok()?;
        }
    }
}

fn at(date: Date, (hour, minute): (u16, u16)) -> DateTime {
    date.at(hour as i8, minute as i8, 0, 0)
}

impl Days {
    /// The first of them in the month of `from` that is not before it.
    fn next_in_month(self, from: Date) -> Option<Date> {
        let length = from.days_in_month() as u16;
        let day = |day: u16| Date::new(from.year(), from.month(), i8::try_from(day).ok()?).ok();
        let one = match self {
            Self::OfMonth(days) => days.next_from(from.day() as u16).filter(|day| *day <= length),
            Self::OfWeek(days) => {
                let today = number(from.weekday());
                let ahead = (0..7).find(|ahead| days.contains((today - 1 + ahead) % 7 + 1))?;
                Some(from.day() as u16 + ahead).filter(|day| *day <= length)
            }
            Self::Last => Some(length),
            Self::NearestWeekday(wanted) => day(wanted).map(|date| nearest_weekday(date, length)),
            Self::LastOf(kind) => Some(length - (number(from.last_of_month().weekday()) + 7 - kind) % 7),
            Self::Nth { day: kind, nth } => {
                let first = 1 + (kind + 7 - number(from.first_of_month().weekday())) % 7;
                Some(first + 7 * (nth - 1)).filter(|day| *day <= length)
            }
        };
        day(one?).filter(|date| *date >= from)
    }
}

/// 1 is Sunday.
fn number(day: Weekday) -> u16 {
    day.to_sunday_one_offset() as u16
}

/// The day from Monday to Friday that is closest, without leaving the month.
fn nearest_weekday(date: Date, length: u16) -> u16 {
    let day = date.day() as u16;
    match date.weekday() {
        Weekday::Saturday if day == 1 => 3,
        Weekday::Saturday => day - 1,
        Weekday::Sunday if day == length => day - 2,
        Weekday::Sunday => day + 1,
        _ => day,
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Field {
    fn bounds(self) -> (u16, u16) {
        match self {
            Self::Minutes => (0, 59),
            Self::Hours => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (1, 7),
            Self::Year => (FIRST_YEAR as u16, LAST_YEAR as u16),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &DAYS,
            _ => &[],
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Minutes => "0-59 and , - * / can stand there",
            Self::Hours => "0-23 and , - * / can stand there",
            Self::DayOfMonth => "1-31 and , - * ? / L W can stand there",
            Self::Month => "1-12, JAN-DEC and , - * / can stand there",
            Self::DayOfWeek => "1-7, SUN-SAT and , - * ? L # can stand there",
            Self::Year => "1970-2199 and , - * / can stand there",
        }
    }
}

/// A field of values, ranges and steps, as a set; of years, since the first one.
fn plain(field: Field, text: Text<'_>) -> Result<Numbers, ExpressionError> {
    let offset = if field == Field::Year { FIRST_YEAR as u16 } else { 0 };
    let mut numbers = Numbers::default();
    for item in text.split(|c| c == ',') {
        let (from, to, step) = self::item(field, item)?;
        (from..=to).step_by(usize::from(step)).for_each(|number| numbers.insert(number - offset));
    }
    Ok(numbers)
}

/// First, last and step of one item of a list.
fn item(field: Field, text: Text<'_>) -> Result<(u16, u16, u16), ExpressionError> {
    let (first, last) = field.bounds();
    let (range, step) = match text.cut('/') {
        Some(_) if field == Field::DayOfWeek => {
            return Err(Problem::NotHere { field, wildcard: '/' }.at(text.at));
        }
        Some((range, step)) => (range, Some(self::step(field, step)?)),
        None => (text, None),
    };
    if range.text == "*" {
        return Ok((first, last, step.unwrap_or(1)));
    }
    let (from, to) = match range.cut('-') {
        Some((from, to)) => (value(field, from)?, Some(value(field, to)?)),
        None => (value(field, range)?, None),
    };
    match (to, step) {
        (Some(to), _) if to < from => Err(Problem::Backwards(field).at(range.at)),
        (Some(to), step) => Ok((from, to, step.unwrap_or(1))),
        // `5/15`: from the fifth to the end.
        (None, Some(step)) => Ok((from, last, step)),
        (None, None) => Ok((from, from, 1)),
    }
}

fn step(field: Field, text: Text<'_>) -> Result<u16, ExpressionError> {
    let (first, last) = field.bounds();
    let most = last - first + 1;
    digits(text.text)
        .filter(|step| (1..=most).contains(step))
        .ok_or_else(|| Problem::BadStep { field, most }.at(text.at))
}

fn value(field: Field, text: Text<'_>) -> Result<u16, ExpressionError> {
    let (first, last) = field.bounds();
    if let Some(index) = field.names().iter().position(|known| known.eq_ignore_ascii_case(text.text)) {
        return Ok(first + index as u16);
    }
    let number = !text.text.is_empty() && text.text.bytes().all(|byte| byte.is_ascii_digit());
    match digits(text.text).filter(|value| (first..=last).contains(value)) {
        Some(value) => Ok(value),
        None if number => Err(Problem::OutOfRange { field, value: shortened(text.text), first, last }.at(text.at)),
        None => Err(not_a_value(field, text)),
    }
}

/// A wildcard in the wrong place is named; anything else is shown.
fn not_a_value(field: Field, text: Text<'_>) -> ExpressionError {
    let own = match field {
        Field::DayOfMonth => "?LW",
        Field::DayOfWeek => "?L#",
        _ => "",
    };
    let wildcard = text.text.char_indices().map(|(_, c)| c.to_ascii_uppercase()).find(|c| "?LW#*".contains(*c));
    let worded = text.text.chars().filter(char::is_ascii_alphabetic).count() > 1;
    match wildcard.filter(|_| !worded) {
        Some(wildcard) if own.contains(wildcard) || wildcard == '*' => {
            Problem::NotAlone { field, wildcard }.at(text.at)
        }
        Some(wildcard) => Problem::NotHere { field, wildcard }.at(text.at),
        None => Problem::BadValue { field, found: shortened(text.text), allowed: field.allowed() }.at(text.at),
    }
}

/// A number without sign.
fn digits(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The two fields of which exactly one says something.
fn days(of_month: Text<'_>, of_week: Text<'_>) -> Result<Days, ExpressionError> {
    match (of_month.text, of_week.text) {
        ("?", "?") => Err(Problem::OneQuestionMark.at(of_week.at)),
        (_, "?") => day_of_month(of_month),
        ("?", _) => day_of_week(of_week),
        _ => {
            // What is wrong in itself is said first.
            day_of_month(of_month)?;
            day_of_week(of_week)?;
            Err(Problem::OneQuestionMark.at(of_month.at))
        }
    }
}

fn day_of_month(text: Text<'_>) -> Result<Days, ExpressionError> {
    const FIELD: Field = Field::DayOfMonth;
    if text.text.eq_ignore_ascii_case("L") {
        return Ok(Days::Last);
    }
    match text.text.strip_suffix(['W', 'w']).filter(|day| !day.is_empty() && !day.contains([',', '-', '/'])) {
        Some(day) => Ok(Days::NearestWeekday(value(FIELD, Text { text: day, ..text })?)),
        None => plain(FIELD, text).map(Days::OfMonth),
    }
}

fn day_of_week(text: Text<'_>) -> Result<Days, ExpressionError> {
    const FIELD: Field = Field::DayOfWeek;
    let listed = text.text.contains([',', '-']);
    if let Some((day, nth)) = text.cut('#').filter(|_| !listed) {
        let day = value(FIELD, day)?;
        let nth =
            digits(nth.text).filter(|nth| (1..=5).contains(nth)).ok_or_else(|| Problem::BadOccurrence.at(nth.at))?;
        return Ok(Days::Nth { day, nth });
    }
    match text.text.strip_suffix(['L', 'l']).filter(|_| !listed) {
        // The last day of the week.
        Some("") => Ok(Days::OfWeek([7].into_iter().collect())),
        Some(day) => Ok(Days::LastOf(value(FIELD, Text { text: day, ..text })?)),
        None => plain(FIELD, text).map(Days::OfWeek),
    }
}

#[cfg(test)]
impl Cron {
    /// Whether it says this minute, asked of the calendar in the plainest way: what [`Cron::next_from`] is held against.
    pub(super) fn says(&self, time: DateTime) -> bool {
        let has = |set: Numbers, number: u16| set.contains(number);
        let (day, kind) = (time.day() as u16, number(time.weekday()));
        let length = time.date().days_in_month() as u16;
        let weekday = |day: u16| Date::new(time.year(), time.month(), day as i8).map(|date| number(date.weekday()));
        let works = |day: u16| (1..=length).contains(&day) && weekday(day).is_ok_and(|kind| kind != 1 && kind != 7);
        let days = match self.days {
            Days::OfMonth(days) => has(days, day),
            Days::OfWeek(days) => has(days, kind),
            Days::Last => time.date().tomorrow().is_ok_and(|next| next.month() != time.month()),
            Days::LastOf(wanted) => kind == wanted && day + 7 > length,
            Days::Nth { day: wanted, nth } => kind == wanted && day.div_ceil(7) == nth,
            Days::NearestWeekday(wanted) => {
                let nearby = [wanted, wanted.wrapping_sub(1), wanted + 1, wanted.wrapping_sub(2), wanted + 2];
                wanted <= length && nearby.into_iter().find(|day| works(*day)) == Some(day)
            }
        };
        let year = has(self.years, (time.year() - FIRST_YEAR) as u16);
        days && year
            && has(self.months, time.month() as u16)
            && has(self.hours, time.hour() as u16)
            && has(self.minutes, time.minute() as u16)
    }
}
