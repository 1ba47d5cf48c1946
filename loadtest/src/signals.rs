//! Ctrl-C and SIGTERM as a flag that threads look at.

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::exit::SetUp;

/// A flag that becomes true at the first SIGINT or SIGTERM; a second one ends the process at once.
///
/// # Errors
/// When the kernel refuses the signals' actions.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, SetUp> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second signal finds the flag set.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|error| SetUp::new(format!("cannot listen for signals: {error}")))?;
    }
    Ok(stop)
}
