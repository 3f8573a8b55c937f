//! `sluiced`: the balancer's daemon.

use clap::Parser;
use ctl::config::{Config, ConfigError};
use ctl::sluiced::Arguments;
use dataplane::control::{balancer, daemon};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if !cpu_fits() {
        eprintln!(
            "error: this build needs a CPU with AVX2 and BMI2 (x86-64-v3), which this one has not; \
             build it here: RUSTFLAGS=-Ctarget-cpu=native cargo build --release"
        );
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config).and_then(|config| {
        balancer::admit(&config)?;
        Ok(config)
    }) {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    if arguments.check {
        for warning in balancer::warnings(&config) {
            eprintln!("warning: {warning}");
        }
        println!("{}: the configuration is right", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    log_to_stderr();
    match daemon::run(config, arguments.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(daemon::Refusal::Config(errors)) => refuse(&errors),
        Err(daemon::Refusal::Start(reason)) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the CPU has the instructions that the compiler was allowed to use. Asked of the CPU itself: what the compiler
/// takes for granted, the standard library does not look up.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2", target_feature = "bmi2"))]
fn cpu_fits() -> bool {
    // Intel's manual, volume 2A, CPUID, leaf 7: AVX2 is bit 5 of EBX, BMI2 bit 8.
    const NEEDED: u32 = 1 << 5 | 1 << 8;
    std::arch::x86_64::__cpuid_count(7, 0).ebx & NEEDED == NEEDED
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2", target_feature = "bmi2")))]
fn cpu_fits() -> bool {
    true
}

/// One refusal is one error, whatever number of mistakes the file has.
fn refuse(errors: &[ConfigError]) -> ExitCode {
    if let [only] = errors {
        eprintln!("error: {only}");
    } else {
        eprintln!("error: the configuration was refused; line by line:");
        for error in errors {
            eprintln!("  {error}");
        }
    }
    ExitCode::FAILURE
}

/// One line for each fact; `RUST_LOG` asks for more.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
