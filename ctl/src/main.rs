//! `sluicectl`: see and change a running `sluiced`.

fn main() -> std::process::ExitCode {
    ctl::cli::main()
}
