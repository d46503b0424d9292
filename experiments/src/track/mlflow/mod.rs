//! An MLflow server, by its REST interface.

#[cfg(feature = "mlflow")]
mod batch;
#[cfg(feature = "mlflow")]
mod server;
#[cfg(feature = "mlflow")]
mod tell;

use super::Kind;
#[cfg(feature = "mlflow")]
use tell::{open, state};

/// A server, of which MLflow's own variables tell.
pub const MLFLOW: Kind = Kind { name: "mlflow", open, state };

/// Where a run notes which run it is there.
pub const FILE: &str = "mlflow.json";

/// Where the server is.
#[cfg(feature = "mlflow")]
const ADDRESS: &str = "MLFLOW_TRACKING_URI";
/// Among which runs there.
#[cfg(feature = "mlflow")]
const EXPERIMENT: &str = "MLFLOW_EXPERIMENT_NAME";
/// What lets us in. It stands in no log and in no message.
#[cfg(feature = "mlflow")]
const TOKEN: &str = "MLFLOW_TRACKING_TOKEN";

#[cfg(not(feature = "mlflow"))]
fn open() -> crate::Result<Box<dyn super::Tracker>> {
    let misfit = crate::Misfit::new("mlflow: this program was built without it");
    Err(misfit.help("build it with the feature `mlflow`, which is on by default").into())
}

#[cfg(not(feature = "mlflow"))]
fn state() -> String {
    "not compiled in: build with the feature `mlflow`".to_owned()
}
