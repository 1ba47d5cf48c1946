//! What the system's signals order.
//!
//! Registered before anything is bound, so that no signal kills a gateway that somebody can reach, and
//! heard to the end of the drain. Only says what was ordered; `gateway.rs` does it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// An order from outside the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGTERM or SIGINT: finish what is in flight, then end.
    Drain,
    /// SIGUSR1: open the log files anew.
    ReopenLogs,
    /// SIGHUP: put the configuration as it now stands in force.
    Reload,
    /// SIGUSR2: start a successor and hand over to it.
    HandOver,
}

/// The signals that this process takes instead of their default, which is to end it.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Takes them from here on. To be called within a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next order. Loses none when it is dropped while it waits.
    pub async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Drain,
            _ = self.interrupt.recv() => Order::Drain,
            _ = self.hangup.recv() => Order::Reload,
            _ = self.user_1.recv() => Order::ReopenLogs,
            _ = self.user_2.recv() => Order::HandOver,
        }
    }
}
