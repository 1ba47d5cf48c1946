//! The `tollgate` command; everything it does is in the library.

use std::process::ExitCode;

/// A bug: the exit code for a state the program does not understand.
const BUG: i32 = 70;

fn main() -> ExitCode {
    // A shard in an unknown state must not carry payments: whichever thread panics, the process ends, and
    // its supervisor starts a new one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(BUG);
    }));
    tollgate::cli::main()
}
