//! `xtask coverage`: the pages of `docs/` that are made from what the core says of itself.
//!
//! The core prints them (`crates/core/examples`), in a process of its own: chores must run even when the crates that
//! they generate code for do not compile.

use std::path::Path;
use std::process::Command;

use crate::Failure;

/// The pages, each with the example that prints it.
const PAGES: [(&str, &str); 2] =
    [("docs/api-coverage.md", "coverage"), ("docs/task-definition-coverage.md", "task_definition_coverage")];

/// Writes the pages.
pub(crate) fn write(root: &Path) -> Result<String, Failure> {
    for (page, example) in PAGES {
        let path = root.join(page);
        std::fs::write(&path, made(root, example)?).map_err(|cause| Failure::Write(path, cause))?;
    }
    Ok(format!("wrote {}", PAGES.map(|(page, _)| page).join(", ")))
}

/// What is wrong with the pages that lie there.
pub(crate) fn offences(root: &Path) -> Result<Vec<String>, Failure> {
    let mut offences = Vec::new();
    for (page, example) in PAGES {
        let found = std::fs::read_to_string(root.join(page)).unwrap_or_default();
        if found != made(root, example)? {
            offences.push(format!("{page} is stale: run `cargo run -p xtask -- coverage`"));
        }
    }
    Ok(offences)
}

fn made(root: &Path, example: &str) -> Result<String, Failure> {
    const WHAT: &str = "cargo run --example of longshore-core";
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["run", "--quiet", "--locked", "--package", "longshore-core", "--example", example])
        .current_dir(root)
        .output()
        .map_err(|cause| Failure::Run(WHAT, cause.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::Run(WHAT, said));
    }
    String::from_utf8(output.stdout).map_err(|cause| Failure::Run(WHAT, cause.to_string()))
}
