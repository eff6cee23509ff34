//! `longshore store check`.

use std::path::Path;

use longshore_store::check::{self, Report};
use serde_json::json;

use super::examination::{Examination, Findings};
use super::{Refusal, store_of};
use crate::cli::{CheckArgs, Format};
use crate::error::CliError;
use crate::output::{self, Output, print_json};
use crate::table::Table;

/// Reads everything, and says what it is, or what is wrong with it.
pub(super) fn check(args: &CheckArgs) -> Result<(), CliError> {
    let (data_dir, store) = store_of(&args.data_dir)?;
    let mut output = Output::new();
    let mut examination = Examination::new();
    let report = check::check(&store, &mut |key, value| examination.record(key, value))?;
    let findings = match report.damage.is_empty() {
        true => examination.finish(report.number),
        // What is missing would look like contradictions.
        false => Findings::default(),
    };
    let damage = report.damage.iter().map(|damage| {
        let file = short(&damage.file, &store);
        format!("{file} at byte {}: {}; lost: {}", damage.offset, damage.detail, damage.lost)
    });
    let problems: Vec<String> = damage.chain(findings.problems().cloned()).collect();
    match args.output.output {
        Format::Json => print_json(&in_json(&report, &findings, &store))?,
        Format::Table => tell(&output, &report, &store)?,
    }
    if !problems.is_empty() {
        let data_dir = data_dir.path().to_owned();
        return Err(Refusal::Damaged { data_dir, problems: problems.join("\n  ") }.into());
    }
    if args.output.output == Format::Table {
        output.tick(format_args!("the store is whole up to commit {}: {}", report.number, findings.counts()));
    }
    Ok(())
}

fn tell(output: &Output, report: &Report, store: &Path) -> Result<(), CliError> {
    let mut table = Table::new(["FILE", "BYTES", "RECORDS"]);
    for file in &report.files {
        table.row([short(&file.file, store), file.bytes.to_string(), file.records.to_string()]);
    }
    output::print(&table.text())?;
    if let Some(format) = report.format {
        output.note(format_args!("format {format}, {} entities in {} bytes", report.entities, report.bytes));
    }
    if let Some(holder) = report.in_use {
        let who = holder.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        output.note(format_args!("a server uses it{who}: this is how it was a moment ago"));
    }
    if let Some(torn) = &report.torn {
        output.note(format_args!(
            "{} bytes of {} from byte {} were being written when the machine stopped; nobody was promised them, and the \
             next start cuts them off",
            torn.bytes,
            short(&torn.file, store),
            torn.offset
        ));
    }
    for leftover in &report.leftovers {
        output.note(format_args!(
            "{} was left by a crash and counts for nothing; the next start removes it",
            short(leftover, store)
        ));
    }
    Ok(())
}

fn in_json(report: &Report, findings: &Findings, store: &Path) -> serde_json::Value {
    let files = report
        .files
        .iter()
        .map(|file| json!({ "file": short(&file.file, store), "bytes": file.bytes, "records": file.records }));
    let damage = report.damage.iter().map(|damage| {
        json!({
            "file": short(&damage.file, store), "offset": damage.offset, "detail": damage.detail, "lost": damage.lost,
        })
    });
    json!({
        "healthy": report.damage.is_empty() && findings.problems().next().is_none(),
        "store": store,
        "format": report.format,
        "commitNumber": report.number.0,
        "acknowledgedNumber": report.acknowledged.0,
        "entities": report.entities,
        "bytes": report.bytes,
        "kinds": findings.kinds,
        "files": files.collect::<Vec<_>>(),
        "inUse": report.in_use.map(|holder| json!({ "pid": holder.pid })),
        "tornTail": report.torn.as_ref().map(|torn| {
            json!({ "file": short(&torn.file, store), "offset": torn.offset, "bytes": torn.bytes })
        }),
        "leftovers": report.leftovers.iter().map(|file| short(file, store)).collect::<Vec<_>>(),
        "damage": damage.collect::<Vec<_>>(),
        "unreadableRecords": findings.unreadable,
        "violations": findings.violations,
    })
}

fn short(file: &Path, store: &Path) -> String {
    file.strip_prefix(store).unwrap_or(file).display().to_string()
}
