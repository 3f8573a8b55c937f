//! `[runtime]`

use super::duplicates;
use crate::config::read::Reader;
use crate::config::types::quote;
use crate::config::{Config, Runtime, Size};

/// Packet buffers of one port and the EAL itself do not fit in less.
const MIN_MEMORY: Size = Size::from_mebibytes(64);
/// Entries per worker: 64 Mi.
const MAX_CONNECTIONS: u32 = 64 << 20;
/// `sun_path` of a Unix socket, with its final zero, has 108 bytes.
const MAX_SOCKET_BYTES: usize = 107;
/// A Maglev table is built again for each change, so its size is bounded.
const MAGLEV_SIZES: std::ops::RangeInclusive<u32> = 251..=16_777_213;

pub(super) fn check(reader: &mut Reader, config: &Config) {
    let runtime = &config.runtime;
    for (key, cpus) in [("workers", &runtime.workers), ("control_cpus", &runtime.control_cpus)] {
        let path = format!("runtime.{key}");
        if cpus.is_empty() {
            reader.error(
                &path,
                "the list is empty",
                "name at least one CPU, or remove the key for the default",
            );
        }
        duplicates(cpus, |_, index| {
            let problem = format!("CPU {} is named twice", cpus[index]);
            reader.error(&format!("{path}[{index}]"), problem, "name each CPU once");
        });
    }
    let socket = runtime.socket.as_os_str();
    if socket.is_empty() {
        reader.error("runtime.socket", "the path is empty", "write for example \"/run/sluice/sluice.sock\"");
    } else if socket.len() > MAX_SOCKET_BYTES {
        let problem = format!("the path has {} bytes, more than a Unix socket may have", socket.len());
        reader.error("runtime.socket", problem, format!("use at most {MAX_SOCKET_BYTES}"));
    }
    check_accounts(reader, runtime);
    if runtime.memory < MIN_MEMORY {
        let problem = format!("{} is too little for packet buffers", runtime.memory);
        reader.error("runtime.memory", problem, format!("use at least {MIN_MEMORY}"));
    }
    if !(1..=MAX_CONNECTIONS).contains(&runtime.max_connections) {
        let problem = format!("{} connections per worker are out of range", runtime.max_connections);
        reader.error("runtime.max_connections", problem, format!("use 1 to {MAX_CONNECTIONS}"));
    }
    if runtime.status_page && runtime.metrics.is_none() {
        let remedy = "set runtime.metrics, for example to \"127.0.0.1:9108\", or remove it";
        reader.error("runtime.status_page", "there is no listener that could show the page", remedy);
    }
    check_maglev(reader, runtime.maglev_table_size);
    check_local_ports(reader, runtime);
    for (index, argument) in runtime.eal_args.iter().enumerate() {
        let path = format!("runtime.eal_args[{index}]");
        if argument.is_empty() || argument.contains('\0') {
            reader.error(&path, "the argument is empty or has a zero byte", "remove it");
        }
    }
}

/// Whether such a user or group exists is for the machine to say; here, whether there could be one.
fn check_accounts(reader: &mut Reader, runtime: &Runtime) {
    if let Some(group) = &runtime.socket_group
        && let Some(problem) = bad_account(group)
    {
        reader.error("runtime.socket_group", problem, "write the name of a group, such as \"sluice\"");
    }
    for (index, operator) in runtime.operators.iter().enumerate() {
        if let Some(problem) = bad_account(operator.strip_prefix('@').unwrap_or(operator)) {
            let remedy = "write the name of a user, or of a group with an @ in front: \"alice\", \"@netops\"";
            reader.error(&format!("runtime.operators[{index}]"), problem, remedy);
        }
    }
    duplicates(&runtime.operators, |_, index| {
        let problem = format!("{} is named twice", quote(&runtime.operators[index]));
        reader.error(&format!("runtime.operators[{index}]"), problem, "name each user and group once");
    });
}

/// What keeps text from being the name of a user or a group, if anything: passwd(5) separates by colons.
fn bad_account(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the name is empty".to_owned());
    }
    let strange =
        |character: char| character.is_whitespace() || character.is_control() || ":,/@".contains(character);
    name.contains(strange).then(|| format!("{} is not a name of a user or group", quote(name)))
}

fn check_local_ports(reader: &mut Reader, runtime: &Runtime) {
    let path = "runtime.local_ports";
    let (ports, most) = (runtime.local_ports, Runtime::DEFAULT_LOCAL_PORTS.last());
    if ports.last() > most {
        let problem = format!("health checks speak from ports above {most}");
        reader.error(path, problem, format!("end at {most}, as in \"{}\"", Runtime::DEFAULT_LOCAL_PORTS));
    } else if usize::from(ports.count()) < runtime.workers.len() {
        let problem = format!("{} ports are too few for {} workers", ports.count(), runtime.workers.len());
        reader.error(path, problem, format!("use more, as in \"{}\"", Runtime::DEFAULT_LOCAL_PORTS));
    }
}

fn check_maglev(reader: &mut Reader, size: u32) {
    let path = "runtime.maglev_table_size";
    if !MAGLEV_SIZES.contains(&size) {
        let problem = format!("{size} is out of range");
        let remedy =
            format!("use a prime from {} to {}, such as 65537", MAGLEV_SIZES.start(), MAGLEV_SIZES.end());
        reader.error(path, problem, remedy);
    } else if !is_prime(size) {
        let next = (size..=*MAGLEV_SIZES.end()).find(|&number| is_prime(number)).unwrap_or(65_537);
        reader.error(path, format!("{size} is not a prime"), format!("use a prime: the next one is {next}"));
    }
}

fn is_prime(number: u32) -> bool {
    number >= 2 && (2..=number.isqrt()).all(|divisor| !number.is_multiple_of(divisor))
}
