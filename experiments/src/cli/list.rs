use super::entries::{Entry, Kind, entries};
use super::{Session, print, print_json};
use crate::Result;
use clap::Args;

/// Names what there is: networks, losses, plug-ins, lenses, teachers, data sets, presets, recipes, tables.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd list                 everything
  sokd list models
  sokd list tables --json   for scripts
  sokd describe dkd         more about one of them")]
pub struct List {
    /// Only these.
    kind: Option<Kind>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub fn run(&self, _: &Session) -> Result<()> {
        let kinds = self.kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
        let found: Vec<(Kind, Vec<Entry>)> = kinds.into_iter().map(|kind| (kind, entries(kind))).collect();
        if self.json {
            let all: Vec<&Entry> = found.iter().flat_map(|(_, entries)| entries).collect();
            return print_json(&all);
        }
        let several = found.len() > 1;
        let section = |(kind, entries): &(Kind, Vec<Entry>)| {
            let wide = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
            let indent = if several { "  " } else { "" };
            let line =
                |entry: &Entry| format!("{indent}{:wide$}  {}", entry.name, entry.what).trim_end().to_owned();
            let lines: Vec<String> = entries.iter().map(line).collect();
            let heading = if several { format!("{}\n", kind.plural()) } else { String::new() };
            format!("{heading}{}", lines.join("\n"))
        };
        print(found.iter().map(section).collect::<Vec<_>>().join("\n\n"))
    }
}
