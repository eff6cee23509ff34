use jiff::ToSpan;
use proptest::prelude::*;

use super::*;

fn cron(text: &str) -> Box<Cron> {
    match format!("cron({text})").parse() {
        Ok(Expression::Cron(cron)) => cron,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> String {
    text.parse::<Expression>().expect_err(text).to_string()
}

/// The first times after the beginning of a year.
fn times(text: &str, from: &str, count: usize) -> Vec<String> {
    let (cron, mut from): (_, DateTime) = (cron(text), from.parse().expect("a time"));
    let mut times = Vec::new();
    while let Some(next) = cron.next_from(from).filter(|_| times.len() < count) {
        times.push(next.strftime("%Y-%m-%dT%H:%M").to_string());
        from = next.checked_add(1.minute()).expect("a time");
    }
    times
}

#[test]
fn the_examples_of_the_manual_mean_what_it_says() {
    let year = "2026-01-01T00:00";
    assert_eq!(times("0 10 * * ? *", year, 2), ["2026-01-01T10:00", "2026-01-02T10:00"]);
    assert_eq!(times("15 12 * * ? *", year, 1), ["2026-01-01T12:15"]);
    assert_eq!(times("0 18 ? * MON-FRI *", year, 3), ["2026-01-01T18:00", "2026-01-02T18:00", "2026-01-05T18:00"]);
    assert_eq!(times("0 8 1 * ? *", year, 2), ["2026-01-01T08:00", "2026-02-01T08:00"]);
    assert_eq!(times("0/15 * * * ? *", "2026-01-01T00:16", 2), ["2026-01-01T00:30", "2026-01-01T00:45"]);
    assert_eq!(times("0/5 8-17 ? * mon-fri *", "2026-01-02T17:55", 2), ["2026-01-02T17:55", "2026-01-05T08:00"]);
    assert_eq!(times("1/10 0 * * ? *", year, 3), ["2026-01-01T00:01", "2026-01-01T00:11", "2026-01-01T00:21"]);
    // The last day, the weekday closest to a day, the second Tuesday, the last Friday, the last day of the week.
    assert_eq!(times("0 0 L * ? *", year, 2), ["2026-01-31T00:00", "2026-02-28T00:00"]);
    assert_eq!(times("0 0 3W * ? *", year, 3), ["2026-01-02T00:00", "2026-02-03T00:00", "2026-03-03T00:00"]);
    assert_eq!(times("0 0 1W 8 ? *", year, 1), ["2026-08-03T00:00"], "a Saturday: not into July");
    assert_eq!(times("0 0 31W 5 ? *", year, 1), ["2026-05-29T00:00"], "a Sunday: not into June");
    assert_eq!(times("0 0 ? * 3#2 *", year, 2), ["2026-01-13T00:00", "2026-02-10T00:00"]);
    assert_eq!(times("0 0 ? * 3#5 *", year, 2), ["2026-03-31T00:00", "2026-06-30T00:00"]);
    assert_eq!(times("0 0 ? * 6L *", year, 2), ["2026-01-30T00:00", "2026-02-27T00:00"]);
    assert_eq!(times("0 0 ? * L *", year, 1), ["2026-01-03T00:00"]);
    assert_eq!(times("0 0 ? JAN,mar SUN,WED 2026/2", "2026-03-30T00:00", 2), ["2028-01-02T00:00", "2028-01-05T00:00"]);
    assert_eq!(times("0 0 29 2 ? *", year, 2), ["2028-02-29T00:00", "2032-02-29T00:00"]);
    assert_eq!(times("59 23 31 12 ? 2199", year, 2), ["2199-12-31T23:59"]);
    assert_eq!(times("0 0 30 2 ? *", year, 1), Vec::<String>::new(), "no such day ever");
    assert_eq!(times("0 0 1 1 ? 1970-2020", year, 1), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_said_with_the_field_and_the_character() {
    for (text, said) in [
        (
            "every day",
            "cron(minutes hours day-of-month month day-of-week year), rate(value unit) or at(yyyy-mm-ddThh:mm:ss) (at character 1)",
        ),
        ("cron(0 9 * * ? *", "does not end with a closing parenthesis (at character 17)"),
        ("cron(0 9 * * ?)", "and this one has 5 (at character 6)"),
        ("cron(60 9 * * ? *)", "minutes: 60 is not within 0-59 (at character 6)"),
        ("cron(0 1,24 * * ? *)", "hours: 24 is not within 0-23 (at character 10)"),
        ("cron(0 9 0 * ? *)", "day-of-month: 0 is not within 1-31 (at character 10)"),
        ("cron(0 9 ? * 0 *)", "day-of-week: 0 is not within 1-7 (at character 14)"),
        (
            "cron(0 9 * JANUARY ? *)",
            "month: 'JANUARY' is no value: 1-12, JAN-DEC and , - * / can stand there (at character 12)",
        ),
        ("cron(0 9 * * ? 2200)", "year: 2200 is not within 1970-2199 (at character 16)"),
        (
            "cron(0 9 * 5-2 ? *)",
            "month: the range ends before it begins; write it as two, joined by a comma (at character 12)",
        ),
        ("cron(*/0 9 * * ? *)", "minutes: the step behind / is a whole number from 1 to 60 (at character 8)"),
        ("cron(0/x 9 * * ? *)", "minutes: the step behind / is a whole number from 1 to 60 (at character 8)"),
        ("cron(0 9 ? * 1/2 *)", "day-of-week: '/' is not for this field (at character 14)"),
        ("cron(? 9 * * ? *)", "minutes: '?' is not for this field (at character 6)"),
        ("cron(0 L * * ? *)", "hours: 'L' is not for this field (at character 8)"),
        ("cron(0 9 ? * 3W *)", "day-of-week: 'W' is not for this field (at character 14)"),
        (
            "cron(0 9 1,L * ? *)",
            "day-of-month: 'L' stands for itself: it cannot be part of a list, a range or a step (at character 12)",
        ),
        (
            "cron(0 9 1-3W * ? *)",
            "day-of-month: 'W' stands for itself: it cannot be part of a list, a range or a step (at character 12)",
        ),
        (
            "cron(0 9 ? * 3#1,6#3 *)",
            "day-of-week: '#' stands for itself: it cannot be part of a list, a range or a step (at character 14)",
        ),
        ("cron(0 9 ? * 3#6 *)", "day-of-week: behind # stands a number from 1 to 5 (at character 16)"),
        (
            "cron(0 9 LW * ? *)",
            "day-of-month: 'L' stands for itself: it cannot be part of a list, a range or a step (at character 10)",
        ),
        ("cron(0 9 * * * *)", "exactly one of day-of-month and day-of-week must be '?' (at character 10)"),
        ("cron(0 9 ? * ? *)", "exactly one of day-of-month and day-of-week must be '?' (at character 14)"),
        ("cron(0 9 1 * MON *)", "exactly one of day-of-month and day-of-week must be '?' (at character 10)"),
        ("cron(+1 9 * * ? *)", "minutes: '+1' is no value: 0-59 and , - * / can stand there (at character 6)"),
        ("cron(1, 9 * * ? *)", "minutes: '' is no value: 0-59 and , - * / can stand there (at character 8)"),
        ("rate(5)", "a rate is a value and a unit, as in rate(5 minutes) (at character 6)"),
        ("rate(0 minutes)", "a whole number from 1 to 525600 (at character 6)"),
        ("rate(-1 minutes)", "a whole number from 1 to 525600 (at character 6)"),
        ("rate(5 weeks)", "minute, minutes, hour, hours, day or days (at character 8)"),
        ("rate(1 minutes)", "with the value 1 the unit is written 'minute' (at character 8)"),
        ("rate(5 minute)", "with the value 5 the unit is written 'minutes' (at character 8)"),
        ("at(2026-02-30T00:00:00)", "is a day of the calendar"),
        ("at(2026-02-03)", "at(yyyy-mm-ddThh:mm:ss)"),
        ("at(2026-02-03T00:00:00Z)", "at(yyyy-mm-ddThh:mm:ss)"),
        ("at(2026-02-03T00:00:60)", "at(yyyy-mm-ddThh:mm:ss)"),
        ("at(2200-02-03T00:00:00)", "1970-2199"),
    ] {
        let message = refused(text);
        assert!(message.contains(said), "{text}: {message}");
    }
    assert!(refused(&"x".repeat(300)).contains("longer than 256"));
}

#[test]
fn expressions_print_as_they_are_read() {
    for (text, printed) in [
        ("cron(0  9 ? * mon-fri  *)", "cron(0 9 ? * MON-FRI *)"),
        ("rate( 1 minute )", "rate(1 minute)"),
        ("rate(90 days)", "rate(90 days)"),
        ("at(2026-11-23T02:50:07)", "at(2026-11-23T02:50:07)"),
    ] {
        let expression: Expression = text.parse().expect(text);
        assert_eq!(expression.to_string(), printed);
        let stored = serde_json::to_string(&expression).expect("JSON");
        assert_eq!(serde_json::from_str::<Expression>(&stored).expect("reads"), expression);
    }
    let Ok(Expression::Rate(rate)) = "rate(2 hours)".parse() else { panic!("a rate") };
    assert_eq!(rate.period_ms(), 7_200_000);
}

fn field(first: u16, last: u16, step: bool) -> impl Strategy<Value = String> {
    let item = prop_oneof![
        3 => (first..=last).prop_map(|value| value.to_string()),
        1 => Just("*".to_owned()),
        1 => (first..=last, first..=last).prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other))),
    ];
    let steps = if step { 1_u16..=7 } else { 1..=1 };
    let stepped = (item, steps).prop_map(|(item, step)| if step == 1 { item } else { format!("{item}/{step}") });
    proptest::collection::vec(stepped, 1..3).prop_map(|items| items.join(","))
}

fn day_fields() -> impl Strategy<Value = String> {
    prop_oneof![
        field(1, 31, true).prop_map(|days| format!("{days} M ?")),
        (1_u16..=31).prop_map(|day| format!("{day}W M ?")),
        Just("L M ?".to_owned()),
        field(1, 7, false).prop_map(|days| format!("? M {days}")),
        (1_u16..=7).prop_map(|day| format!("? M {day}L")),
        (1_u16..=7, 1_u16..=5).prop_map(|(day, nth)| format!("? M {day}#{nth}")),
    ]
}

fn expressions() -> impl Strategy<Value = String> {
    (field(0, 59, true), field(0, 23, true), day_fields(), field(1, 12, true), field(2024, 2027, true)).prop_map(
        |(minutes, hours, days, month, year)| format!("{minutes} {hours} {} {year}", days.replace('M', &month)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Minute by minute, from any minute of four years, as far as a month goes.
    #[test]
    fn the_next_time_is_that_of_a_reference_that_asks_every_minute(text in expressions(), start in 0_i64..4 * 525_600) {
        let cron = cron(&text);
        let from = jiff::civil::date(2024, 1, 1).at(0, 0, 0, 0).checked_add(start.minutes()).expect("a time");
        let horizon = 45 * 1_440;
        let reference = (0..horizon).map(|minutes: i64| from.checked_add(minutes.minutes()).expect("a time")).find(|time| cron.says(*time));
        let next = cron.next_from(from);
        match reference {
            Some(time) => prop_assert_eq!(next, Some(time), "{}", text),
            None => {
                let end = from.checked_add(horizon.minutes()).expect("a time");
                prop_assert!(next.is_none_or(|next| next >= end && cron.says(next)), "{}: {:?}", text, next);
            }
        }
    }

    #[test]
    fn no_text_panics_and_what_is_read_prints_and_reads_again(text in "(cron|rate|at)?\\(?[0-9a-zA-Z*?#/, LW:-]{0,30}\\)?") {
        if let Ok(expression) = text.parse::<Expression>() {
            prop_assert_eq!(expression.to_string().parse(), Ok(expression));
        }
    }
}
