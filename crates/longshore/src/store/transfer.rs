//! `longshore store backup` and `longshore store restore`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use longshore_server::STORE_DIR;
use longshore_server::access_key::{ROOT_ACCESS_KEY_FILE, SERVER_KEY_FILE};
use longshore_store::backup::{self, Attachment};
use longshore_store::{CommitNumber, StoreError, restore};

use super::examination::Examination;
use super::{Refusal, store_of};
use crate::cli::{BackupArgs, RestoreArgs};
use crate::data_dir::DataDir;
use crate::error::CliError;
use crate::output::Output;

const PUBLIC_MODE: u32 = 0o644;
const SECRET_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// What the ARNs in the store begin with; without it a restored store is another region's.
const ALWAYS: [(&str, u32); 1] = [("scope.json", PUBLIC_MODE)];
/// What clients, machines and certificates were made with. Only on request, so that a backup holds no key.
const KEYS: [(&str, u32); 4] = [
    (ROOT_ACCESS_KEY_FILE, SECRET_MODE),
    (SERVER_KEY_FILE, SECRET_MODE),
    ("tls/ca.pem", PUBLIC_MODE),
    ("tls/ca-key.pem", SECRET_MODE),
];

/// Commit numbers that a restored store leaves free for each millisecond since 1970. No server commits a thousand groups
/// in one, so a store restored now begins above all numbers used before, by whatever was restored from the same backup.
const NUMBERS_PER_MILLISECOND: u64 = 1 << 10;

pub(super) fn back_up(args: &BackupArgs) -> Result<(), CliError> {
    let (data_dir, store) = store_of(&args.data_dir)?;
    let mut output = Output::new();
    let mut attachments = Vec::new();
    for (name, mode) in ALWAYS.iter().chain(KEYS.iter().filter(|_| args.with_keys)) {
        if let Some(content) = read(&data_dir.path().join(name))? {
            attachments.push(Attachment { name: (*name).to_owned(), mode: *mode, content });
        }
    }
    let summary = backup::create(&store, &args.file, attachments, args.force)?;
    output.tick(format_args!(
        "{} holds everything up to commit {}: {} entities, {} bytes",
        args.file.display(),
        summary.number,
        summary.entities,
        summary.file_bytes
    ));
    if args.with_keys {
        output.note("the keys are in it: whoever has it may do everything");
    } else {
        output.note(format_args!(
            "the keys are not in it: keep {ROOT_ACCESS_KEY_FILE}, {SERVER_KEY_FILE} and tls/ of {} where secrets are kept, \
             or add --with-keys",
            data_dir.shown()
        ));
    }
    Ok(())
}

pub(super) fn bring_back(args: &RestoreArgs) -> Result<(), CliError> {
    let (data_dir, store) = store_of(&args.data_dir)?;
    let mut output = Output::new();
    verify(&args.file, &data_dir)?;
    let staged = restore::stage(&args.file, &store, args.force, numbers_from(Timestamp::now()))?;
    // Before the store, which means nothing without them; they are only ever added, so a crash between leaves what was
    // there as good as it was.
    for (path, attached) in places(staged.attachments(), &data_dir) {
        if !path.exists() {
            add(&path, attached).map_err(CliError::file("write", &path))?;
        }
    }
    let restored = staged.put_in_place(&aside(&store, Timestamp::now()))?;
    output.tick(format_args!(
        "restored into {}: {} entities, as of commit {}; numbers go on from {}",
        data_dir.shown(),
        restored.entities,
        restored.backed_up,
        restored.number
    ));
    if let Some(moved) = restored.moved {
        output.note(format_args!("what was there is kept in {}", moved.display()));
    }
    let missing: Vec<&str> = [ROOT_ACCESS_KEY_FILE, SERVER_KEY_FILE]
        .into_iter()
        .filter(|name| !data_dir.path().join(name).exists())
        .collect();
    if !missing.is_empty() {
        output.note(format_args!(
            "put {} back before the start: without them new keys are made, which no client and no machine that joined has",
            missing.join(" and ")
        ));
    }
    Ok(())
}

/// Reads all of the backup before anything is touched: its bytes, what its records mean, and what would be overwritten.
fn verify(file: &Path, data_dir: &DataDir) -> Result<(), CliError> {
    let mut examination = Examination::new();
    let summary = backup::read(file, &mut |key, value| {
        examination.record(key, value);
        Ok::<_, StoreError>(())
    })?;
    let findings = examination.finish(summary.number);
    let problems: Vec<&str> = findings.problems().map(String::as_str).collect();
    if !problems.is_empty() {
        return Err(Refusal::BadBackup { file: file.to_owned(), problems: problems.join("\n  ") }.into());
    }
    for (path, attached) in places(&summary.attachments, data_dir) {
        if read(&path)?.is_some_and(|present| present != attached.content) {
            return Err(Refusal::OtherFile { path }.into());
        }
    }
    Ok(())
}

/// Where the attached files go. Names that no backup of ours has lead nowhere.
fn places<'a>(attachments: &'a [Attachment], data_dir: &'a DataDir) -> impl Iterator<Item = (PathBuf, &'a Attachment)> {
    let known = |attached: &&Attachment| ALWAYS.iter().chain(&KEYS).any(|(name, _)| *name == attached.name);
    attachments.iter().filter(known).map(|attached| (data_dir.path().join(&attached.name), attached))
}

/// Writes a file that is not there, whole or not at all.
fn add(path: &Path, attached: &Attachment) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // `tls/` is as closed as the server makes it.
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    let new = path.with_extension("restoring");
    let mut file = File::options().write(true).create(true).truncate(true).mode(attached.mode).open(&new)?;
    file.write_all(&attached.content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::file("read", path)(error)),
    }
}

fn numbers_from(now: Timestamp) -> CommitNumber {
    CommitNumber(u64::try_from(now.as_millisecond()).unwrap_or(0).saturating_mul(NUMBERS_PER_MILLISECOND))
}

/// Where the present store goes.
fn aside(store: &Path, now: Timestamp) -> PathBuf {
    store.with_file_name(format!("{STORE_DIR}.{}.old", now.strftime("%Y%m%dT%H%M%S%3fZ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use longshore_store::{Batch, EmbeddedStore, Group, Store as _, Write};

    use super::*;
    use crate::cli::DataDirArgs;

    const CLUSTER: &[u8] = br#"{"id":1,"name":"default","active":true}"#;

    fn data_dir(folder: &Path, name: &str, records: &[(&[u8], &[u8])]) -> DataDirArgs {
        let data_dir = folder.join(name);
        fs::create_dir(&data_dir).unwrap();
        let mut store = EmbeddedStore::open(data_dir.join(STORE_DIR)).unwrap();
        let term = store.lead().unwrap();
        let writes = records.iter().map(|(key, value)| Write::Put { key: key.to_vec(), value: value.to_vec() });
        let groups = vec![Group { number: CommitNumber(1), writes: writes.collect() }];
        store.commit(term, &Batch { groups }).unwrap();
        for (name, _) in ALWAYS.iter().chain(&KEYS) {
            let path = data_dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("the {name}")).unwrap();
        }
        DataDirArgs { data_dir }
    }

    fn backed_up(data_dir: &DataDirArgs, name: &str, with_keys: bool) -> PathBuf {
        let file = data_dir.data_dir.with_file_name(name);
        let args = BackupArgs { data_dir: data_dir.clone(), file: file.clone(), force: false, with_keys };
        back_up(&args).unwrap();
        file
    }

    fn restored(file: &Path, to: &Path, force: bool) -> Result<(), String> {
        let data_dir = DataDirArgs { data_dir: to.to_owned() };
        bring_back(&RestoreArgs { data_dir, file: file.to_owned(), force }).map_err(|error| error.with_causes())
    }

    #[test]
    fn keys_go_along_only_when_asked_and_come_back_closed() {
        let folder = tempfile::tempdir().unwrap();
        let from = data_dir(folder.path(), "from", &[(b"cdefault", CLUSTER)]);
        for (name, with_keys) in [("without", false), ("with", true)] {
            let file = backed_up(&from, name, with_keys);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
            let bytes = fs::read(&file).unwrap();
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(has("the scope.json") && has("the server-key") == with_keys && has("the root") == with_keys);
            let to = folder.path().join(format!("to-{name}"));
            restored(&file, &to, false).unwrap();
            for (name, mode) in KEYS {
                let path = to.join(name);
                assert_eq!(path.exists(), with_keys, "{name}");
                if with_keys {
                    assert_eq!(fs::read_to_string(&path).unwrap(), format!("the {name}"));
                    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{name}");
                }
            }
            if with_keys {
                assert_eq!(fs::metadata(to.join("tls")).unwrap().permissions().mode() & 0o777, FOLDER_MODE);
            }
            assert_eq!(fs::read_to_string(to.join("scope.json")).unwrap(), "the scope.json");
        }
    }

    #[test]
    fn what_belongs_to_another_store_is_neither_mixed_in_nor_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let from = data_dir(folder.path(), "from", &[(b"cdefault", CLUSTER)]);
        let file = backed_up(&from, "backup", true);
        let to = data_dir(folder.path(), "to", &[]).data_dir;
        for name in ["scope.json", "server-key"] {
            fs::write(to.join(name), "another").unwrap();
            let message = restored(&file, &to, true).unwrap_err();
            assert!(message.contains(name), "{message}");
            assert_eq!(fs::read_to_string(to.join(name)).unwrap(), "another");
            fs::write(to.join(name), format!("the {name}")).unwrap();
        }
        assert!(restored(&file, &to, false).unwrap_err().contains("--force"));
        restored(&file, &to, true).unwrap();
        let old = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let old: Vec<_> = old.filter(|name| name.starts_with("store.") && name.ends_with(".old")).collect();
        assert_eq!(old.len(), 1, "the store that was there is kept");
    }

    #[test]
    fn a_backup_that_no_server_would_start_on_is_refused_before_anything_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let from = data_dir(folder.path(), "from", &[(b"cdefault", b"{}")]);
        let file = backed_up(&from, "backup", false);
        let to = folder.path().join("to");
        let message = restored(&file, &to, false).unwrap_err();
        assert!(message.contains("take another backup") && message.contains("cdefault"), "{message}");
        assert!(!to.exists());
    }

    #[test]
    fn names_in_a_backup_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(folder.path()).unwrap();
        let attached = |name: &str| Attachment { name: name.to_owned(), mode: 0o600, content: Vec::new() };
        let attached = ["../../etc/passwd", "/etc/passwd", "store/MANIFEST", "server-key"].map(attached);
        let found: Vec<_> = places(&attached, &data_dir).map(|(path, _)| path).collect();
        assert_eq!(found, [folder.path().join("server-key")]);
    }

    #[test]
    fn a_later_restore_begins_above_whatever_an_earlier_one_led_to() {
        let first: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let second: Timestamp = "2026-11-22T12:01:00Z".parse().unwrap();
        let used_meanwhile = 60 * 100_000;
        assert!(numbers_from(second).0 > numbers_from(first).0 + used_meanwhile);
        assert!(numbers_from("2200-01-01T00:00:00Z".parse().unwrap()).0 < 1 << 53, "exact in every JSON reader");
        let place = aside(Path::new("/d/store"), first);
        assert_eq!(place, Path::new("/d/store.20261122T120000000Z.old"));
    }
}
