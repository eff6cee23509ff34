//! The measurement behind the choice of the embedded engine: `cargo run --release -p longshore-store --example measure
//! [directory]`.
//!
//! Each engine writes 700-byte records under random 20-byte keys, one record per group, one synchronisation per batch,
//! in a process of its own (so that memory and CPU time are its own), and is then reopened in another one. The floor is
//! a bare append and `fdatasync`. CPU time is that of the whole process until it has fallen quiet, so background work
//! is paid for.

use std::env;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use longshore_store::{Batch, CommitNumber, EmbeddedStore, Group, Store, Term, Write};
use redb::{ReadableDatabase as _, ReadableTable as _};

type AnyError = Box<dyn Error>;

const KEY_BYTES: usize = 20;
const VALUE_BYTES: usize = 700;
const ENGINES: [&str; 4] = ["floor", "embedded", "fjall", "redb"];
/// (groups per batch, records): few records where every one of them pays for a synchronisation.
const RUNS: [(usize, usize); 4] = [(1, 4_000), (100, 200_000), (1_000, 200_000), (1_000, 1_000_000)];

fn main() -> Result<(), AnyError> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", engine, batch, records, dir] => write_run(engine, batch.parse()?, records.parse()?, Path::new(dir)),
        ["reopen", engine, dir] => reopen_run(engine, Path::new(dir)),
        ["idle", engine, dir] => idle_run(engine, Path::new(dir)),
        [] => table(&env::temp_dir().join("longshore-store-measure")),
        [dir] => table(Path::new(dir)),
        _ => Err("usage: measure [directory]".into()),
    }
}

/// Runs every engine in processes of their own and prints one markdown row for each.
fn table(dir: &Path) -> Result<(), AnyError> {
    println!(
        "| engine | groups per batch | records | records/s | CPU µs per record | median commit µs \
         | disk MB | reopen + load ms | RSS MB after it |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (batch, records) in RUNS {
        for engine in ENGINES {
            fs::remove_dir_all(dir).ok();
            fs::create_dir_all(dir)?;
            let written = child(&["write", engine, &batch.to_string(), &records.to_string()], dir)?;
            let reopened = child(&["reopen", engine], dir)?;
            println!("| {engine} | {batch} | {records} | {written} | {reopened} |");
        }
    }
    println!("\n| engine | RSS MB, empty and idle |\n|---|---|");
    for engine in ENGINES {
        fs::remove_dir_all(dir).ok();
        fs::create_dir_all(dir)?;
        println!("| {engine} | {} |", child(&["idle", engine], dir)?);
    }
    fs::remove_dir_all(dir)?;
    Ok(())
}

fn child(args: &[&str], dir: &Path) -> Result<String, AnyError> {
    let output = Command::new(env::current_exe()?).args(args).arg(dir).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn write_run(engine: &str, batch: usize, records: usize, dir: &Path) -> Result<(), AnyError> {
    let mut engine = open(engine, dir)?;
    let mut random = Random(7);
    let mut latencies = Vec::with_capacity(records / batch);
    let cpu_before = cpu_time();
    let begun = Instant::now();
    let mut generating = Duration::ZERO;
    for _ in 0..records / batch {
        let before = Instant::now();
        let groups: Vec<_> = (0..batch).map(|_| random.record()).collect();
        generating += before.elapsed();
        let before = Instant::now();
        engine.commit(groups)?;
        latencies.push(before.elapsed());
    }
    let elapsed = begun.elapsed() - generating;
    settle();
    let cpu = cpu_time() - cpu_before - generating;
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let count = records as f64;
    println!(
        "{:.0} | {:.2} | {} | {}",
        count / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count,
        latencies[latencies.len() / 2].as_micros(),
        disk_bytes(dir)? / 1_000_000,
    );
    Ok(())
}

fn reopen_run(engine: &str, dir: &Path) -> Result<(), AnyError> {
    let begun = Instant::now();
    let mut engine = open(engine, dir)?;
    let count = engine.count()?;
    let elapsed = begun.elapsed();
    if count == 0 {
        return Err("nothing came back".into());
    }
    settle();
    println!("{} | {:.1}", elapsed.as_millis(), resident_mb()?);
    Ok(())
}

fn idle_run(engine: &str, dir: &Path) -> Result<(), AnyError> {
    let mut engine = open(engine, dir)?;
    engine.commit(vec![Random(1).record()])?;
    settle();
    println!("{:.1}", resident_mb()?);
    Ok(())
}

/// Waits until the process has used no CPU time for a while: background work is over.
fn settle() {
    let mut last = cpu_time();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = cpu_time();
        if now - last < Duration::from_millis(3) {
            return;
        }
        last = now;
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().unwrap_or(0))
}

fn resident_mb() -> Result<f64, AnyError> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

fn disk_bytes(dir: &Path) -> Result<u64, AnyError> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { disk_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// SplitMix64: records differ, runs do not.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn record(&mut self) -> (Vec<u8>, Vec<u8>) {
        (self.bytes(KEY_BYTES), self.bytes(VALUE_BYTES))
    }
}

trait Engine {
    fn commit(&mut self, groups: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), AnyError>;
    fn count(&mut self) -> Result<usize, AnyError>;
}

fn open(engine: &str, dir: &Path) -> Result<Box<dyn Engine>, AnyError> {
    Ok(match engine {
        "floor" => Box::new(Floor::open(dir)?),
        "embedded" => Box::new(Embedded::open(dir)?),
        "fjall" => Box::new(Fjall::open(dir)?),
        "redb" => Box::new(Redb::open(dir)?),
        other => return Err(format!("no engine {other}").into()),
    })
}

/// The least that durable can cost: append, synchronise.
struct Floor {
    file: fs::File,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Floor {
    fn open(dir: &Path) -> Result<Self, AnyError> {
        let path = dir.join("log");
        Ok(Self { file: fs::File::options().create(true).append(true).open(&path)?, path, buffer: Vec::new() })
    }
}

impl Engine for Floor {
    fn commit(&mut self, groups: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), AnyError> {
        self.buffer.clear();
        for (key, value) in &groups {
            self.buffer.extend_from_slice(key);
            self.buffer.extend_from_slice(value);
        }
        self.file.write_all(&self.buffer)?;
        self.file.sync_data()?;
        Ok(())
    }

    fn count(&mut self) -> Result<usize, AnyError> {
        Ok(fs::read(&self.path)?.len() / (KEY_BYTES + VALUE_BYTES))
    }
}

struct Embedded {
    store: EmbeddedStore,
    term: Term,
    number: CommitNumber,
}

impl Embedded {
    fn open(dir: &Path) -> Result<Self, AnyError> {
        let mut store = EmbeddedStore::open(dir)?;
        let term = store.lead()?;
        Ok(Self { store, term, number: CommitNumber(0) })
    }
}

impl Engine for Embedded {
    fn commit(&mut self, groups: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), AnyError> {
        let mut batch = Batch::default();
        for (key, value) in groups {
            self.number.0 += 1;
            batch.groups.push(Group { number: self.number, writes: vec![Write::Put { key, value }] });
        }
        Ok(self.store.commit(self.term, &batch)?)
    }

    fn count(&mut self) -> Result<usize, AnyError> {
        let mut count = 0;
        self.number = self.store.load(&mut |_, _| count += 1)?;
        Ok(count)
    }
}

struct Fjall {
    database: fjall::Database,
    keyspace: fjall::Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Result<Self, AnyError> {
        let database = fjall::Database::builder(dir.join("fjall")).cache_size(8 << 20).worker_threads(1).open()?;
        let keyspace =
            database.keyspace("entities", || fjall::KeyspaceCreateOptions::default().max_memtable_size(16 << 20))?;
        Ok(Self { database, keyspace })
    }
}

impl Engine for Fjall {
    fn commit(&mut self, groups: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), AnyError> {
        let mut batch = self.database.batch();
        for (key, value) in groups {
            batch.insert(&self.keyspace, key, value);
        }
        batch.commit()?;
        self.database.persist(fjall::PersistMode::SyncData)?;
        Ok(())
    }

    fn count(&mut self) -> Result<usize, AnyError> {
        let mut count = 0;
        for guard in self.keyspace.iter() {
            guard.into_inner()?;
            count += 1;
        }
        Ok(count)
    }
}

struct Redb {
    database: redb::Database,
}

const ENTITIES: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("entities");

impl Redb {
    fn open(dir: &Path) -> Result<Self, AnyError> {
        Ok(Self { database: redb::Database::builder().set_cache_size(32 << 20).create(dir.join("redb"))? })
    }
}

impl Engine for Redb {
    fn commit(&mut self, groups: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), AnyError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(ENTITIES)?;
            for (key, value) in groups {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn count(&mut self) -> Result<usize, AnyError> {
        let mut count = 0;
        for entry in self.database.begin_read()?.open_table(ENTITIES)?.iter()? {
            entry?;
            count += 1;
        }
        Ok(count)
    }
}
