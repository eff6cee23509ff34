//! Which images go, and which stay.

use std::collections::BTreeSet;

use longshore_api::Timestamp;

use crate::engine::image::*;

const HOUR: i64 = 3_600_000;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 * HOUR + hours * HOUR)
}

fn rules() -> CleanupRules {
    CleanupRules {
        minimum_age_ms: HOUR,
        images_per_round: 5,
        untracked: false,
        untracked_age_ms: HOUR,
        container_age_ms: 3 * HOUR,
        containers_per_round: 5,
        exclude: BTreeSet::new(),
    }
}

fn image(id: &str, tags: &[&str]) -> LocalImage {
    LocalImage {
        id: id.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        digests: vec![format!("{id}@sha256:00")],
        created_at: at(-10_000),
        size: 1,
    }
}

fn container(image_id: &str, running: bool, of_a_task: bool, created_at: Timestamp) -> LocalContainer {
    LocalContainer { id: format!("of-{image_id}"), image_id: image_id.to_owned(), created_at, running, of_a_task }
}

fn scene(images: &[LocalImage]) -> Scene {
    Scene { images: images.to_vec(), ..Scene::default() }
}

/// A book in which image `iN` was used under the name `wN:1`, N hours after the beginning.
fn book(images: i64) -> ImageBook {
    let mut book = ImageBook::default();
    for number in 0..images {
        book.used(&format!("i{number}"), &format!("w{number}:1"), true, at(number));
    }
    book
}

fn ids(removals: &[Removal]) -> Vec<&str> {
    removals.iter().map(|removal| removal.id.as_str()).collect()
}

fn local(count: i64) -> Vec<LocalImage> {
    (0..count).map(|number| image(&format!("i{number}"), &[&format!("w{number}:1")])).collect()
}

#[test]
fn the_least_recently_used_go_first_and_only_so_many_and_none_before_its_age() {
    let mut book = book(8);
    let images: Vec<LocalImage> = local(8).into_iter().rev().collect();
    let (_, gone) = book.round(&scene(&images), &rules(), at(7));
    assert_eq!(ids(&gone), ["i0", "i1", "i2", "i3", "i4"]);
    assert_eq!(gone[0].references, ["w0:1", "i0@sha256:00"], "what came by its digest has no tag of the same name");
    let (_, gone) = book.round(&scene(&images), &CleanupRules { images_per_round: 100, ..rules() }, at(7));
    assert_eq!(ids(&gone).len(), 7, "the one of this hour is too young");
    let (_, gone) = book.round(&scene(&images), &CleanupRules { minimum_age_ms: 6 * HOUR, ..rules() }, at(7));
    assert_eq!(ids(&gone), ["i0", "i1"]);
}

/// What keeps an image that is old enough.
#[test]
fn what_is_in_use_or_not_ours_to_remove_stays() {
    let old = || scene(&local(1));
    let mut tagged_by_others = old();
    tagged_by_others.images[0].tags.push("backup:1".to_owned());
    let mut built_here = old();
    built_here.images[0].digests.clear();
    let mut running = old();
    running.containers.push(container("i0", true, true, at(0)));
    let mut exited = old();
    exited.containers.push(container("i0", false, false, at(0)));
    let mut waiting = old();
    waiting.wanted.insert("docker.io/library/w0:1".to_owned());
    let mut by_digest = old();
    by_digest.wanted.insert("i0@sha256:00".to_owned());
    let excluded = CleanupRules { exclude: BTreeSet::from(["w0:1".to_owned()]), ..rules() };
    for (what, scene, rules) in [
        ("a tag of somebody else", tagged_by_others, rules()),
        ("no registry to give it back", built_here, rules()),
        ("a running container", running, rules()),
        ("a stopped container of somebody else", exited, rules()),
        ("a task that waits to be run", waiting, rules()),
        ("a task that names it by its digest", by_digest, rules()),
        ("an exclusion", old(), excluded),
        ("nobody's task used it", Scene { images: vec![image("x", &["x:1"])], ..Scene::default() }, rules()),
    ] {
        assert_eq!(book(1).round(&scene, &rules, at(50)).1, [], "{what}");
    }
    assert_eq!(ids(&book(1).round(&old(), &rules(), at(50)).1), ["i0"], "and without any of this it goes");
}

#[test]
fn an_image_ages_from_the_end_of_its_last_use() {
    let mut book = book(1);
    let mut used = scene(&local(1));
    used.containers.push(container("i0", true, true, at(0)));
    let (changes, gone) = book.round(&used, &rules(), at(50));
    assert_eq!((changes.len(), gone.len()), (1, 0), "that it was in use is saved");
    let idle = scene(&local(1));
    assert_eq!(book.round(&idle, &rules(), at(50).plus_millis(HOUR - 1)).1, []);
    assert_eq!(ids(&book.round(&idle, &rules(), at(51)).1), ["i0"]);
}

#[test]
fn a_use_between_the_decision_and_the_removal_keeps_the_image() {
    let mut book = book(1);
    let (_, gone) = book.round(&scene(&local(1)), &rules(), at(5));
    assert!(book.may_go(&gone[0]));
    book.used("i0", "w0:1", false, at(5).plus_millis(1));
    assert!(!book.may_go(&gone[0]));
}

#[test]
fn a_tag_that_moves_on_leaves_the_old_image_without_a_name() {
    let mut book = ImageBook::default();
    book.used("old", "web:1", true, at(0));
    let changes = book.used("new", "web:1", true, at(1));
    assert_eq!(changes.len(), 2);
    assert!(book.was_pulled("new", "web:1") && !book.was_pulled("old", "web:1"));
    let (_, gone) = book.round(&scene(&[image("old", &[]), image("new", &["web:1"])]), &rules(), at(2));
    assert_eq!(ids(&gone), ["old", "new"]);
    assert_eq!(gone[0].references, ["old"], "one without a tag goes by its id");
}

#[test]
fn what_was_saved_is_known_after_a_restart() {
    let mut saved = std::collections::BTreeMap::new();
    let mut before = book(2);
    for change in before.used("i1", "w1:1", false, at(3)).into_iter().chain(book(2).clock_set(0)) {
        let ImageChange::Put { id, record } = change else { panic!("dropped") };
        saved.entry(id).or_insert(record);
    }
    saved.insert("damaged".to_owned(), b"{".to_vec());
    let mut after = ImageBook::restored(&saved, at(3));
    assert!(after.was_pulled("i0", "w0:1"));
    let (_, gone) = after.round(&scene(&local(2)), &rules(), at(3));
    assert_eq!(ids(&gone), ["i0"]);
    // A clock that was ahead then must not keep an image for ever.
    let mut after = ImageBook::restored(&saved, at(-1_000));
    assert_eq!(ids(&after.round(&scene(&local(2)), &rules(), at(-999)).1).len(), 2);
}

#[test]
fn an_image_that_was_cleaned_up_was_never_pulled() {
    let mut book = book(2);
    assert_eq!(book.removed("i0"), Some(ImageChange::Drop { id: "i0".to_owned() }));
    assert!(!book.was_pulled("i0", "w0:1"));
    // Nor was one that somebody else removed.
    let (changes, _) = book.round(&scene(&[]), &rules(), at(0));
    assert_eq!(changes, [ImageChange::Drop { id: "i1".to_owned() }]);
}

#[test]
fn a_clock_that_jumps_makes_nothing_older_or_younger() {
    for jump in [100 * HOUR, -100 * HOUR] {
        let mut book = book(1);
        let now = at(0).plus_millis(HOUR - 1 + jump);
        assert_eq!(book.clock_set(jump).len(), 1);
        assert_eq!(book.round(&scene(&local(1)), &rules(), now).1, [], "{jump}");
        assert_eq!(book.round(&scene(&local(1)), &rules(), now.plus_millis(1)).1.len(), 1, "{jump}");
    }
}

#[test]
fn strangers_go_only_on_demand_after_their_age_and_within_the_same_limit() {
    let mut images = local(4);
    for (number, size) in [(1, 30), (2, 10), (3, 20)] {
        images[number].size = size;
    }
    let scene = scene(&images);
    let on_demand = CleanupRules { untracked: true, images_per_round: 3, ..rules() };
    let mut book = book(1);
    assert_eq!(ids(&book.round(&scene, &on_demand, at(10)).1), ["i0"], "strangers are as old as our knowledge of them");
    let (_, gone) = book.round(&scene, &on_demand, at(11));
    assert_eq!(ids(&gone), ["i0", "i2", "i3"]);
    assert!(gone.iter().all(|removal| book.may_go(removal)));
    book.used("i2", "w2:1", false, at(11));
    assert!(!book.may_go(&gone[1]), "it is a stranger no more");
}

#[test]
fn foreign_containers_go_if_they_are_stopped_old_and_nobodys_task() {
    let containers = [
        container("young", false, false, at(8)),
        container("second", false, false, at(5)),
        container("running", true, false, at(0)),
        container("of-another-agent", false, true, at(0)),
        container("first", false, false, at(1)),
    ];
    let scene = Scene { containers: containers.to_vec(), ..Scene::default() };
    let due: Vec<&str> = foreign_containers(&scene, &rules(), at(10)).iter().map(|due| due.image_id.as_str()).collect();
    assert_eq!(due, ["first", "second"]);
}
