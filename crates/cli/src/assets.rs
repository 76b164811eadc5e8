//! The example that comes with the binary: the option-pricing app and the Apple stock's prices.

/// Name of the app on chain.
pub(crate) const APP_NAME: &str = "option-pricing";
/// The WASI module.
pub(crate) const APP: &[u8] = include_bytes!("../../../examples/option-pricing/option-pricing.wasm");
/// Name of the dataset on chain.
pub(crate) const DATASET_NAME: &str = "aapl-daily-2000-2013";
/// Daily prices.
pub(crate) const DATASET: &[u8] = include_bytes!("../../../examples/option-pricing/data/aapl-daily-2000-2013.csv");
