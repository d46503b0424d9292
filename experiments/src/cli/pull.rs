use super::complete::names;
use super::entries::Kind;
use super::{Session, print, print_json};
use crate::hub;
use crate::{Misfit, Result};
use clap::Args;
use serde_json::json;
use sokd_hub::{Hub, Repository};
use sokd_models::Published;

/// Fetches a file or a whole repository of the Hugging Face Hub, and prints where it lies.
///
/// What is there already is compared with its digest and not fetched again; what broke off is gone on with. The cache is
/// the one of Python's libraries. `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and
/// `HF_HUB_CACHE` are heeded.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd pull timm/resnet18.a1_in1k/model.safetensors
  sokd pull timm/resnet18.a1_in1k@main                a whole repository
  sokd pull timm:resnet18                             weights by timm's or torchvision's name
  sokd pull datasets/uoft-cs/cifar10 --list           what there is, without fetching it")]
pub struct Pull {
    /// OWNER/REPO[@REVISION][/FILE], `datasets/OWNER/REPO...` for data, or a name that `sokd list teachers` knows.
    #[arg(value_name = "ADDRESS", add = names(&[Kind::Teachers]))]
    address: String,
    /// Lists the files of the repository, and fetches none.
    #[arg(long)]
    list: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Pull {
    pub fn run(&self, session: &Session) -> Result<()> {
        if let Some(known) = Published::named(&self.address).map_err(Misfit::new)? {
            let path = hub::published(&known, &session.stage)?;
            return self.say(&path.display().to_string(), &json!({ "path": path, "model": known.model }));
        }
        let (repository, file) = Repository::and_file(&self.address)?;
        if self.list {
            let watch = crate::coming::Coming::new(&session.stage);
            let listing = Hub::from_env()?.list(&repository, &watch)?;
            let lines = listing.files.join("\n");
            return self.say(&lines, &json!({ "commit": listing.commit, "files": listing.files }));
        }
        if let Some(file) = file {
            let fetched = hub::fetch(&repository.file(&file)?, &session.stage)?;
            let sha256 = sokd_hub::sha256(&fetched.path)?;
            let what = json!({ "path": fetched.path, "commit": fetched.commit, "sha256": sha256 });
            return self.say(&fetched.path.display().to_string(), &what);
        }
        let listing = hub::pull(&repository, |all| all, &session.stage)?;
        let what = json!({ "path": listing.folder, "commit": listing.commit, "files": listing.files });
        self.say(&listing.folder.display().to_string(), &what)
    }

    fn say(&self, line: &str, what: &serde_json::Value) -> Result<()> {
        if self.json { print_json(what) } else { print(line) }
    }
}
