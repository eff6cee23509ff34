//! `xtask tidy`: the house rules that no compiler checks.
//!
//! Sizes and unfinished business are found in the text; the invariants of absence ("the core knows
//! no IO") in cargo's own dependency tree, so that no indirect way in is overlooked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, coverage};

/// A file longer than this is two files.
const MAX_LINES: usize = 800;

/// Folders that hold what we did not write by hand.
const SKIPPED: &[&str] = &["target", "generated", ".git", ".venv", "node_modules", "__pycache__", ".pytest_cache"];

/// Kinds of files with code in them.
const CODE: &[&str] = &["rs", "py", "sh"];

/// Words that mean "not done", or that lead outside the repository. Written in halves, so that
/// this file does not accuse itself.
const UNWANTED: &[(&str, &str)] = &[
    (concat!("to", "do!"), "build it, or answer an error that says it is not there"),
    (concat!("unimple", "mented!"), "build it, or answer an error that says it is not there"),
    (concat!("TO", "DO"), "do it or file an issue"),
    (concat!("FIX", "ME"), "do it or file an issue"),
    (concat!("XX", "X"), "do it or file an issue"),
    (concat!("/wo", "rk/"), "a path of one machine"),
];

/// What must not be in a crate's dependency tree.
struct Absence {
    package: &'static str,
    banned: &'static [&'static str],
    reason: &'static str,
}

const IO: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "hyper",
    "axum",
    "bollard",
    "async-std",
    "smol",
    "rustix",
    "nix",
    "fjall",
    "redb",
    "rand",
    "getrandom",
    "aws-lc-rs",
    "tracing",
    "chrono",
];

/// A feature that a crate of ours must not ask of another.
struct Restraint {
    package: &'static str,
    /// As `cargo tree` prints it.
    feature: &'static str,
    reason: &'static str,
}

const RESTRAINTS: &[Restraint] = &[
    Restraint {
        package: "longshore-core",
        feature: "jiff feature \"std\"",
        reason: "with it jiff reads the clock and the system's time zones; the core knows calendars alone",
    },
    Restraint {
        package: "longshore-core",
        feature: "jiff feature \"js\"",
        reason: "with it jiff reads the clock; the core knows calendars alone",
    },
];

const ABSENCES: &[Absence] = &[
    Absence {
        package: "longshore-core",
        banned: IO,
        reason: "the cell does no IO, reads no clock and draws no numbers",
    },
    Absence {
        package: "longshore-core",
        banned: &["longshore-store", "longshore-server", "longshore-agent", "longshore-wire"],
        reason: "the cell knows no shell",
    },
    Absence {
        package: "longshore-api",
        banned: &["jiff"],
        reason: "times are numbers there: calendars are for others",
    },
    Absence { package: "longshore-api", banned: IO, reason: "the types say what a request is, not how it travels" },
    Absence { package: "longshore-agent-protocol", banned: IO, reason: "messages, not sessions" },
    Absence {
        package: "longshore-wire",
        banned: &["tokio", "mio", "socket2", "hyper", "axum"],
        reason: "protocols work on bytes, whoever carries them",
    },
    Absence {
        package: "longshore-store",
        banned: &["longshore-api", "longshore-core", "longshore-server", "longshore-agent"],
        reason: "the store keeps bytes under keys and knows no nouns",
    },
    Absence {
        package: "longshore-client",
        banned: &["longshore-agent", "longshore-server", "longshore-core", "longshore-store", "ring", "openssl"],
        reason: "a caller knows the API's types and the wire, and TLS has one provider",
    },
    Absence {
        package: "longshore-server",
        banned: &["longshore-agent", "bollard"],
        reason: "server and agent meet in the protocol and in the binary only",
    },
    Absence {
        package: "longshore-agent",
        banned: &["longshore-server", "longshore-core", "longshore-store"],
        reason: "server and agent meet in the protocol and in the binary only",
    },
];

/// Checks all rules; the failure lists every offence.
pub(crate) fn run(root: &Path) -> Result<String, Failure> {
    let mut files = Vec::new();
    walk(root, &mut files)?;
    let mut offences = Vec::new();
    for path in &files {
        let text = std::fs::read_to_string(path).map_err(|cause| Failure::Read(path.clone(), cause))?;
        let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
        offences.extend(in_text(&text).into_iter().map(|offence| format!("{shown}: {offence}")));
    }
    offences.extend(crate_docs(root)?);
    offences.extend(coverage::offences(root)?);
    for absence in ABSENCES {
        let tree = dependencies(root, absence.package)?;
        for found in absence.banned.iter().filter(|name| tree.contains(**name)) {
            offences.push(format!("{} depends on {found}: {}", absence.package, absence.reason));
        }
    }
    for restraint in RESTRAINTS {
        if features(root, restraint.package)?.contains(restraint.feature) {
            offences.push(format!("{} has {}: {}", restraint.package, restraint.feature, restraint.reason));
        }
    }
    if offences.is_empty() {
        return Ok(format!("tidy: {} files", files.len()));
    }
    Err(Failure::Untidy(offences.join("\n")))
}

/// What is wrong with one file of code.
fn in_text(text: &str) -> Vec<String> {
    let mut offences = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        offences.push(format!("{lines} lines, at most {MAX_LINES}: split it"));
    }
    for (number, line) in text.lines().enumerate() {
        for (word, advice) in UNWANTED.iter().filter(|(word, _)| has_word(line, word)) {
            offences.push(format!("{}: {word}: {advice}", number + 1));
        }
    }
    offences
}

/// Whether `word` stands in `line` by itself: `XXXXXX` of a mktemp pattern is another word.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    let open_end = !word.ends_with(joins);
    line.match_indices(word).any(|(start, found)| {
        let before = line[..start].chars().next_back();
        let after = line[start + found.len()..].chars().next();
        !before.is_some_and(joins) && (open_end || !after.is_some_and(joins))
    })
}

/// Each package begins by saying what it is for.
fn crate_docs(root: &Path) -> Result<Vec<String>, Failure> {
    let mut packages = vec![root.join("xtask"), root.join("bench")];
    packages.extend(entries(&root.join("crates"))?);
    let mut offences = Vec::new();
    for package in packages.into_iter().filter(|package| package.join("Cargo.toml").exists()) {
        let roots = ["src/lib.rs", "src/main.rs"].map(|name| package.join(name));
        for path in roots.iter().filter(|path| path.exists()) {
            let text = std::fs::read_to_string(path).map_err(|cause| Failure::Read(path.clone(), cause))?;
            let first = text.lines().next().unwrap_or_default();
            if !first.starts_with("//! ") || text.starts_with("//! placeholder") {
                let shown = path.strip_prefix(root).unwrap_or(path).display();
                offences
                    .push(format!("{shown}: begin with `//!`: what it is for, what it must not know, where to read"));
            }
        }
    }
    Ok(offences)
}

/// The names in the normal dependency tree of a package, itself left out.
fn dependencies(root: &Path, package: &str) -> Result<BTreeSet<String>, Failure> {
    let text = tree(root, package, "normal")?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| *name != package).map(str::to_owned).collect())
}

/// The features that a package, built alone, asks of what it depends on: lines of `cargo tree`.
fn features(root: &Path, package: &str) -> Result<BTreeSet<String>, Failure> {
    Ok(tree(root, package, "normal,features")?.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect())
}

fn tree(root: &Path, package: &str, edges: &str) -> Result<String, Failure> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["tree", "--offline", "--package", package, "--edges", edges, "--prefix", "none", "--format", "{p}"])
        .current_dir(root)
        .output()
        .map_err(|cause| Failure::Run("cargo tree", cause.to_string()))?;
    if !output.status.success() {
        return Err(Failure::Run("cargo tree", String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| CODE.iter().any(|code| extension == *code)) {
            files.push(path);
        }
    }
    Ok(())
}

/// The entries of a folder, in the order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failure = |cause| Failure::Read(folder.to_owned(), cause);
    let found: Result<Vec<PathBuf>, std::io::Error> =
        std::fs::read_dir(folder).map_err(failure)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut found = found.map_err(failure)?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwanted_words_are_found_as_words() {
        for (word, _) in UNWANTED {
            assert_eq!(in_text(&format!("fine\n  {word} ()")).len(), 1, "{word}");
        }
        assert!(in_text("mktemp /tmp/dir.XXXXXX").is_empty());
        assert!(in_text(concat!("mas", "TO", "DON")).is_empty());
    }

    #[test]
    fn long_files_are_found() {
        assert!(in_text(&"x\n".repeat(MAX_LINES)).is_empty());
        assert_eq!(in_text(&"x\n".repeat(MAX_LINES + 1)).len(), 1);
    }

    #[test]
    fn the_tree_of_a_package_lists_what_it_uses_indirectly() {
        let tree = dependencies(&crate::root(), "longshore-api").expect("cargo knows the package");
        assert!(tree.contains("serde_json") && tree.contains("itoa"), "{tree:?}");
        assert!(!tree.contains("longshore-api") && !tree.contains("proptest"), "{tree:?}");
    }

    #[test]
    fn the_features_that_a_package_asks_for_are_listed() {
        let asked = features(&crate::root(), "longshore-core").expect("cargo knows the package");
        assert!(asked.contains("jiff feature \"tzdb-bundle-always\""), "{asked:?}");
        let asked = features(&crate::root(), "longshore-server").expect("cargo knows the package");
        assert!(asked.contains("jiff feature \"std\""), "{asked:?}");
    }
}
