//! Limits of the whole process: where they come from, and a watch over its memory, so that it refuses work before the
//! kernel ends it.

use std::{
    env, fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use dataplane::{HeadLimits, Overload, Pressure, Settings, trim_memory};

use crate::{bounds, options::WrongUsage};

/// Bytes that the process may have: what the variable says, else what its cgroup may, else what the machine has. `None`
/// where there is no limit.
///
/// # Errors
/// The variable is no quantity.
pub(crate) fn memory_limit() -> Result<Option<u64>, WrongUsage> {
    let Some(text) = written(MEMORY_LIMIT) else {
        return Ok(of_cgroup(Path::new("/")).into_iter().chain(of_machine()).min());
    };
    let expected =
        "expected bytes as Kubernetes writes them, such as `512Mi`, `1Gi` or `1000000000`; 0 for no limit";
    let bytes =
        quantity(&text).ok_or_else(|| WrongUsage(format!("invalid {MEMORY_LIMIT} `{text}`: {expected}")))?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// A whole number of a quantity of Kubernetes: digits, perhaps with a fraction, and a suffix.
fn quantity(text: &str) -> Option<u64> {
    const SUFFIXES: [(&str, u64); 12] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
    ];
    let suffixed = SUFFIXES.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)));
    let (number, unit) = suffixed.unwrap_or((text, 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let tenths = u64::pow(10, u32::try_from(fraction.len()).ok()?);
    let fraction = u128::from(unit) * u128::from(fraction.parse::<u64>().unwrap_or(0)) / u128::from(tenths);
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(u64::try_from(fraction).ok()?)
}

/// Bytes of bodies that each of some workers may hold: of a small memory the others need most for themselves.
pub(crate) fn held_bodies(memory_limit: Option<u64>, workers: usize) -> usize {
    let usual = Settings::default().held_bodies;
    let Some(limit) = memory_limit else { return usual };
    let share = limit / 100 * bounds::HELD_BODIES_SHARE / workers.max(1) as u64;
    usize::try_from(share).unwrap_or(usual).min(usual)
}

/// Connections from clients that all workers may have together.
///
/// # Errors
/// The variable is no number.
pub(crate) fn max_connections() -> Result<Option<u64>, WrongUsage> {
    number(MAX_CONNECTIONS, "of connections, 0 for no limit")
}

/// What heads of requests and answers may cost.
///
/// # Errors
/// A variable is no number, or beyond what can be allowed.
pub(crate) fn heads() -> Result<HeadLimits, WrongUsage> {
    let kibibytes = within(MAX_HEAD_KB, "of KiB", HeadLimits::MAX_BYTES / 1024)?;
    let fields = within(MAX_FIELDS, "of fields", HeadLimits::MAX_FIELDS)?;
    Ok(HeadLimits::new(kibibytes.map(|kibibytes| kibibytes * 1024), fields))
}

fn within(name: &str, what: &str, most: usize) -> Result<Option<usize>, WrongUsage> {
    let what = format!("{what}, 1–{most}");
    let Some(number) = number(name, &what)? else { return Ok(None) };
    let allowed = usize::try_from(number).ok().filter(|number| (1..=most).contains(number));
    allowed
        .map(Some)
        .ok_or_else(|| WrongUsage(format!("invalid {name} `{number}`: expected a number {what}")))
}

/// Ours.
const MAX_HEAD_KB: &str = "POSTERN_MAX_HEADERS_KB";
const MAX_FIELDS: &str = "POSTERN_MAX_HEADERS_COUNT";
const MEMORY_LIMIT: &str = "POSTERN_MEMORY_LIMIT";
/// Variable by which Istio's `proxyMetadata` tells it.
const MAX_CONNECTIONS: &str = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS";

fn written(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str, what: &str) -> Result<Option<u64>, WrongUsage> {
    let Some(text) = written(name) else { return Ok(None) };
    let wrong = |_| WrongUsage(format!("invalid {name} `{text}`: expected a number {what}"));
    text.parse().map(Some).map_err(wrong)
}

/// The limit of the container that the process runs in, by either version of cgroups.
fn of_cgroup(root: &Path) -> Option<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let files = [
        // Where the namespace of cgroups is the host's, the container's own is further down.
        format!("sys/fs/cgroup/{own}/memory.max"),
        "sys/fs/cgroup/memory.max".to_owned(),
        "sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let limits =
        files.iter().filter_map(|file| fs::read_to_string(root.join(file)).ok()?.trim().parse().ok());
    // No machine has an exbibyte: the first version of cgroups writes a number like that where there is no limit.
    limits.filter(|limit| *limit < 1 << 60).min()
}

/// Watches the memory of the process, on a thread of its own: gives back what was freed, and tells the workers when it
/// is short, where there is a limit.
///
/// # Errors
/// There is no thread to be had.
pub(crate) fn watch(overload: Overload, limit: Option<u64>) -> io::Result<()> {
    let watching = move || {
        let (mut before, mut trimmed) = (Pressure::None, Instant::now());
        loop {
            // Where memory is short, what was freed since may be enough, once the system has it back.
            let due = if before == Pressure::None { TRIM_AT_EASE } else { TRIM_EVERY };
            let trims = trimmed.elapsed() >= due;
            if trims {
                trim_memory();
                trimmed = Instant::now();
            }
            let mut pause = TRIM_AT_EASE;
            if let Some(limit) = limit {
                let used = resident();
                pause = if used < limit / 2 { CHECK_EVERY } else { CHECK_CLOSELY };
                let pressure = pressure(used, limit, before);
                overload.set_excess(used.saturating_sub(limit / 100 * bounds::AT_EASE_BELOW));
                if pressure != before {
                    tell((before, pressure), (used, limit));
                    overload.set_pressure(pressure);
                    before = pressure;
                }
            }
            if trims {
                overload.settle();
            }
            thread::sleep(pause);
        }
    };
    thread::Builder::new().name("memory".to_owned()).spawn(watching).map(drop)
}

const CHECK_EVERY: Duration = Duration::from_millis(100);
/// From half of the limit on: answers of endpoints nearby fill a gigabyte in a second.
const CHECK_CLOSELY: Duration = Duration::from_millis(25);
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// The allocator keeps what a burst has freed: most of what a flooded gateway once held it would hold for ever.
const TRIM_AT_EASE: Duration = Duration::from_secs(60);

fn pressure(used: u64, limit: u64, before: Pressure) -> Pressure {
    match used.saturating_mul(100) / limit.max(1) {
        bounds::CONNECTIONS_REFUSED_FROM.. => Pressure::Connections,
        bounds::REQUESTS_REFUSED_FROM.. => Pressure::Requests,
        bounds::SERVED_AGAIN_BELOW.. => before.clamp(Pressure::Untaken, Pressure::Requests),
        bounds::UNTAKEN_GIVEN_UP_FROM.. => Pressure::Untaken,
        bounds::AT_EASE_BELOW.. => before.min(Pressure::Untaken),
        _ => Pressure::None,
    }
}

fn tell((before, now): (Pressure, Pressure), (used, limit): (u64, u64)) {
    if before == Pressure::None && now == Pressure::Untaken {
        tracing::info!(used, limit, "memory gets short: what peers take nothing of is given up");
    }
    if before < Pressure::Requests && now >= Pressure::Requests {
        tracing::warn!(
            used,
            limit,
            "memory is short: new requests are answered with 503; raise the container's limit, or add replicas"
        );
    }
    if before >= Pressure::Requests && now < Pressure::Requests {
        tracing::info!(used, limit, "there is memory again: everybody is served");
    }
}

/// Bytes of memory that the process holds (`VmRSS`).
fn resident() -> u64 {
    kibibytes("/proc/self/status", "VmRSS:").unwrap_or_default() * 1024
}

/// Bytes of memory that the machine has.
fn of_machine() -> Option<u64> {
    Some(kibibytes("/proc/meminfo", "MemTotal:")? * 1024)
}

/// A number of a file of the kernel, by the name before it.
fn kibibytes(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix(name))?;
    number.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_stays_short_until_there_is_room() {
        use Pressure::{Connections, None, Requests, Untaken};
        for (used, before, now) in [
            (0, None, None),
            (74, Requests, None),
            (75, Requests, Untaken),
            (79, Untaken, Untaken),
            (79, None, None),
            (80, None, Untaken),
            (89, None, Untaken),
            (90, None, Requests),
            (94, Connections, Requests),
            (95, Requests, Connections),
            (86, Requests, Requests),
            (86, Connections, Requests),
            (86, None, Untaken),
            (84, Connections, Untaken),
            (u64::MAX, None, Connections),
        ] {
            assert_eq!(pressure(used, 100, before), now, "{used} {before:?}");
        }
    }

    #[test]
    fn bytes_are_written_as_kubernetes_writes_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("64Ki", 65_536),
            ("512Mi", 512 << 20),
            ("1.5Gi", 3 << 29),
            ("2G", 2_000_000_000),
            ("129k", 129_000),
            ("15Ei", 15 << 60),
        ] {
            assert_eq!(quantity(text), Some(bytes), "{text}");
        }
        for wrong in ["", "Gi", "-1", "1 Gi", "1gi", "1GB", "1Kib", ".5Gi", "1.2.3M", "16Ei", "1e9", "many"] {
            assert_eq!(quantity(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_limit_is_that_of_the_container() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        assert_eq!(of_cgroup(root.path()), None);
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of_cgroup(root.path()), None);
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "500\n");
        assert_eq!(of_cgroup(root.path()), Some(500));
        write("sys/fs/cgroup/memory.max", "max\n");
        write("proc/self/cgroup", "0::/kubepods/pod1\n");
        write("sys/fs/cgroup/kubepods/pod1/memory.max", "300\n");
        assert_eq!(of_cgroup(root.path()), Some(300));
    }

    #[test]
    fn of_a_small_memory_bodies_take_a_quarter() {
        let usual = Settings::default().held_bodies;
        assert_eq!(held_bodies(None, 1), usual);
        assert_eq!(held_bodies(Some(u64::MAX), 64), usual);
        assert_eq!(held_bodies(Some(256_000_000), 2), 32_000_000);
    }

    #[test]
    fn this_process_has_some_memory_of_the_machines() {
        assert!(resident() > 1 << 20);
        assert!(of_machine().is_some_and(|machine| machine > resident()));
    }
}
