//! What one line in a catalogue gives a part: a name, defaults, and errors that say where.

use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sokd_core::{Build, BuildCx, Result, misfit};

/// Something to build.
pub trait Greeting {
    /// What it says.
    fn words(&self) -> String;
}

mod plain {
    use super::{Build, BuildCx, Deserialize, Greeting, Result, Serialize};

    /// Says so many hellos.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    pub struct PlainHello {
        pub how_often: usize,
    }

    impl Default for PlainHello {
        fn default() -> Self {
            Self { how_often: 1 }
        }
    }

    impl Greeting for PlainHello {
        fn words(&self) -> String {
            "hello ".repeat(self.how_often)
        }
    }

    impl Build<dyn Greeting> for PlainHello {
        fn build(&self, _: &BuildCx<'_>) -> Result<Box<dyn Greeting>> {
            Ok(Box::new(self.clone()))
        }
    }
}

sokd_core::catalog! {
    /// A greeting a recipe may name.
    pub enum GreetingSpec: dyn Greeting {
        PlainHello(plain::PlainHello),
    }
}

fn parse(text: &str) -> Result<GreetingSpec, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn a_part_answers_to_its_name_and_keeps_its_settings() {
    let spec = parse(r#"{"type": "plain-hello", "how-often": 2}"#).expect("it parses");
    assert_eq!(spec.name(), "plain-hello");
    assert_eq!(serde_json::to_value(&spec).expect("it prints")["how-often"], 2);
    let vars = VarBuilder::zeros(candle::DType::F32, &candle::Device::Cpu);
    let built = spec
        .build(&BuildCx { vars, data: None, teacher: None, student: None, preview: None })
        .expect("it builds");
    assert_eq!(built.words(), "hello hello ");
    assert_eq!(GreetingSpec::names(), ["plain-hello"]);
    assert_eq!(GreetingSpec::examples().len(), 1);
}

#[test]
fn a_faulty_field_is_named_with_its_path() {
    let error = parse(r#"{"type": "plain-hello", "how-ofen": 2}"#).unwrap_err();
    let (path, message) = misfit(&error).expect("the error carries a path");
    assert_eq!(path, "how-ofen");
    assert!(message.contains("how-often"), "{message}");
    let error = parse(r#"{"type": "plain-hello", "how-often": "twice"}"#).unwrap_err();
    assert_eq!(misfit(&error).expect("the error carries a path").0, "how-often");
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let error = parse(r#"{"type": "plain-helo"}"#).unwrap_err();
    let (path, message) = misfit(&error).expect("the error carries a path");
    assert_eq!(path, "type");
    assert!(message.contains("`plain-hello`"), "{message}");
    assert!(parse("{}").unwrap_err().contains("missing field `type`"));
}
