//! Prints `docs/task-definition-coverage.md` from what the core says of itself; `cargo run -p xtask -- coverage` writes it.

use longshore_core::task_definition::coverage::{MemberCoverage, MemberSupport, TABLE};

fn main() {
    let members = || TABLE.iter().flat_map(|shape| shape.members);
    let count = |wanted: fn(&MemberSupport) -> bool| members().filter(|member| wanted(&member.support)).count();
    println!("{INTRODUCTION}");
    println!(
        "Of {} members {} work, {} are built and could not be run, and {} are refused or parts of what is refused.",
        members().count(),
        count(|support| *support == MemberSupport::Works),
        count(|support| *support == MemberSupport::BuiltNotRun),
        count(|support| matches!(support, MemberSupport::Refused(_) | MemberSupport::PartOf(_))),
    );
    for shape in TABLE {
        println!("\n## {}\n\n| member | | |\n|---|---|---|", shape.shape);
        for member in shape.members {
            println!("| {} | {} | {} |", member.name, support(member), remarks(member));
        }
    }
}

fn support(member: &MemberCoverage) -> String {
    match member.support {
        MemberSupport::Works if member.refused_values.is_empty() => "works".to_owned(),
        MemberSupport::Works => "works, but".to_owned(),
        MemberSupport::BuiltNotRun => "built, not run here".to_owned(),
        MemberSupport::Refused(_) => "refused".to_owned(),
        MemberSupport::PartOf(whole) => format!("refused with `{whole}`"),
    }
}

fn remarks(member: &MemberCoverage) -> String {
    let mut remarks = Vec::new();
    if !member.note.is_empty() {
        remarks.push(member.note.to_owned());
    }
    if let MemberSupport::Refused(error) = member.support {
        remarks.push(error.to_owned());
    }
    remarks.extend(member.refused_values.iter().map(|value| format!("{} is refused: {}", value.what, value.error)));
    remarks.join("<br>")
}

const INTRODUCTION: &str = "\
# Task definitions, member by member

<!-- Written by `cargo run -p xtask -- coverage` from crates/core/src/task_definition/coverage: do not edit. -->

What becomes of every member of a task definition, and of the overrides of a task.

* **works**: it does what ECS documents, on our agent unless another is named. What needs a capability that not every
  instance has is asked for at placement: RunTask answers the failure `ATTRIBUTE` with the name of what is missing.
* **built, not run here**: it does, but could not be run on the machines that Longshore is built on. Unit tests and golden
  files hold it.
* **refused**: RegisterTaskDefinition answers `ClientException`, RunTask and StartTask `UnsupportedFeatureException`,
  with this message; `…` stands for what differs. What ECS itself refuses is not listed.

Nothing is accepted and ignored. That no member is missing here is checked when the core is compiled, and that what is
called refused is refused in these words is checked by its tests.
";
