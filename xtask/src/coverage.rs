//! `xtask coverage`: `docs/api-coverage.md`, made from what the core says of itself.
//!
//! The core prints the page (`crates/core/examples/coverage.rs`), in a process of its own: chores must run even when
//! the crates that they generate code for do not compile.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

/// Writes the page.
pub(crate) fn write(root: &Path) -> Result<String, Failure> {
    let path = page(root);
    std::fs::write(&path, made(root)?).map_err(|cause| Failure::Write(path, cause))?;
    Ok("wrote docs/api-coverage.md".to_owned())
}

/// What is wrong with the page that lies there.
pub(crate) fn offences(root: &Path) -> Result<Vec<String>, Failure> {
    let path = page(root);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    Ok(match found == made(root)? {
        true => Vec::new(),
        false => vec!["docs/api-coverage.md is stale: run `cargo run -p xtask -- coverage`".to_owned()],
    })
}

fn page(root: &Path) -> PathBuf {
    root.join("docs").join("api-coverage.md")
}

fn made(root: &Path) -> Result<String, Failure> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["run", "--quiet", "--locked", "--package", "longshore-core", "--example", "coverage"])
        .current_dir(root)
        .output()
        .map_err(|cause| Failure::Run("cargo run --example coverage", cause.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::Run("cargo run --example coverage", said));
    }
    String::from_utf8(output.stdout).map_err(|cause| Failure::Run("cargo run --example coverage", cause.to_string()))
}
