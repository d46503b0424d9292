use crate::study::Extent;
use clap::Args;

/// Whether what plug-ins did is studied.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Studies {
    /// Leaves the studies of plug-ins out of the report.
    #[arg(long, conflicts_with = "studies")]
    no_studies: bool,
    /// Studies the networks of plug-ins at the tier `smoke` too.
    #[arg(long)]
    studies: bool,
}

impl Studies {
    /// How much is studied at a tier.
    pub fn extent(self, tier: &str) -> Extent {
        match self {
            Self { no_studies: true, .. } => Extent::Nothing,
            // Two steps teach a network nothing that is worth looking at.
            Self { studies: false, .. } if tier == "smoke" => Extent::Logs,
            _ => Extent::Everything,
        }
    }
}
