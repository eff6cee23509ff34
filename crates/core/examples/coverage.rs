//! Prints `docs/api-coverage.md` from what the core says of itself; `cargo run -p xtask -- coverage` writes it.

use longshore_api::ecs::Operation;
use longshore_core::operations::{Support, support};

fn main() {
    let all = Operation::ALL.map(|operation| (operation, support(operation)));
    let count = |wanted: fn(&Support) -> bool| all.iter().filter(|(_, support)| wanted(support)).count();
    let full = count(|support| matches!(support, Support::Full));
    let partial = count(|support| matches!(support, Support::Partial(_)));
    println!("{INTRODUCTION}");
    println!(
        "Of {} operations {full} work as ECS documents them, {partial} with the deviations named here, and {} do not \
         work yet.\n",
        all.len(),
        all.len() - full - partial
    );
    println!("| operation | | deviations |\n|---|---|---|");
    for (operation, support) in all {
        let (works, deviations) = match support {
            Support::Full => ("works", String::new()),
            Support::Partial(deviations) => ("works, but", deviations.join("<br>")),
            Support::Later { with } => ("not yet", format!("comes with {}", with.name())),
        };
        println!("| {operation} | {works} | {deviations} |");
    }
    println!("\n{CONCLUSION}");
}

const INTRODUCTION: &str = "\
# The ECS API, operation by operation

<!-- Written by `cargo run -p xtask -- coverage` from crates/core/src/operations.rs: do not edit. -->

Longshore answers awsJson 1.1 requests of service `ecs` (`X-Amz-Target: AmazonEC2ContainerServiceV20141113.…`), and
one operation of another service:

| service | operation | |
|---|---|---|
| sts | GetCallerIdentity | works: awsQuery in, XML out, at the same address |

## Nothing is accepted and ignored

* An operation that does not work yet checks its request first: a missing member is named as it will be when the
  operation works. Then it answers `UnsupportedFeatureException` (400) with its own name.
* A member that is not obeyed yet is refused with `UnsupportedFeatureException` and the member's name;
  RegisterTaskDefinition says so with `ClientException`, the one code that ECS has for a definition that it does not take.
* Members that the service model does not have are ignored, and `null` means absent, as in ECS.
* Wrong JSON types are `SerializationException`, whatever the operation. A missing member, an unknown value of an enum,
  a length or a number out of bounds is `InvalidParameterException`, and `ClientException` for RegisterTaskDefinition,
  DescribeTaskDefinition, DeregisterTaskDefinition and what agents call.

`python -m conformance`, in `e2e/`, proves it over the wire: see [e2e/README.md](../e2e/README.md#conformance).

## Operations
";

const CONCLUSION: &str = "\
A unit test keeps the table true: what does not work yet is refused, and nothing else is. How far the rest works is
counted by the conformance runner, case by case, in `e2e/conformance/baseline.json`.";
