//! The pause image: a container that does nothing but hold namespaces which the containers of a task share.
//!
//! The agent carries the image itself, as no registry may be reachable: one static program of some hundred bytes, written
//! here instruction by instruction, and imported into Docker where it is missing. Another program is another name, so that
//! agents of several releases can share an Engine.

use std::sync::LazyLock;

use aws_lc_rs::digest;

/// One instruction (or datum), and what an assembler makes of it.
type Line = (&'static str, &'static [u8]);

/// What the program does, on either architecture: it is process 1 of its namespace, so signals that have no handler do not
/// reach it, and orphans of the task become its children. It asks the kernel to bury those (`SIGCHLD` ignored), blocks `SIGINT`
/// and `SIGTERM`, waits for one of them, and leaves with 0. An interrupted wait begins again.
const X86_64: &[Line] = &[
    // rt_sigaction(SIGCHLD, &action, NULL, 8)
    ("mov eax, 13", &[0xb8, 13, 0, 0, 0]),
    ("mov edi, 17", &[0xbf, 17, 0, 0, 0]),
    ("lea rsi, [rip + action]", &[0x48, 0x8d, 0x35, 0x47, 0, 0, 0]),
    ("xor edx, edx", &[0x31, 0xd2]),
    ("mov r10d, 8", &[0x41, 0xba, 8, 0, 0, 0]),
    ("syscall", &[0x0f, 0x05]),
    // rt_sigprocmask(SIG_BLOCK, &ends, NULL, 8)
    ("mov eax, 14", &[0xb8, 14, 0, 0, 0]),
    ("xor edi, edi", &[0x31, 0xff]),
    ("lea rsi, [rip + ends]", &[0x48, 0x8d, 0x35, 0x4f, 0, 0, 0]),
    ("xor edx, edx", &[0x31, 0xd2]),
    ("mov r10d, 8", &[0x41, 0xba, 8, 0, 0, 0]),
    ("syscall", &[0x0f, 0x05]),
    // rt_sigtimedwait(&ends, NULL, NULL, 8)
    ("again:", &[]),
    ("mov eax, 128", &[0xb8, 128, 0, 0, 0]),
    ("lea rdi, [rip + ends]", &[0x48, 0x8d, 0x3d, 0x39, 0, 0, 0]),
    ("xor esi, esi", &[0x31, 0xf6]),
    ("xor edx, edx", &[0x31, 0xd2]),
    ("mov r10d, 8", &[0x41, 0xba, 8, 0, 0, 0]),
    ("syscall", &[0x0f, 0x05]),
    ("test eax, eax", &[0x85, 0xc0]),
    ("js again", &[0x78, 0xe4]),
    // exit_group(0)
    ("mov eax, 231", &[0xb8, 231, 0, 0, 0]),
    ("xor edi, edi", &[0x31, 0xff]),
    ("syscall", &[0x0f, 0x05]),
    ("action:", &[]),
    (
        ".quad 1, 0, 0, 0",
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    ("ends:", &[]),
    (".quad 0x4002", &[0x02, 0x40, 0, 0, 0, 0, 0, 0]),
];

const AARCH64: &[Line] = &[
    // rt_sigaction(SIGCHLD, &action, NULL, 8)
    ("mov x8, #134", &[0xc8, 0x10, 0x80, 0xd2]),
    ("mov x0, #17", &[0x20, 0x02, 0x80, 0xd2]),
    ("adr x1, action", &[0x81, 0x02, 0x00, 0x10]),
    ("mov x2, xzr", &[0xe2, 0x03, 0x1f, 0xaa]),
    ("mov x3, #8", &[0x03, 0x01, 0x80, 0xd2]),
    ("svc #0", &[0x01, 0x00, 0x00, 0xd4]),
    // rt_sigprocmask(SIG_BLOCK, &ends, NULL, 8)
    ("mov x8, #135", &[0xe8, 0x10, 0x80, 0xd2]),
    ("mov x0, xzr", &[0xe0, 0x03, 0x1f, 0xaa]),
    ("adr x1, ends", &[0xc1, 0x02, 0x00, 0x10]),
    ("mov x2, xzr", &[0xe2, 0x03, 0x1f, 0xaa]),
    ("mov x3, #8", &[0x03, 0x01, 0x80, 0xd2]),
    ("svc #0", &[0x01, 0x00, 0x00, 0xd4]),
    // rt_sigtimedwait(&ends, NULL, NULL, 8)
    ("again:", &[]),
    ("mov x8, #137", &[0x28, 0x11, 0x80, 0xd2]),
    ("adr x0, ends", &[0x20, 0x02, 0x00, 0x10]),
    ("mov x1, xzr", &[0xe1, 0x03, 0x1f, 0xaa]),
    ("mov x2, xzr", &[0xe2, 0x03, 0x1f, 0xaa]),
    ("mov x3, #8", &[0x03, 0x01, 0x80, 0xd2]),
    ("svc #0", &[0x01, 0x00, 0x00, 0xd4]),
    ("tbnz w0, #31, again", &[0x40, 0xff, 0xff, 0x37]),
    // exit_group(0)
    ("mov x8, #94", &[0xc8, 0x0b, 0x80, 0xd2]),
    ("mov x0, xzr", &[0xe0, 0x03, 0x1f, 0xaa]),
    ("svc #0", &[0x01, 0x00, 0x00, 0xd4]),
    ("action:", &[]),
    (
        ".quad 1, 0, 0, 0",
        &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    ("ends:", &[]),
    (".quad 0x4002", &[0x02, 0x40, 0, 0, 0, 0, 0, 0]),
];

/// The name of the program in the image, and all of its command.
const PATH: &str = "pause";
/// What Docker is to note in the image that it makes of [`archive`].
pub(crate) const IMPORT_CHANGE: &str = r#"CMD ["/pause"]"#;
/// Where the program is in memory: anywhere but at zero.
const BASE: u64 = 0x40_0000;
const BLOCK: usize = 512;

/// The image's name in Docker. Nobody pulls it, as it is nowhere but here.
pub(crate) fn image() -> &'static str {
    static IMAGE: LazyLock<String> = LazyLock::new(|| {
        let hash = digest::digest(&digest::SHA256, &archive());
        format!("longshore/pause:{}", hex::encode(&hash.as_ref()[..6]))
    });
    &IMAGE
}

/// The image's only layer, as a tar archive.
pub(crate) fn archive() -> Vec<u8> {
    let program = match std::env::consts::ARCH {
        "aarch64" => executable(183, AARCH64),
        _ => executable(62, X86_64),
    };
    archived(PATH, &program)
}

/// A static ELF program of one segment that is read and executed.
fn executable(machine: u16, lines: &[Line]) -> Vec<u8> {
    const HEADER: u16 = 64;
    const SEGMENT: u16 = 56;
    let code: Vec<u8> = lines.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let start = u64::from(HEADER + 2 * SEGMENT);
    let size = start + code.len() as u64;
    let mut file = Vec::new();
    // 64 bits, little-endian, version 1, the ABI that everybody has.
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2, machine] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for long in [BASE + start, u64::from(HEADER), 0] {
        file.extend(long.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [HEADER, SEGMENT, 2, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // PT_LOAD of the whole file; PT_GNU_STACK, without which the stack would be executable too.
    for (kind, flags, longs) in
        [(1_u32, 5_u32, [0, BASE, BASE, size, size, 0x1000]), (0x6474_e551, 6, [0, 0, 0, 0, 0, 16])]
    {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for long in longs {
            file.extend(u64::to_le_bytes(long));
        }
    }
    file.extend(code);
    file
}

/// A tar archive of one executable file, the same whenever it is made.
fn archived(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000755");
    field(108, "0000000");
    field(116, "0000000");
    field(124, &format!("{:011o}", content.len()));
    field(136, "00000000000");
    // The sum is taken with blanks in its own place.
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// What an assembler makes of the left column; `None` where there is none.
    fn assembled(triple: &str, prologue: &str, lines: &[Line]) -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let (source, object) = (dir.path().join("pause.s"), dir.path().join("pause.o"));
        let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        std::fs::write(&source, format!("{prologue}\n{text}")).unwrap();
        let made = Command::new("llvm-mc")
            .args(["-filetype=obj", "-triple", triple, "-o"])
            .args([&object, &source])
            .status()
            .ok()?;
        assert!(made.success());
        let object = std::fs::read(object).unwrap();
        let code: Vec<u8> = lines.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        // An object file keeps its code in one piece; where does not matter.
        object.windows(code.len()).find(|window| *window == code).map(<[u8]>::to_vec).or(Some(Vec::new()))
    }

    #[test]
    fn the_bytes_are_what_the_instructions_say() {
        for (triple, prologue, lines) in
            [("x86_64-linux-gnu", ".intel_syntax noprefix", X86_64), ("aarch64-linux-gnu", "", AARCH64)]
        {
            let Some(found) = assembled(triple, prologue, lines) else {
                eprintln!("no llvm-mc: the bytes of {triple} are not compared");
                continue;
            };
            assert!(!found.is_empty(), "{triple}");
        }
    }

    #[test]
    fn the_program_waits_and_leaves_on_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pause.tar"), archive()).unwrap();
        let unpacked = Command::new("tar").args(["-xf", "pause.tar"]).current_dir(dir.path()).status().unwrap();
        assert!(unpacked.success());
        let program = dir.path().join(PATH);
        assert_eq!(std::fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
        for signal in ["TERM", "INT"] {
            let mut child = Command::new(&program).stdin(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(child.try_wait().unwrap(), None, "it does not wait");
            let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
            assert!(kill.success());
            let began = Instant::now();
            let status = child.wait().unwrap();
            assert!(status.success() && began.elapsed() < Duration::from_secs(5), "{status} after SIG{signal}");
        }
    }

    #[test]
    fn the_same_program_has_the_same_name() {
        assert_eq!(archive(), archive());
        assert!(image().starts_with("longshore/pause:"));
    }
}
