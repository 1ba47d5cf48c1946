//! What `/metrics` says of names and files.

use std::fmt;

use super::{
    super::{metrics::Out, view::View},
    Discovery,
};

/// Tells `out`.
pub(in super::super) fn metrics(out: &mut Out<'_>, view: &View) -> fmt::Result {
    view.discovery.tell(out)
}

impl Discovery {
    fn tell(&self, out: &mut Out<'_>) -> fmt::Result {
        let state = self.state();
        let (mut current, mut addresses, mut lookups) = (Vec::new(), Vec::new(), Vec::new());
        for (host, name) in &state.names {
            let label = [("name", host.as_str())];
            current.push((label, u64::from(name.trouble().is_none())));
            addresses.push((label, name.addresses().count() as u64));
            for (count, result) in name.lookups().into_iter().zip(["answered", "failed"]) {
                lookups.push(([("name", host.as_str()), ("result", result)], count));
            }
        }
        let help = "Whether the last look-up of the host name succeeded";
        out.gauges("tollgate_resolve_current", help, &current)?;
        out.gauges("tollgate_resolve_addresses", "Addresses that the host name stands for", &addresses)?;
        out.counters("tollgate_resolve_lookups", "Look-ups of the host name", &lookups)?;
        let paths: Vec<String> = state.lists.keys().map(|path| path.display().to_string()).collect();
        let of = |value: fn(&super::List) -> u64| {
            let values = paths.iter().zip(state.lists.values());
            values.map(|(path, list)| ([("file", path.as_str())], value(list))).collect::<Vec<_>>()
        };
        let help = "Whether the file of endpoints is in force as it stands";
        out.gauges("tollgate_endpoints_file_current", help, &of(|list| u64::from(list.trouble.is_none())))?;
        let help = "Endpoints in force from the file";
        out.gauges("tollgate_endpoints_file_entries", help, &of(|list| list.entries.len() as u64))
    }
}
