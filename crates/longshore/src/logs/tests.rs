use longshore_api::admin::LogStream;

use super::print::tests::{line, printer, written};
use super::*;

/// A lane that tells this.
fn lane(pages: Vec<News>) -> Strand {
    let (sender, news) = mpsc::channel(pages.len().max(1));
    for page in pages {
        assert!(sender.try_send(page).is_ok());
    }
    Strand::new(news)
}

fn page(times: &[u32], caught_up: bool) -> News {
    let lines = times.iter().map(|time| line(*time, LogStream::Stdout, format!("{time}\n").as_bytes())).collect();
    News::Page { lines, caught_up }
}

async fn merged(strands: Vec<Strand>) -> (Vec<String>, Option<CliError>) {
    let mut printer = printer(Style::Text { timestamps: false }, &["a", "b"]);
    let failure = merge(strands, &mut printer).await.unwrap();
    let text = String::from_utf8(written(printer).out).unwrap();
    (text.lines().map(str::to_owned).collect(), failure)
}

#[tokio::test]
async fn what_was_printed_is_shown_in_the_order_of_its_times() {
    let one = lane(vec![page(&[1, 4], false), page(&[5, 9], true)]);
    let other = lane(vec![page(&[2, 3, 6], false), page(&[7], false), page(&[8], true)]);
    let (lines, failure) = merged(vec![one, other]).await;
    let times: Vec<u32> = lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(times, (1..=9).collect::<Vec<_>>());
    assert!(failure.is_none() && lines[0] == "a | 1" && lines[1] == "b | 2", "{lines:?}");
}

#[tokio::test]
async fn whoever_has_caught_up_holds_up_nobody() {
    let (_open, news) = mpsc::channel(1);
    let silent = Strand { caught_up: true, ..Strand::new(news) };
    let talking = lane(vec![page(&[1, 2], true)]);
    let mut printer = printer(Style::Text { timestamps: false }, &["a", "b"]);
    let merging = merge(vec![silent, talking], &mut printer);
    // The silent one never ends.
    assert!(tokio::time::timeout(Duration::from_millis(200), merging).await.is_err());
    assert_eq!(written(printer).out, b"b | 1\nb | 2\n");
}

#[tokio::test]
async fn a_container_that_fails_does_not_hide_the_others() {
    let failed = lane(vec![News::Failed(CliError::NoTask { given: "x".to_owned() })]);
    let (lines, failure) = merged(vec![failed, lane(vec![page(&[1], true)])]).await;
    assert_eq!(lines, ["b | 1"]);
    assert!(matches!(failure, Some(CliError::NoTask { .. })));
}

#[test]
fn a_container_that_the_task_does_not_have_is_named_with_those_it_has() {
    let container =
        |name: &str| longshore_api::ecs::types::Container { name: Some(name.to_owned()), ..Default::default() };
    let task = Task { containers: Some(vec![container("a"), container("b")]), ..Task::default() };
    assert_eq!(containers(&task, None).unwrap(), ["a", "b"]);
    assert_eq!(containers(&task, Some("b")).unwrap(), ["b"]);
    let error = containers(&task, Some("c")).unwrap_err().to_string();
    assert!(error.contains("a, b"), "{error}");
}
