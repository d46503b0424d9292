//! How a part gets a name.

use crate::{BackboneInfo, DatasetInfo, DistillLoss, Error, Preview, Result};
use candle_nn::VarBuilder;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::{Map, Value};

/// What a part may need to be built: where its weights live, what it will see, whom it stands between.
#[derive(Clone)]
pub struct BuildCx<'a> {
    /// Where its weights are found or drawn, by name.
    pub vars: VarBuilder<'a>,
    /// What it will see.
    pub data: Option<&'a DatasetInfo>,
    /// Who is learned from.
    pub teacher: Option<&'a BackboneInfo>,
    /// Who learns.
    pub student: Option<&'a BackboneInfo>,
    /// The teacher and the images, for parts that learn of them before the first step.
    pub preview: Option<Preview<'a>>,
}

impl<'a> BuildCx<'a> {
    /// For a network, which knows its images and no other network.
    pub fn alone(vars: VarBuilder<'a>, data: &'a DatasetInfo) -> Self {
        Self { vars, data: Some(data), teacher: None, student: None, preview: None }
    }

    /// The data set, or an error that says who needs one.
    pub fn data(&self, who: &'static str) -> Result<&'a DatasetInfo> {
        self.data.ok_or(Error::NoData(who))
    }

    /// The teacher, or an error that says who needs one.
    pub fn teacher(&self, who: &'static str) -> Result<&'a BackboneInfo> {
        self.teacher.ok_or(Error::NoTeacher(who))
    }

    /// The student, or an error that says who needs one.
    pub fn student(&self, who: &'static str) -> Result<&'a BackboneInfo> {
        self.student.ok_or(Error::NoStudent(who))
    }

    /// The teacher and the images before the first step, or an error that says who needs a teacher.
    pub fn preview(&self, who: &'static str) -> Result<Preview<'a>> {
        self.preview.ok_or(Error::NoTeacher(who))
    }
}

/// A configuration that becomes a `T`.
pub trait Build<T: ?Sized> {
    /// Weights of its own are drawn or found under `cx.vars`.
    fn build(&self, cx: &BuildCx<'_>) -> Result<Box<T>>;
}

/// A loss without weights of its own is its own configuration.
impl<L: DistillLoss + Clone + 'static> Build<dyn DistillLoss> for L {
    fn build(&self, _: &BuildCx<'_>) -> Result<Box<dyn DistillLoss>> {
        Ok(Box::new(self.clone()))
    }
}

/// Declares the parts of one kind: each line is a module and the type in it that a recipe may name.
///
/// A line gives the part its name in recipes (the type's, in kebab case), its defaults, refusal of unknown fields
/// with the path to them, an entry in the JSON Schema and in the conformance suite. The second form gathers parts
/// that live in other crates. `AsRef<dyn Trait>` in place of the target is for parts that are not built out of
/// weights: each is its own configuration, and the catalogue lends it as what it is. `Spec: Target = One | Other` joins whole
/// catalogues: a part added to one of them is in the joined one.
#[macro_export]
macro_rules! catalog {
    ($(#[$meta:meta])* pub enum $Spec:ident: $Target:ty = $($Part:ident($Catalog:ty))|+) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, $crate::__private::serde::Serialize)]
        #[serde(untagged, crate = "sokd_core::__private::serde")]
        #[allow(missing_docs)]
        pub enum $Spec { $($Part($Catalog)),+ }

        impl<'de> $crate::__private::serde::Deserialize<'de> for $Spec {
            fn deserialize<D>(deserializer: D) -> ::std::result::Result<Self, D::Error>
            where
                D: $crate::__private::serde::Deserializer<'de>,
            {
                let names = Self::names();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let (name, fields) = $crate::__private::tagged(deserializer, &names)?;
                $(if <$Catalog>::names().contains(&name) {
                    return $crate::__private::whole(name, fields).map(Self::$Part);
                })+
                Err($crate::__private::unknown(&name, &names))
            }
        }

        impl $crate::__private::schemars::JsonSchema for $Spec {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($Spec).into()
            }

            fn json_schema(
                generator: &mut $crate::__private::schemars::SchemaGenerator,
            ) -> $crate::__private::schemars::Schema {
                $crate::__private::joined(vec![
                    $(<$Catalog as $crate::__private::schemars::JsonSchema>::json_schema(generator)),+
                ])
            }
        }

        impl $crate::Build<$Target> for $Spec {
            fn build(&self, cx: &$crate::BuildCx<'_>) -> $crate::Result<Box<$Target>> {
                match self { $(Self::$Part(part) => $crate::Build::<$Target>::build(part, cx)),+ }
            }
        }

        impl $Spec {
            /// The names that recipes use, in the order of the catalogues.
            pub fn names() -> Vec<String> {
                [$(<$Catalog>::names()),+].concat()
            }

            /// Every entry at its defaults.
            pub fn examples() -> Vec<Self> {
                let mut examples = Vec::new();
                $(examples.extend(<$Catalog>::examples().into_iter().map(Self::$Part));)+
                examples
            }

            /// The name that recipes use for this part.
            pub fn name(&self) -> String {
                match self { $(Self::$Part(part) => part.name()),+ }
            }
        }
    };
    ($(#[$meta:meta])* pub enum $Spec:ident: AsRef<dyn $Trait:path> { $($Variant:ident($Type:path)),+ $(,)? }) => {
        $crate::catalog! { @named $(#[$meta])* $Spec { $($Variant($Type)),+ } }

        impl AsRef<dyn $Trait> for $Spec {
            fn as_ref(&self) -> &(dyn $Trait + 'static) {
                match self { $(Self::$Variant(part) => part),+ }
            }
        }
    };
    ($(#[$meta:meta])* pub enum $Spec:ident: AsRef<dyn $Trait:path> { $($module:ident::$Type:ident),+ $(,)? }) => {
        $(pub mod $module;)+
        $crate::catalog! { $(#[$meta])* pub enum $Spec: AsRef<dyn $Trait> { $($Type($module::$Type)),+ } }
    };
    ($(#[$meta:meta])* pub enum $Spec:ident: $Target:ty { $($module:ident::$Type:ident),+ $(,)? }) => {
        $(pub mod $module;)+
        $crate::catalog! { $(#[$meta])* pub enum $Spec: $Target { $($Type($module::$Type)),+ } }
    };
    ($(#[$meta:meta])* pub enum $Spec:ident: $Target:ty { $($Variant:ident($Type:path)),+ $(,)? }) => {
        $crate::catalog! { @named $(#[$meta])* $Spec { $($Variant($Type)),+ } }

        impl $crate::Build<$Target> for $Spec {
            fn build(&self, cx: &$crate::BuildCx<'_>) -> $crate::Result<Box<$Target>> {
                match self { $(Self::$Variant(config) => $crate::Build::<$Target>::build(config, cx)),+ }
            }
        }
    };
    (@named $(#[$meta:meta])* $Spec:ident { $($Variant:ident($Type:path)),+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, $crate::__private::serde::Serialize, $crate::__private::schemars::JsonSchema)]
        #[serde(tag = "type", rename_all = "kebab-case", crate = "sokd_core::__private::serde")]
        #[schemars(crate = "sokd_core::__private::schemars")]
        #[allow(missing_docs)]
        pub enum $Spec { $($Variant($Type)),+ }

        impl<'de> $crate::__private::serde::Deserialize<'de> for $Spec {
            fn deserialize<D>(deserializer: D) -> ::std::result::Result<Self, D::Error>
            where
                D: $crate::__private::serde::Deserializer<'de>,
            {
                let (name, fields) = $crate::__private::tagged(deserializer, Self::NAMES)?;
                $(if name == $crate::__private::kebab(stringify!($Variant)) {
                    return $crate::__private::part(fields).map(Self::$Variant);
                })+
                Err($crate::__private::unknown(&name, Self::NAMES))
            }
        }

        impl $Spec {
            /// The types' own names, in the order of the catalogue.
            const NAMES: &'static [&'static str] = &[$(stringify!($Variant)),+];

            /// The names that recipes use, in the order of the catalogue.
            pub fn names() -> Vec<String> {
                Self::NAMES.iter().map(|name| $crate::__private::kebab(name)).collect()
            }

            /// Every entry at its defaults: what the conformance suite walks.
            pub fn examples() -> Vec<Self> {
                vec![$(Self::$Variant(<$Type>::default())),+]
            }

            /// The name that recipes use for this part.
            pub fn name(&self) -> String {
                $crate::__private::kebab(match self { $(Self::$Variant(_) => stringify!($Variant)),+ })
            }
        }
    };
}

/// `CrossEntropy` → `cross-entropy`, as serde's `kebab-case`.
pub fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            out.push('-');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

/// Takes `type` out of a table. serde's own internally tagged enums lose the path to a faulty field; ours keep it.
pub fn tagged<'de, D: Deserializer<'de>>(
    deserializer: D,
    names: &[&str],
) -> Result<(String, Map<String, Value>), D::Error> {
    let mut fields = Map::deserialize(deserializer)?;
    match fields.remove("type") {
        Some(Value::String(name)) => Ok((name, fields)),
        Some(other) => Err(D::Error::custom(mark("type", &format!("expected a name, got {other}")))),
        None => Err(D::Error::custom(format!("missing field `type`, expected one of {}", listed(names)))),
    }
}

/// The rest of a table as the part that `type` named.
pub fn part<T: DeserializeOwned, E: serde::de::Error>(fields: Map<String, Value>) -> Result<T, E> {
    serde_path_to_error::deserialize(Value::Object(fields))
        .map_err(|error| E::custom(mark(&error.path().to_string(), &error.inner().to_string())))
}

/// A table as the part of a catalogue that its `type`, taken out before, names.
pub fn whole<T: DeserializeOwned, E: serde::de::Error>(
    name: String,
    mut fields: Map<String, Value>,
) -> Result<T, E> {
    fields.insert("type".to_owned(), Value::String(name));
    T::deserialize(Value::Object(fields)).map_err(E::custom)
}

/// The schemas of several catalogues as that of one.
pub fn joined(catalogs: Vec<schemars::Schema>) -> schemars::Schema {
    let mut whole = schemars::Schema::default();
    for catalog in catalogs {
        for (name, value) in catalog.as_object().into_iter().flatten() {
            match (whole.get_mut(name), value) {
                (Some(Value::Array(parts)), Value::Array(more)) => parts.extend(more.clone()),
                (Some(_), _) => {}
                (None, value) => {
                    whole.insert(name.clone(), value.clone());
                }
            }
        }
    }
    whole
}

/// A `type` that no line of the catalogue has.
pub fn unknown<E: serde::de::Error>(name: &str, names: &[&str]) -> E {
    E::custom(mark("type", &format!("unknown variant `{name}`, expected one of {}", listed(names))))
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{}`", kebab(name))).collect::<Vec<_>>().join(", ")
}

const OPEN: char = '\u{2068}';
const CLOSE: char = '\u{2069}';

fn mark(path: &str, message: &str) -> String {
    format!("{OPEN}{path}{CLOSE}{message}")
}

/// The path below the part and the message, of an error that [`catalog!`] raised; parts inside parts join their
/// paths. The marks are Unicode's invisible isolates, so an error printed as it is reads well too.
pub fn misfit(message: &str) -> Option<(String, &str)> {
    let (path, rest) = message.strip_prefix(OPEN)?.split_once(CLOSE)?;
    Some(match misfit(rest) {
        Some((below, message)) => (format!("{path}.{below}"), message),
        None => (path.to_owned(), rest),
    })
}
