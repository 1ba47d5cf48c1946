//! What a run found, for people and for programs: the summary, the JSON report, the live line.

pub(crate) mod certify;
pub(crate) mod environment;
pub(crate) mod json;
pub(crate) mod live;
pub(crate) mod summary;
