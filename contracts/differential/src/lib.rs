//! Our contracts and the published ones (npm `@iexec/poco` 6.1.0), driven side by side with the same random life cycles.
//!
//! Both systems run on machines of their own, in the same process, with hub, registries, token and assets at the same
//! addresses, so that all hashes agree and whatever one answers can be compared with what the other answers byte by byte.
//! After each step: same success or refusal, same data, same events in order, same views, except for the list in
//! [`deviations`]. What our side does is also held against the Rust rules of `bourse-protocol` ([`referee`]).

pub mod actors;
pub mod artifacts;
pub mod bench;
pub mod calls;
pub mod coverage;
pub mod deploy;
pub mod deviations;
pub mod life;
pub mod machine;
pub mod referee;
pub mod required;
pub mod run;
pub mod step;
