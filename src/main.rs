//! `varu`: incremental, encrypted backups of self-hosted VMs.

mod cli;
mod config;
mod terminal;

use std::process::ExitCode;

use varu::progress::Interrupt;

fn main() -> ExitCode {
    let interrupt = Interrupt::default();
    let signalled = interrupt.clone();
    // The first signal asks the work to end cleanly; who sends a second one doesn't want to wait. Without a handler a
    // signal ends the program at once, which costs no more than what wasn't committed.
    let _ = ctrlc::set_handler(move || {
        if signalled.is_set() {
            std::process::exit(130);
        }
        signalled.set();
    });
    cli::main(std::env::args_os(), interrupt)
}
