use std::collections::BTreeMap;

use longshore_api::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::limits;

/// An instance to try expressions on.
#[derive(Default)]
struct Machine {
    attributes: BTreeMap<&'static str, Option<&'static str>>,
    connected: bool,
    version: Option<&'static str>,
    ec2: Option<&'static str>,
    registered_at: Timestamp,
    running: u32,
    groups: Vec<&'static str>,
}

impl Facts for Machine {
    fn attribute(&self, name: &str) -> Option<Option<&str>> {
        self.attributes.get(name).copied()
    }

    fn agent_connected(&self) -> bool {
        self.connected
    }

    fn agent_version(&self) -> Option<&str> {
        self.version
    }

    fn ec2_instance_id(&self) -> Option<&str> {
        self.ec2
    }

    fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    fn running_tasks(&self) -> u32 {
        self.running
    }

    fn any_task_group(&self, passes: &mut dyn FnMut(&str) -> bool) -> bool {
        self.groups.iter().any(|group| passes(group))
    }
}

/// Registered at 2018-06-18T22:28:28.750Z.
fn machine() -> Machine {
    Machine {
        attributes: BTreeMap::from([
            ("ecs.instance-type", Some("t2.small")),
            ("ecs.availability-zone", Some("us-east-1a")),
            ("com.amazonaws.ecs.capability.docker-remote-api.1.24", None),
            ("rack", Some("7")),
            ("owner", Some("team blue, (night)")),
        ]),
        connected: true,
        version: Some("1.14.5"),
        ec2: Some("i-abcd1234"),
        registered_at: Timestamp::from_millis(1_529_360_908_750),
        running: 1,
        groups: vec!["family:web", "service:production"],
    }
}

fn holds(text: &str, machine: &Machine) -> bool {
    let query: Query = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    query.matches(machine)
}

/// Each expression is true of the machine, and its negation is not.
fn check(machine: &Machine, expressions: &[&str]) {
    for text in expressions {
        assert!(holds(text, machine), "{text}");
        assert!(!holds(&format!("not({text})"), machine), "not({text})");
        assert!(!holds(&format!("!({text})"), machine), "!({text})");
    }
}

#[test]
fn the_examples_of_the_documentation_hold() {
    check(
        &machine(),
        &[
            "attribute:ecs.instance-type == t2.small",
            "attribute:ecs.availability-zone in [us-east-1a, us-east-1b]",
            "attribute:ecs.instance-type =~ t2.* and attribute:ecs.availability-zone != us-east-1d",
            "task:group == service:production",
            "not(task:group == database)",
            "runningTasksCount == 1",
            "agentVersion < 1.14.6",
            "registeredAt < 2019-02-13",
            "ec2InstanceId in ['i-abcd1234', 'i-wxyx7890']",
            "(attribute:rack == 1 or attribute:rack == 7) and agentConnected == true",
        ],
    );
}

#[test]
fn every_operator_has_a_sign_and_a_word() {
    check(
        &machine(),
        &[
            "attribute:rack==7",
            "attribute:rack equals 7",
            "attribute:rack!=8",
            "attribute:rack not_equals 8",
            "attribute:rack>6",
            "attribute:rack greater_than 6",
            "attribute:rack>=7",
            "attribute:rack greater_than_equal 7",
            "attribute:rack<8",
            "attribute:rack less_than 8",
            "attribute:rack<=7",
            "attribute:rack less_than_equal 7",
            "attribute:rack exists",
            "attribute:shelf !exists",
            "attribute:shelf not_exists",
            "attribute:rack in [6,7]",
            "attribute:rack !in [5, 6]",
            "attribute:rack not_in [5]",
            "attribute:rack=~[0-9]",
            "attribute:rack matches \\d",
            "attribute:rack!~[a-z]",
            "attribute:rack not_matches [a-z]",
            "attribute:rack == 7 && attribute:rack == 7",
            "attribute:rack == 8||attribute:rack==7",
            "!attribute:rack == 8",
            "not attribute:rack == 8",
            "not not attribute:rack == 7",
        ],
    );
}

#[test]
fn not_binds_first_then_and_then_or() {
    let (yes, no) = ("attribute:rack == 7", "attribute:rack == 8");
    check(
        &machine(),
        &[
            &format!("{yes} or {yes} and {no}"),
            &format!("{no} and {no} or {yes}"),
            &format!("not {no} and {yes}"),
            &format!("not {no} or {no}"),
            &format!("not ({no} and {yes})"),
        ],
    );
    assert!(!holds(&format!("({yes} or {yes}) and {no}"), &machine()));
}

#[test]
fn attributes_compare_as_numbers_where_both_are() {
    check(
        &machine(),
        &[
            "attribute:rack < 10",
            "attribute:rack >= 7.0",
            "attribute:ecs.instance-type > t1.large",
            "attribute:ecs.availability-zone < us-east-1b",
            "attribute:rack != 7.0",
        ],
    );
}

#[test]
fn what_is_not_there_satisfies_negative_conditions_only() {
    let capability = "attribute:com.amazonaws.ecs.capability.docker-remote-api.1.24";
    check(
        &machine(),
        &[
            "attribute:shelf != 7",
            "attribute:shelf not_in [7]",
            "attribute:shelf !~ .*",
            "not(attribute:shelf > 1)",
            "not(attribute:shelf =~ .*)",
            &format!("{capability} exists"),
            &format!("not({capability} =~ .*)"),
        ],
    );
    let nameless = Machine::default();
    check(
        &nameless,
        &["agentVersion != 1.0.0", "not(agentVersion < 9)", "ec2InstanceId !~ i-.*", "task:group !exists"],
    );
}

#[test]
fn groups_are_those_of_any_task() {
    check(
        &machine(),
        &[
            "task:group exists",
            "task:group in [a, family:web]",
            "task:group =~ service:.*",
            "task:group != database",
            "not(task:group != family:web)",
            "task:group !in [a, b]",
        ],
    );
}

#[test]
fn dates_versions_and_states_are_compared_as_what_they_are() {
    check(
        &machine(),
        &[
            "registeredAt == 2018-06-18T22:28:28Z",
            "registeredAt == 2018-06-19T00:28:28+02:00",
            "registeredAt > 2018-06-18",
            "registeredAt <= 2018-06-18T22:28:28",
            "registeredAt != 2018-06-18",
            "agentVersion >= 1.9.9",
            "agentVersion == 1.14.5.0",
            "agentVersion > 1.14.5-rc1",
            "runningTasksCount >= 0",
            "agentConnected in [true]",
            "agentConnected !in [false]",
            "agentConnected =~ t.*",
            "ec2InstanceId =~ i-[0-9a-f]+",
        ],
    );
}

#[test]
fn patterns_are_tried_on_the_whole_value_and_quotes_keep_what_would_end_an_argument() {
    check(
        &machine(),
        &[
            "attribute:ecs.instance-type !~ t2",
            "attribute:ecs.instance-type =~ '(t2|t3)[.](small|large)'",
            "attribute:ecs.instance-type =~ \"(?i)T2.+\"",
            "attribute:ecs.instance-type =~ 't[0-9&&[^3-9]].small'",
            "attribute:owner == 'team blue, (night)'",
            "attribute:owner in ['a', \"team blue, (night)\"]",
            "attribute:ecs.instance-type =~ t2|t2.small",
        ],
    );
}

#[test]
fn malformed_expressions_are_refused_with_their_position() {
    for (text, at, word) in [
        ("", 1, "expected a subject, found the end"),
        ("   ", 4, "expected a subject"),
        ("runningTasksCount", 18, "expected an operator"),
        ("attribute:rack = 7", 16, "expected an operator, found '='"),
        ("attribute:rack ==", 18, "expected an argument"),
        ("attribute:rack == 7 attribute:rack == 8", 21, "expected and, or, or the end"),
        ("attribute:owner == team blue", 25, "found 'blue'"),
        ("attribute:rack == 7 and", 24, "expected a subject"),
        ("(attribute:rack == 7", 21, "closing parenthesis"),
        ("attribute:rack == 7)", 20, "the end, found ')'"),
        ("size == 7", 1, "'size' is no subject"),
        ("attribute: == 7", 11, "no attribute's name"),
        ("attribute:a:b == 7", 11, "no attribute's name"),
        ("attribute:räck == 7", 11, "no attribute's name"),
        ("attribute:rack in 7", 19, "expected a list"),
        ("attribute:rack in []", 20, "expected an argument"),
        ("attribute:rack in [7,]", 22, "expected an argument"),
        ("attribute:rack in [7", 21, "expected a comma"),
        ("attribute:rack in [7 8]", 22, "expected a comma"),
        ("attribute:rack == '7", 19, "does not end"),
        ("attribute:rack == ''", 19, "cannot be empty"),
        ("attribute:rack == it's", 21, "a quote must be quoted"),
        ("attribute:rack =~ (a|b)", 19, "a parenthesis must be quoted"),
        ("attribute:rack exists 7", 23, "expected and, or, or the end"),
        ("agentConnected > true", 16, "agentConnected cannot be compared with '>'"),
        ("agentConnected == yes", 19, "'yes' must be true or false"),
        ("agentVersion =~ 1.*", 14, "agentVersion cannot be compared with '=~'"),
        ("agentVersion == latest", 17, "must be a version"),
        ("ec2InstanceId exists", 15, "cannot be compared with 'exists'"),
        ("registeredAt < yesterday", 16, "must be a date"),
        ("runningTasksCount < 1.5", 21, "must be a whole number"),
        ("attribute:größe == 1 or x == 'ä' and attribute:y == 1", 11, "no attribute's name"),
        ("attribute:x == 'ä' and y == 1", 24, "'y' is no subject"),
    ] {
        let error = text.parse::<Query>().expect_err(text);
        assert!(error.to_string().contains(word), "{text}: {error}");
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.to_string().ends_with(&format!("(at character {at})")), "{error}");
    }
}

#[test]
fn patterns_that_mean_something_else_to_this_engine_are_refused_by_name() {
    for (pattern, at, word) in [
        ("'a(?=b)'", 21, "look-around"),
        ("'a(?<!b)'", 21, "look-around"),
        ("'(a)\\1'", 23, "back-references"),
        ("'(?>ab)'", 22, "an atomic group"),
        ("ab*+c", 22, "possessive"),
        ("a{2}{3}", 23, "possessive"),
        ("\\p{Alpha}", 19, "Unicode properties"),
        ("[a\\p{L}]", 21, "Unicode properties"),
        ("[[:alpha:]]", 20, "[:alpha:]"),
        ("[a-z--b]", 20, "--"),
        ("\\Qa\\E", 19, "an escape"),
        ("'(?x)a #'", 22, "a flag other"),
        ("'(?U)a*'", 22, "a flag other"),
        ("[a", 19, "not valid"),
        ("'a)(b'", 21, "not valid"),
    ] {
        let text = format!("attribute:rack =~ {pattern}");
        let error = text.parse::<Query>().expect_err(&text);
        assert!(error.to_string().contains(word), "{text}: {error}");
        assert_eq!(error.at, at, "{text}: {error}");
    }
    let error = "attribute:rack =~ '(.{100}){100}'".parse::<Query>().expect_err("too large");
    assert_eq!(error.problem, Problem::PatternTooLarge);
}

#[test]
fn expressions_are_bounded() {
    let refused = |text: &str| text.parse::<Query>().expect_err("refused").problem;
    let longest = format!("attribute:a == {}", "b".repeat(limits::QUERY - 15));
    assert!(longest.parse::<Query>().is_ok());
    assert_eq!(refused(&format!("{longest}b")), Problem::TooLong);
    let nested = |depth: usize| format!("{}runningTasksCount == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(limits::QUERY_DEPTH - 1).parse::<Query>().is_ok());
    assert_eq!(refused(&nested(limits::QUERY_DEPTH)), Problem::TooDeep);
    assert_eq!(refused(&"!".repeat(limits::QUERY_DEPTH + 1)), Problem::TooDeep);
    let list = |length: usize| format!("attribute:a in [{}]", vec!["b"; length].join(","));
    assert!(list(limits::QUERY_LIST).parse::<Query>().is_ok());
    assert_eq!(refused(&list(limits::QUERY_LIST + 1)), Problem::TooManyArguments);
    let patterns = |count: usize| vec!["attribute:a =~ b"; count].join(" or ");
    assert!(patterns(limits::QUERY_PATTERNS).parse::<Query>().is_ok());
    assert_eq!(refused(&patterns(limits::QUERY_PATTERNS + 1)), Problem::TooManyPatterns);
}

#[test]
fn an_expression_is_printed_with_no_more_quotes_and_parentheses_than_it_needs() {
    for (text, printed) in [
        ("attribute:a equals 'b'", "attribute:a == b"),
        ("attribute:a not_in ['b','c d']", "attribute:a !in [b, 'c d']"),
        ("! attribute:a exists", "not(attribute:a exists)"),
        ("((attribute:a exists))", "attribute:a exists"),
        (
            "attribute:a exists && (attribute:b exists || attribute:c !exists)",
            "attribute:a exists and (attribute:b exists or attribute:c !exists)",
        ),
        ("attribute:a =~ \"it's\"", "attribute:a =~ \"it's\""),
        ("attribute:a == 'x&&y'", "attribute:a == 'x&&y'"),
    ] {
        let expression: Expression = text.parse().expect(text);
        assert_eq!(expression.to_string(), printed);
    }
}

fn argument() -> impl Strategy<Value = Argument> {
    let text = prop_oneof!["[a-z0-9.:*|&\\[\\],() ä-]{1,12}", "[a-z '\u{a0}]{1,6}", "[a-z \"]{1,6}", "and|or|not|in"];
    text.prop_map(|text| Argument { text: text.into(), at: 0 })
}

fn test() -> impl Strategy<Value = Test> {
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Greater,
        Comparison::GreaterEqual,
        Comparison::Less,
        Comparison::LessEqual,
    ]);
    prop_oneof![
        (comparison, argument()).prop_map(|(comparison, argument)| Test::Compare(comparison, argument)),
        any::<bool>().prop_map(|negated| Test::Exists { negated }),
        (any::<bool>(), vec(argument(), 1..4)).prop_map(|(negated, arguments)| Test::In { negated, arguments }),
        (any::<bool>(), argument()).prop_map(|(negated, pattern)| Test::Matches { negated, pattern }),
    ]
}

fn condition() -> impl Strategy<Value = Expression> {
    let subject = prop_oneof![
        "[a-zA-Z0-9._/\\\\-]{1,10}".prop_map(|name| Subject::Attribute(name.into())),
        prop::sample::select(vec![
            Subject::AgentConnected,
            Subject::AgentVersion,
            Subject::Ec2InstanceId,
            Subject::RegisteredAt,
            Subject::RunningTasksCount,
            Subject::TaskGroup,
        ]),
    ];
    (subject, test()).prop_map(|(subject, test)| Expression::Is(Condition { subject, test, at: 0 }))
}

fn expression() -> impl Strategy<Value = Expression> {
    condition().prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(Expression::All),
            vec(inner.clone(), 2..4).prop_map(Expression::Any),
            inner.prop_map(|negated| Expression::Not(Box::new(negated))),
        ]
    })
}

/// Text that looks like an expression more often than chance would have it.
fn scribble() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "attribute:a",
            "task:group",
            "registeredAt",
            "agentVersion",
            "==",
            "=~",
            "!~",
            " in ",
            "[",
            "]",
            "(",
            ")",
            ",",
            "'",
            "\"",
            " and ",
            "&&",
            "||",
            "!",
            " not ",
            "exists",
            "2018-06-18",
            "1.2",
            "\\d",
            "(?i)",
            "{9}",
            "*",
            "é",
            " ",
        ])
        .prop_map(str::to_owned),
        ".{0,4}",
    ];
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same(expression in expression()) {
        let text = expression.to_string();
        prop_assume!(text.chars().count() <= limits::QUERY);
        let read: Expression = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        prop_assert_eq!(&read, &expression, "{}", text);
        prop_assert_eq!(read.to_string(), text);
    }

    #[test]
    fn no_text_makes_it_panic_and_every_refusal_has_a_place_in_it(text in scribble()) {
        let length = text.chars().count();
        match text.parse::<Query>() {
            Ok(query) => drop(query.matches(&machine())),
            Err(error) => prop_assert!((1..=length + 1).contains(&error.at), "{} {}", error, text),
        }
    }

    #[test]
    fn a_condition_and_its_negation_never_agree(expression in condition()) {
        let Ok(query) = expression.compile() else { return Ok(()) };
        let negated = Expression::Not(Box::new(expression)).compile().expect("as good as what it negates");
        prop_assert_ne!(query.matches(&machine()), negated.matches(&machine()));
    }
}
