//! The table of all fields, `docs/fields.md`: rendered from the decoders, so that it says what they do.
//!
//! Every decoder tells what becomes of each field by the method it reads it with; a field that comes into effect
//! changes its state there and nowhere else. `UPDATE_DOCS=1 cargo test -p resources` writes the file anew.

use std::{any::type_name, fmt::Write, path::Path};

use crate::{
    Kind, MeshConfig,
    decode::{Decode, Effect, Fields, Shape},
    read,
};

/// A field of an object, as its decoder takes it.
pub(crate) struct Field {
    name: &'static str,
    effect: Effect,
    describe: fn(&str, &mut Table),
}

impl Field {
    pub(crate) fn of<T: Decode>(name: &'static str, effect: Effect) -> Self {
        Self { name, effect, describe: T::describe }
    }

    pub(crate) fn rest_warned() -> Self {
        Self { name: REST, effect: Effect::Warned, describe: |_, _| {} }
    }

    pub(crate) fn ignored(name: &'static str) -> Self {
        Self { name, effect: Effect::Ignored, describe: |_, _| {} }
    }
}

/// The objects of one kind.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    /// Objects described already, by type and effect, with their paths.
    seen: Vec<(&'static str, Option<Effect>, String)>,
    /// What becomes of everything in the object being described, when the object itself is not honoured.
    around: Option<Effect>,
}

enum Row {
    Object { path: String, fields: Vec<(Effect, &'static str)>, is_open: bool },
    As { path: String, other: String },
}

impl Table {
    /// Adds an object and those in it; one of a type that is there already is only named.
    pub(crate) fn add_object<T>(&mut self, path: &str, fields: &[Field], is_open: bool) {
        let key = (type_name::<T>(), self.around);
        if let Some((.., other)) = self.seen.iter().find(|(name, around, _)| (*name, *around) == key) {
            return self.rows.push(Row::As { path: path.to_owned(), other: other.clone() });
        }
        self.seen.push((key.0, key.1, path.to_owned()));
        let effect = |field: &Field| match (self.around, field.effect) {
            (Some(around), Effect::Honoured | Effect::Deprecated | Effect::Unused) => around,
            (_, effect) => effect,
        };
        let listed = fields.iter().map(|field| (effect(field), field.name)).collect();
        self.rows.push(Row::Object { path: path.to_owned(), fields: listed, is_open });
        for field in fields {
            let inside =
                if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
            let passes_on = !matches!(field.effect, Effect::Honoured | Effect::Deprecated);
            let before = self.around;
            self.around = before.or(passes_on.then_some(field.effect));
            (field.describe)(&inside, self);
            self.around = before;
        }
    }

    fn render(&self) -> String {
        let mut text =
            "| object | honoured | no effect yet | otherwise |\n| --- | --- | --- | --- |\n".to_owned();
        for row in &self.rows {
            match row {
                Row::Object { path, .. } if path.is_empty() && self.rows.len() > 1 && self.has_spec() => {}
                Row::Object { path, fields, is_open } => render_object(path, fields, *is_open, &mut text),
                Row::As { path, other } => writeln!(text, "| `{path}` | as `{other}` | | |").unwrap(),
            }
        }
        text
    }

    fn has_spec(&self) -> bool {
        self.rows.iter().any(|row| matches!(row, Row::Object { path, .. } if path == "spec"))
    }
}

/// Stands for every field that is not named.
const REST: &str = "everything else";

fn render_object(path: &str, fields: &[(Effect, &'static str)], is_open: bool, text: &mut String) {
    let with = |wanted: &[Effect]| {
        let shown = |name: &str| if name == REST { name.to_owned() } else { format!("`{name}`") };
        let names = fields.iter().filter(|(effect, _)| wanted.contains(effect)).map(|(_, name)| shown(name));
        names.collect::<Vec<_>>().join(", ")
    };
    let mut otherwise: Vec<String> = [
        (Effect::Deprecated, "deprecated"),
        (Effect::Refused, "refused"),
        (Effect::Unused, "read, unused"),
        (Effect::Ignored, "ignored"),
    ]
    .into_iter()
    .map(|(effect, word)| (word, with(&[effect])))
    .filter(|(_, names)| !names.is_empty())
    .map(|(word, names)| format!("{word}: {names}"))
    .collect();
    if is_open && !fields.iter().any(|(_, name)| *name == REST) {
        otherwise.push("ignored: everything else".to_owned());
    }
    let (path, otherwise) = (if path.is_empty() { "(top)" } else { path }, otherwise.join("; "));
    writeln!(
        text,
        "| `{path}` | {} | {} | {otherwise} |",
        with(&[Effect::Honoured]),
        with(&[Effect::Warned])
    )
    .unwrap();
}

const HEAD: &str = "# Fields\n\n\
    Every field of every kind that is read, and what becomes of it. This page is rendered from the decoders\n\
    (`agent/resources`) by a test, so it says what they do; [compatibility.md](compatibility.md) says what is special\n\
    about some.\n\n\
    - **honoured**: means what Istio means by it.\n\
    - **no effect yet**: read and checked; a warning names it.\n\
    - **deprecated**: honoured, and a warning tells the newer name.\n\
    - **refused**: costs the resource. **ignored**: not looked at. **read, unused**: nothing acts on it, nobody is told.\n\n\
    Every other field is unknown: a warning when running, an error in `validate`, with \"did you mean\" where a known one\n\
    is near. What `metadata` may hold stands under Namespace.\n";

fn whole_page() -> String {
    let mut page = HEAD.to_owned();
    for kind in Kind::ALL {
        writeln!(page, "\n## {kind}\n").unwrap();
        let no_effect = read::no_effect(kind);
        if let Some(message) = no_effect {
            writeln!(page, "The whole kind {message}.\n").unwrap();
        }
        let mut table = Table { around: no_effect.map(|_| Effect::Warned), ..Table::default() };
        read::describe(kind, &mut table);
        page += &table.render();
    }
    page += "\n## MeshConfig\n\n";
    let mut table = Table::default();
    MeshConfig::describe("", &mut table);
    page + &table.render()
}

#[test]
fn the_page_of_all_fields_says_what_the_decoders_do() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fields.md");
    let page = whole_page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = page.lines().zip(written.lines()).find(|(is, was)| is != was);
    assert!(
        page == written,
        "docs/fields.md differs from the decoders: run `UPDATE_DOCS=1 cargo test -p resources`\nfirst: {differs:?}"
    );
}

#[derive(Default)]
struct Outer;

impl Shape for Outer {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let _: Option<Inner> = fields.optional("one");
        let _: Option<Inner> = fields.planned("two");
        let _: Option<Vec<Inner>> = fields.optional("three");
        fields.ignore(&["four"]);
        Self
    }
}

#[derive(Default)]
struct Inner;

impl Shape for Inner {
    fn read(fields: &mut Fields<'_, '_, '_>) -> Self {
        let _: Option<u32> = fields.optional("a");
        let _: Option<u32> = fields.deprecated("b", "a");
        Self
    }
}

#[test]
fn what_is_within_a_field_without_effect_has_none() {
    let mut table = Table::default();
    Outer::describe("", &mut table);
    let rows: Vec<_> = table.render().lines().skip(2).map(str::to_owned).collect();
    let expected = [
        "| `(top)` | `one`, `three` | `two` | ignored: `four` |",
        "| `one` | `a` |  | deprecated: `b` |",
        "| `two` |  | `a`, `b` |  |",
        "| `three[]` | as `one` | | |",
    ];
    assert_eq!(rows, expected);
}
