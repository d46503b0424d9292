//! Weights that timm and torchvision publish for networks of the zoo, by the names that they give them.
//!
//! Both name weights as our networks for ImageNet do, so their map of names is the identity, and loading is strict both
//! ways as ever: what has another stem, another block or another head is no network of the zoo, and is not listed here.

use crate::ModelSpec;

/// Weights that others publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whose, which and how trained: `timm:resnet18.a1_in1k`, `torchvision:resnet50.IMAGENET1K_V2`.
    pub name: String,
    /// The network of the zoo that they are of.
    pub model: &'static str,
    /// Where they are to be had.
    pub origin: Origin,
}

/// Where published weights are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a repository on the Hub: `owner/name/file`.
    Hub(String),
    /// From their makers.
    Makers {
        /// Where.
        url: String,
        /// The name of the file.
        file: String,
        /// The first digits of its SHA-256, which its name ends in by custom.
        sha256: &'static str,
    },
}

/// A network, and its weights by how they were trained; the first are those that the name alone stands for.
type Trained = (&'static str, &'static str, &'static [&'static str]);

/// timm 1.0, `resnet.py`: those with torchvision's stem, blocks and shortcuts. Of the same name with a letter behind it
/// (`resnet50d`, `resnet101s`) the stem is another.
const TIMM: [Trained; 5] = [
    (
        "resnet18",
        "imagenet_resnet18",
        &[
            "a1_in1k",
            "a2_in1k",
            "a3_in1k",
            "tv_in1k",
            "gluon_in1k",
            "fb_ssl_yfcc100m_ft_in1k",
            "fb_swsl_ig1b_ft_in1k",
        ],
    ),
    ("resnet34", "imagenet_resnet34", &["a1_in1k", "a2_in1k", "a3_in1k", "bt_in1k", "tv_in1k", "gluon_in1k"]),
    (
        "resnet50",
        "imagenet_resnet50",
        &[
            "a1_in1k",
            "a1h_in1k",
            "a2_in1k",
            "a3_in1k",
            "b1k_in1k",
            "b2k_in1k",
            "c1_in1k",
            "c2_in1k",
            "d_in1k",
            "ram_in1k",
            "am_in1k",
            "ra_in1k",
            "bt_in1k",
            "tv_in1k",
            "tv2_in1k",
            "gluon_in1k",
            "fb_ssl_yfcc100m_ft_in1k",
            "fb_swsl_ig1b_ft_in1k",
        ],
    ),
    (
        "resnet101",
        "imagenet_resnet101",
        &["a1h_in1k", "a1_in1k", "a2_in1k", "a3_in1k", "tv_in1k", "tv2_in1k", "gluon_in1k"],
    ),
    (
        "resnet152",
        "imagenet_resnet152",
        &["a1h_in1k", "a1_in1k", "a2_in1k", "a3_in1k", "tv_in1k", "tv2_in1k", "gluon_in1k"],
    ),
];

/// torchvision 0.20, `resnet.py`. Its own default is the newest; the name alone stands here for the first, which the
/// field's papers distill from.
const TORCHVISION: [Trained; 5] = [
    ("resnet18", "imagenet_resnet18", &["f37072fd"]),
    ("resnet34", "imagenet_resnet34", &["b627a593"]),
    ("resnet50", "imagenet_resnet50", &["0676ba61", "11ad3fa6"]),
    ("resnet101", "imagenet_resnet101", &["63fe2227", "cd907fc2"]),
    ("resnet152", "imagenet_resnet152", &["394f9c45", "f82ba261"]),
];

/// All of them, in order.
pub fn all() -> Vec<Published> {
    let timm = TIMM.iter().flat_map(|&(network, model, trained)| {
        trained.iter().map(move |how| Published {
            name: format!("timm:{network}.{how}"),
            model,
            origin: Origin::Hub(format!("timm/{network}.{how}/model.safetensors")),
        })
    });
    let torchvision = TORCHVISION.iter().flat_map(|&(network, model, digests)| {
        (1..).zip(digests).map(move |(version, &sha256)| Published {
            name: format!("torchvision:{network}.IMAGENET1K_V{version}"),
            model,
            origin: Origin::Makers {
                url: format!("https://download.pytorch.org/models/{network}-{sha256}.pth"),
                file: format!("{network}-{sha256}.pth"),
                sha256,
            },
        })
    });
    timm.chain(torchvision).collect()
}

impl Published {
    /// The weights of that name; nothing, where it is no name of timm's or torchvision's.
    ///
    /// # Errors
    /// A name of theirs that is not of the zoo, with those that are.
    pub fn named(name: &str) -> Result<Option<Self>, String> {
        let Some(family) = ["timm", "torchvision"]
            .into_iter()
            .find(|family| name.strip_prefix(family).is_some_and(|rest| rest.starts_with(':')))
        else {
            return Ok(None);
        };
        let mut theirs = all().into_iter().filter(|known| known.name.starts_with(family));
        let is_meant = |known: &Published| {
            known.name == name || known.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
        };
        if let Some(found) = theirs.clone().find(is_meant) {
            return Ok(Some(found));
        }
        let network = name.split(['.', '@']).next().unwrap_or(name);
        let mut same: Vec<String> = theirs
            .clone()
            .map(|known| known.name)
            .filter(|known| known.starts_with(&format!("{network}.")))
            .collect();
        if same.is_empty() {
            same = theirs.by_ref().map(|known| known.name).collect();
        }
        Err(format!("no network here has the weights `{name}`; there are {}", same.join(", ")))
    }

    /// The network that they are of.
    pub fn spec(&self) -> Option<ModelSpec> {
        crate::named(self.model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_alone_stand_for_the_first_and_others_are_refused_with_what_there_is() {
        let name = |text: &str| Published::named(text).map(|found| found.map(|found| found.name));
        assert_eq!(name("timm:resnet18"), Ok(Some("timm:resnet18.a1_in1k".into())));
        assert_eq!(name("timm:resnet101"), Ok(Some("timm:resnet101.a1h_in1k".into())));
        assert_eq!(name("torchvision:resnet50"), Ok(Some("torchvision:resnet50.IMAGENET1K_V1".into())));
        assert_eq!(name("resnet50.pth"), Ok(None));
        assert_eq!(name("timmy/x.pth"), Ok(None));
        let refused = name("timm:vit_base_patch16_224").expect_err("no transformer here");
        assert!(
            refused.contains("timm:resnet152.tv2_in1k") && !refused.contains("torchvision:"),
            "{refused}"
        );
        let refused = name("timm:resnet18.a9_in1k").expect_err("nobody trained it so");
        assert!(refused.contains("timm:resnet18.tv_in1k") && !refused.contains("resnet50"), "{refused}");
        assert!(name("timm:resnet50d").is_err());
    }

    #[test]
    fn each_is_of_a_network_of_the_zoo() {
        for known in all() {
            assert!(known.spec().is_some(), "{}", known.name);
            assert_eq!(crate::named(&known.name), known.spec(), "{}", known.name);
            assert!(crate::pixels(&known.name).is_some(), "{}", known.name);
        }
    }
}
