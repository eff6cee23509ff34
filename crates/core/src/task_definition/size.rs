//! CPU and memory of a whole task, which definitions write as strings: `1024`, `1 vCPU`, `.5 vcpu`, `2 GB`.

use crate::resources::{CpuUnits, MemoryMib};

/// CPU units of a task, as a number of units or of vCPUs. `None` if it is neither.
pub(crate) fn task_cpu(text: &str) -> Option<CpuUnits> {
    scaled(text, "vcpu", 1024).map(CpuUnits)
}

/// Memory of a task, as a number of MiB or of GB. `None` if it is neither.
pub(crate) fn task_memory(text: &str) -> Option<MemoryMib> {
    scaled(text, "gb", 1024).map(MemoryMib)
}

/// A plain integer, or a decimal number with `unit` that is `factor` of the plain ones and comes out whole.
fn scaled(text: &str, unit: &str, factor: u64) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let Some(number) = text.strip_suffix(unit) else {
        return is_digits(&text).then(|| text.parse().ok()).flatten();
    };
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Nine digits of each are far more than any valid value has, and cannot overflow below.
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 9 || fraction.len() > 9 {
        return None;
    }
    if !(whole.is_empty() || is_digits(whole)) || !(fraction.is_empty() || is_digits(fraction)) {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scaled = (whole * scale + fraction) * factor;
    u32::try_from(scaled / scale).ok()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu() {
        for (text, units) in [
            ("256", Some(256)),
            ("1 vCPU", Some(1024)),
            ("1vcpu", Some(1024)),
            (".5 vCPU", Some(512)),
            ("0.25 vCPU", Some(256)),
            ("1.5vcpu", Some(1536)),
            ("2. vCPU", Some(2048)),
            ("", None),
            ("vCPU", None),
            (". vCPU", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1 cpu", None),
            ("1e3", None),
            ("99999999999", None),
            ("9999999999 vCPU", None),
            ("999999999 vCPU", None),
        ] {
            assert_eq!(task_cpu(text), units.map(CpuUnits), "{text}");
        }
    }

    #[test]
    fn memory() {
        for (text, mib) in [
            ("512", Some(512)),
            ("1GB", Some(1024)),
            ("0.5 gb", Some(512)),
            ("30 GB", Some(30_720)),
            ("1 MB", None),
            ("GB", None),
        ] {
            assert_eq!(task_memory(text), mib.map(MemoryMib), "{text}");
        }
    }
}
