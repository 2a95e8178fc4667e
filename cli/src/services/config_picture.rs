//! The explanation of a config as a picture: streams, lookups, buckets and tables, and what leads from
//! one to the other.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use tidewater_sync_config::{
    AccessPathExplanation, Explanation, FamilyExplanation, KeyExplanation, NotExistsExplanation,
    StepExplanation, StreamExplanation,
};

/// The longest line of a label, in characters. A longer one is cut: `--format text` has all of it.
const LINE_CHARS_MAX: usize = 60;

/// The longest line of a label in JSON, in characters. A program cuts it as it has room.
const JSON_LINE_CHARS_MAX: usize = 300;

/// Nodes of the largest picture in JSON. A page cannot show more, and has to arrange them.
const JSON_NODES_MAX: usize = 400;

/// Edges of the largest picture in JSON.
const JSON_EDGES_MAX: usize = 2_000;

/// A picture in the order in which its parts were found.
pub(crate) struct Picture {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// The numbers of the nodes of lookups and tables, which several streams may share.
    lookups: BTreeMap<usize, usize>,
    tables: BTreeMap<String, usize>,
}

struct Node {
    kind: NodeKind,
    label: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NodeKind {
    Stream,
    Lookup,
    Buckets,
    Table,
}

impl NodeKind {
    /// Returns the kind's name in JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Lookup => "lookup",
            Self::Buckets => "buckets",
            Self::Table => "table",
        }
    }
}

struct Edge {
    from: usize,
    to: usize,
    label: Vec<String>,
    /// True where the lookup must find nothing.
    is_absence: bool,
}

impl Picture {
    /// Draws an explanation.
    pub(crate) fn new(explanation: &Explanation) -> Self {
        let mut picture = Self {
            nodes: Vec::new(),
            edges: Vec::new(),
            lookups: BTreeMap::new(),
            tables: BTreeMap::new(),
        };
        for stream in &explanation.streams {
            picture.stream(stream);
        }
        picture
    }

    fn stream(&mut self, stream: &StreamExplanation) {
        let kind = if stream.is_bucket_definition { "bucket definition" } else { "stream" };
        let subscribed = if stream.auto_subscribe { "by default" } else { "on request" };
        let label = vec![
            format!("{kind} {}", stream.name),
            format!("{subscribed}, priority {}", stream.priority),
        ];
        let node = self.node(NodeKind::Stream, label);
        for family in &stream.families {
            self.family(node, family);
        }
    }

    fn family(&mut self, stream: usize, family: &FamilyExplanation) {
        let buckets = self.node(NodeKind::Buckets, vec![format!("buckets {}", family.name)]);
        for path in &family.found_by {
            self.path(stream, buckets, path);
        }

        for rows in &family.rows {
            let table = self.table(&rows.table);
            let mut label = conditions("by", &rows.keys);
            label.extend(conditions("where", &rows.conditions));
            self.edge(table, buckets, label);
        }
    }

    /// Draws the way from a stream over its lookups to the buckets.
    fn path(&mut self, stream: usize, buckets: usize, path: &AccessPathExplanation) {
        let mut label = conditions("if", &path.conditions);
        let mut at = stream;
        for step in &path.steps {
            match step {
                StepExplanation::Value { .. } => {}
                StepExplanation::Elements { conditions: filters, .. } => {
                    label.extend(conditions("if", filters));
                }
                StepExplanation::Lookup { .. } => {
                    let Some((lookup, keys)) = self.lookup(step) else { continue };
                    label.extend(keys);
                    self.edge(at, lookup, std::mem::take(&mut label));
                    at = lookup;
                }
                StepExplanation::Equal { left, right } => label.push(format!("{left} = {right}")),
            }
        }

        let finds_several = path.steps.iter().any(|step| match step {
            StepExplanation::Lookup { .. } | StepExplanation::Elements { .. } => true,
            StepExplanation::Value { .. } | StepExplanation::Equal { .. } => false,
        });
        let word = if finds_several { "one for each" } else { "one for" };
        label.extend(conditions(word, &path.parameters));
        self.edge(at, buckets, label);
        for absent in &path.absent {
            self.absence(buckets, absent);
        }
    }

    /// Draws the lookups that must not find anything.
    fn absence(&mut self, buckets: usize, absent: &NotExistsExplanation) {
        for step in &absent.steps {
            if let Some((lookup, keys)) = self.lookup(step) {
                let mut label = vec!["none if found".to_owned()];
                label.extend(keys);
                self.edges.push(Edge { from: lookup, to: buckets, label, is_absence: true });
            }
        }
        for nested in &absent.absent {
            self.absence(buckets, nested);
        }
    }

    /// Returns the node of a step's lookup and the equalities by which it finds rows.
    fn lookup(&mut self, step: &StepExplanation) -> Option<(usize, Vec<String>)> {
        let StepExplanation::Lookup { lookup, table, keys, conditions: filters, .. } = step else {
            return None;
        };
        let equalities =
            keys.iter().map(|KeyExplanation { row, value }| format!("{row} = {value}"));
        let equalities = equalities.collect();
        if let Some(&known) = self.lookups.get(lookup) {
            return Some((known, equalities));
        }

        let rows: Vec<_> = keys.iter().map(|key| key.row.clone()).collect();
        let mut label = vec![format!("lookup in {table}")];
        label.extend(conditions("by", &rows));
        let node = self.node(NodeKind::Lookup, label);
        self.lookups.insert(*lookup, node);

        let source = self.table(table);
        self.edge(source, node, conditions("where", filters));
        Some((node, equalities))
    }

    fn table(&mut self, name: &str) -> usize {
        if let Some(&known) = self.tables.get(name) {
            return known;
        }
        let node = self.node(NodeKind::Table, vec![format!("table {name}")]);
        self.tables.insert(name.to_owned(), node);
        node
    }

    fn node(&mut self, kind: NodeKind, label: Vec<String>) -> usize {
        self.nodes.push(Node { kind, label });
        self.nodes.len() - 1
    }

    fn edge(&mut self, from: usize, to: usize, label: Vec<String>) {
        self.edges.push(Edge { from, to, label, is_absence: false });
    }

    /// Returns the picture as nodes and edges. An edge names its nodes by their places in the list. A
    /// picture that is too large is cut.
    pub(crate) fn json(&self) -> Value {
        let label = |lines: &[String]| -> Vec<String> {
            lines.iter().map(|line| fitting(line, JSON_LINE_CHARS_MAX)).collect()
        };
        let nodes = self.nodes.iter().take(JSON_NODES_MAX);
        let nodes: Vec<_> = nodes
            .map(|node| json!({ "kind": node.kind.name(), "label": label(&node.label) }))
            .collect();
        let edges = self.edges.iter().filter(|edge| edge.from.max(edge.to) < JSON_NODES_MAX);
        let edges: Vec<_> = edges
            .take(JSON_EDGES_MAX)
            .map(|edge| {
                json!({
                    "from": edge.from,
                    "to": edge.to,
                    "label": label(&edge.label),
                    "is_absence": edge.is_absence,
                })
            })
            .collect();
        let is_complete = nodes.len() == self.nodes.len() && edges.len() == self.edges.len();
        json!({ "nodes": nodes, "edges": edges, "is_complete": is_complete })
    }

    /// Returns the picture in the language of Mermaid.
    pub(crate) fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for (number, Node { kind, label }) in self.nodes.iter().enumerate() {
            let (open, close) = match kind {
                NodeKind::Stream => ("([", "])"),
                NodeKind::Lookup => ("{{", "}}"),
                NodeKind::Buckets => ("[", "]"),
                NodeKind::Table => ("[(", ")]"),
            };
            line(&mut text, &format!("n{number}{open}\"{}\"{close}", mermaid_label(label)));
        }
        for Edge { from, to, label, is_absence } in &self.edges {
            let arrow = if *is_absence { "-.->" } else { "-->" };
            let label = if label.is_empty() {
                String::new()
            } else {
                format!("|\"{}\"|", mermaid_label(label))
            };
            line(&mut text, &format!("n{from} {arrow}{label} n{to}"));
        }
        text
    }

    /// Returns the picture in the language of Graphviz.
    pub(crate) fn dot(&self) -> String {
        let mut text = "digraph sync_config {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
        for (number, Node { kind, label }) in self.nodes.iter().enumerate() {
            let shape = match kind {
                NodeKind::Stream => "ellipse",
                NodeKind::Lookup => "hexagon",
                NodeKind::Buckets => "box",
                NodeKind::Table => "cylinder",
            };
            line(&mut text, &format!("n{number} [shape={shape}, label=\"{}\"];", dot_label(label)));
        }
        for Edge { from, to, label, is_absence } in &self.edges {
            let style = if *is_absence { ", style=dashed" } else { "" };
            let label = dot_label(label);
            line(&mut text, &format!("n{from} -> n{to} [label=\"{label}\"{style}];"));
        }
        text.push_str("}\n");
        text
    }
}

/// Returns a line of a label for values that belong together, or none without values.
fn conditions(word: &str, values: &[String]) -> Vec<String> {
    if values.is_empty() { Vec::new() } else { vec![format!("{word} {}", values.join(", "))] }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "  {line}").expect("a String takes every write");
}

/// Cuts a line of a label that is too long. Control characters would end the line.
fn fitting(text: &str, chars_max: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() <= chars_max {
        return plain.collect();
    }
    plain.take(chars_max - 3).chain("...".chars()).collect()
}

/// Returns a label between quotes. Mermaid reads `#` as the begin of an entity, and tags as HTML.
fn mermaid_label(lines: &[String]) -> String {
    let escaped = lines.iter().map(|line| {
        let mut text = String::new();
        for character in fitting(line, LINE_CHARS_MAX).chars() {
            match character {
                '"' | '#' | '&' | '<' | '>' | '`' | '\\' => {
                    write!(text, "#{};", u32::from(character)).expect("a String takes every write");
                }
                plain => text.push(plain),
            }
        }
        text
    });
    escaped.collect::<Vec<_>>().join("<br/>")
}

fn dot_label(lines: &[String]) -> String {
    let escaped = lines
        .iter()
        .map(|line| fitting(line, LINE_CHARS_MAX).replace('\\', "\\\\").replace('"', "\\\""));
    escaped.collect::<Vec<_>>().join("\\n")
}

#[cfg(test)]
mod tests {
    use tidewater_sync_config::SyncConfig;

    use super::*;

    const LISTS: &str = "
config: { edition: 3 }
streams:
  lists:
    auto_subscribe: true
    queries:
      - SELECT * FROM lists WHERE owner_id = auth.user_id()
      - SELECT * FROM todos WHERE NOT hidden AND list_id IN
          (SELECT id FROM lists WHERE owner_id = auth.user_id())
";

    fn picture(config: &str) -> Picture {
        Picture::new(&SyncConfig::compile(config).unwrap().explain())
    }

    #[test]
    fn a_picture_leads_from_streams_and_tables_to_buckets() {
        let expected = r#"flowchart LR
  n0(["stream lists<br/>by default, priority 3"])
  n1["buckets lists|0"]
  n2[("table public.lists")]
  n3["buckets lists|1"]
  n4{{"lookup in public.lists<br/>by owner_id"}}
  n5[("table public.todos")]
  n0 -->|"one for auth.user_id()"| n1
  n2 -->|"by owner_id"| n1
  n2 --> n4
  n0 -->|"owner_id = auth.user_id()"| n4
  n4 -->|"one for each lists.id"| n3
  n5 -->|"by list_id<br/>where NOT hidden"| n3
"#;
        assert_eq!(picture(LISTS).mermaid(), expected);
    }

    #[test]
    fn the_same_picture_for_graphviz() {
        let dot = picture(LISTS).dot();
        assert!(dot.starts_with("digraph sync_config {\n"), "{dot}");
        for line in [
            r#"  n0 [shape=ellipse, label="stream lists\nby default, priority 3"];"#,
            r#"  n4 [shape=hexagon, label="lookup in public.lists\nby owner_id"];"#,
            r#"  n2 -> n4 [label=""];"#,
            r#"  n5 -> n3 [label="by list_id\nwhere NOT hidden"];"#,
        ] {
            assert!(dot.lines().any(|found| found == line), "{line}\n{dot}");
        }
    }

    #[test]
    fn an_anti_join_is_a_dashed_line() {
        let config = "
config: { edition: 3 }
streams:
  open:
    query: SELECT * FROM lists WHERE id = subscription.parameter('list')
      AND subscription.parameter('list') NOT IN (SELECT list_id FROM closed)
";
        let mermaid = picture(config).mermaid();
        assert!(mermaid.contains("-.->|\"none if found"), "{mermaid}");
    }

    #[test]
    fn labels_hold_any_text() {
        let hostile = vec!["a\"b#c<i>\\`&\n".to_owned(), "x".repeat(100)];
        let long = format!("{}...", "x".repeat(57));
        let expected = format!("a#34;b#35;c#60;i#62;#92;#96;#38; <br/>{long}");
        assert_eq!(mermaid_label(&hostile), expected);
        assert_eq!(dot_label(&hostile), format!("a\\\"b#c<i>\\\\`& \\n{long}"));
    }

    #[test]
    fn the_same_picture_for_programs() {
        let json = picture(LISTS).json();
        assert_eq!(
            json["nodes"][4],
            json!({"kind": "lookup", "label": ["lookup in public.lists", "by owner_id"]})
        );
        let edges = json["edges"].as_array().unwrap();
        let expected = json!({
            "from": 5, "to": 3, "label": ["by list_id", "where NOT hidden"], "is_absence": false,
        });
        assert!(edges.contains(&expected), "{edges:?}");
        assert_eq!(json["is_complete"], true);
    }

    #[test]
    fn a_picture_for_programs_is_bounded() {
        let mut config = "config: { edition: 3 }\nstreams:\n".to_owned();
        for number in 0..300 {
            config += &format!("  s{number}: {{ query: SELECT * FROM t{number} }}\n");
        }
        let json = picture(&config).json();
        assert_eq!(json["nodes"].as_array().unwrap().len(), JSON_NODES_MAX);
        assert_eq!(json["is_complete"], false);
        for edge in json["edges"].as_array().unwrap() {
            assert!(edge["from"].as_u64().unwrap() < 400 && edge["to"].as_u64().unwrap() < 400);
        }
    }
}
