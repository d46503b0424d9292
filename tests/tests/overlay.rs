//! How layers of settings lie on one another, for any settings.

use proptest::prelude::*;
use sokd_experiments::overlay::{Document, Setting};
use toml::Value;

/// Tables of tables, numbers and lists. A key is always of one kind, as in recipes: where a table stood above a number
/// that stood above a table, it would matter which two meet first.
fn settings() -> impl Strategy<Value = Value> {
    let leaf = || {
        prop_oneof![
            (0i64..5).prop_map(Value::Integer),
            prop::collection::vec((0i64..3).prop_map(Value::Integer), 0..3).prop_map(Value::Array),
        ]
    };
    let leaves = move || prop::collection::btree_map("[abc]", leaf(), 0..4);
    let table =
        |entries: std::collections::BTreeMap<String, Value>| Value::Table(entries.into_iter().collect());
    leaves().prop_map(table).prop_recursive(3, 24, 4, move |below| {
        let tables = prop::collection::btree_map("[xyz]", below, 0..3);
        (leaves(), tables).prop_map(move |(leaves, tables)| table(leaves.into_iter().chain(tables).collect()))
    })
}

fn read(settings: &Value) -> Setting {
    let text = toml::to_string(settings).expect("settings can be written");
    Setting::read(&Document::new("proptest", text)).expect("and read")
}

/// `over` on `base`.
fn laid(base: &Value, over: &Value) -> Value {
    let mut setting = read(base);
    setting.lay(read(over));
    setting.plain()
}

/// Whether every setting of `part` stands in `whole` as it is.
fn within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Table(part), Value::Table(whole)) => {
            part.iter().all(|(key, value)| whole.get(key).is_some_and(|other| within(value, other)))
        }
        _ => part == whole,
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_which_layers_are_joined_first(a in settings(), b in settings(), c in settings()) {
        prop_assert_eq!(laid(&laid(&a, &b), &c), laid(&a, &laid(&b, &c)));
    }

    #[test]
    fn the_upper_layer_has_the_last_word(a in settings(), b in settings()) {
        let both = laid(&a, &b);
        prop_assert!(within(&b, &both), "{both}");
        prop_assert_eq!(laid(&both, &b), both);
    }

    #[test]
    fn a_layer_on_itself_or_on_nothing_changes_nothing(a in settings()) {
        let nothing = Value::Table(toml::Table::new());
        prop_assert_eq!(&laid(&a, &a), &a);
        prop_assert_eq!(&laid(&a, &nothing), &a);
        prop_assert_eq!(&laid(&nothing, &a), &a);
    }

    /// The one exception: a part that becomes another one begins anew.
    #[test]
    fn a_table_of_another_type_keeps_nothing(a in settings(), b in settings()) {
        let typed = |settings: &Value, name: &str| {
            let mut settings = settings.clone();
            settings.as_table_mut().expect("a table").insert("type".into(), name.into());
            settings
        };
        prop_assert_eq!(laid(&typed(&a, "kd"), &typed(&b, "dkd")), typed(&b, "dkd"));
        prop_assert_eq!(laid(&typed(&a, "kd"), &typed(&b, "kd")), typed(&laid(&a, &b), "kd"));
    }
}
