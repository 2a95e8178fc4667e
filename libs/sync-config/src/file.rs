//! Contents of the YAML file, before its SQL is parsed.

pub(crate) mod diagnostic;
pub(crate) mod options;
pub(crate) mod source_file;
pub(crate) mod source_map;
pub(crate) mod suggestion;
pub(crate) mod yaml;

use tidewater_protocol::Priority;

use crate::edition::Edition;
use diagnostic::{Diagnostic, Findings, Position};
use options::{Options, read_bool, read_scalar, shorten, unknown_key};
use yaml::{Node, NodeValue, Scalar};

const ROOT_KEYS: &str = "config, with, streams, bucket_definitions, event_definitions";
const STREAM_KEYS: &str =
    "auto_subscribe, priority, accept_potentially_dangerous_queries, with, query, queries";
const DEFINITION_KEYS: &str = "priority, accept_potentially_dangerous_queries, parameters, data";

#[derive(Debug)]
pub(crate) struct ConfigFile<'a> {
    pub(crate) options: Options,
    /// CTEs of all streams.
    pub(crate) ctes: Vec<CteEntry<'a>>,
    pub(crate) streams: Vec<StreamEntry<'a>>,
    pub(crate) definitions: Vec<DefinitionEntry<'a>>,
}

/// Named query that other queries can select from.
#[derive(Debug)]
pub(crate) struct CteEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) position: Position,
    pub(crate) query: &'a Scalar,
}

#[derive(Debug)]
pub(crate) struct StreamEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) auto_subscribe: bool,
    pub(crate) priority: Priority,
    pub(crate) accepts_dangerous_queries: bool,
    pub(crate) ctes: Vec<CteEntry<'a>>,
    pub(crate) queries: Vec<&'a Scalar>,
}

#[derive(Debug)]
pub(crate) struct DefinitionEntry<'a> {
    pub(crate) name: &'a str,
    pub(crate) priority: Option<Priority>,
    pub(crate) accepts_dangerous_queries: bool,
    pub(crate) parameters: Vec<&'a Scalar>,
    pub(crate) data: Vec<&'a Scalar>,
}

/// Reads the sections of a file. Invalid parts are reported to `findings` and left out.
pub(crate) fn read<'a>(root: &'a Node, findings: &mut Findings) -> ConfigFile<'a> {
    let mut sections = Sections::default();
    if let Some(entries) = findings.ok(entries(root, "the file")) {
        for (key, name, value) in unique(entries, findings) {
            match name {
                "config" => sections.config = Some(value),
                "streams" => sections.streams = Some((key, value)),
                "bucket_definitions" => sections.definitions = Some((key, value)),
                "with" => sections.ctes = Some((key, value)),
                "event_definitions" => {
                    let message = format!("`{name}` has no effect: events are not delivered");
                    let warning = Diagnostic::warning(key.position, message);
                    findings
                        .push(warning.hint("remove it, unless a PowerSync service reads the file"));
                }
                _ => findings.push(unknown_key(key, ROOT_KEYS)),
            }
        }
    }

    if let Some(config) = sections.config
        && let NodeValue::Map(entries) = &config.value
    {
        unique(entries, findings);
    }
    let options = Options::read(sections.config, findings);
    sections.check_edition(options.edition, findings);
    let ctes = sections.ctes.map_or_else(Vec::new, |(_, node)| read_ctes(node, findings));
    let mut file = ConfigFile { options, ctes, streams: Vec::new(), definitions: Vec::new() };
    for (key, name, value) in section_entries(sections.streams, "`streams`", findings) {
        file.streams.extend(read_stream(key, name, value, options.edition, findings));
    }
    for (key, name, value) in
        section_entries(sections.definitions, "`bucket_definitions`", findings)
    {
        if file.streams.iter().any(|stream| stream.name == name) {
            findings.push(duplicate(key, name));
        } else {
            file.definitions.extend(read_definition(key, name, value, findings));
        }
    }

    if file.streams.is_empty() && file.definitions.is_empty() && !findings.has_errors() {
        let error = Diagnostic::error(root.position, "there is nothing to sync");
        findings.push(error.hint("define `streams` (edition 3) or `bucket_definitions`"));
    }

    file
}

#[derive(Default)]
struct Sections<'a> {
    config: Option<&'a Node>,
    ctes: Option<(&'a Node, &'a Node)>,
    streams: Option<(&'a Node, &'a Node)>,
    definitions: Option<(&'a Node, &'a Node)>,
}

impl Sections<'_> {
    fn check_edition(&self, edition: Edition, findings: &mut Findings) {
        if let Some((key, _)) = self.ctes
            && edition < Edition::Three
        {
            let error = Diagnostic::error(key.position, "`with` requires edition 3");
            findings.push(error.hint("set `edition: 3` in `config`"));
        }
        if let Some((key, _)) = self.definitions
            && edition == Edition::Three
        {
            let error = Diagnostic::error(
                key.position,
                "`bucket_definitions` are not supported in edition 3",
            );
            findings.push(error.hint("write `streams`, or set `edition: 2` in `config`"));
        }

        if let Some((key, _)) = self.streams {
            let hint = "set `edition: 3` in `config`";
            match edition {
                Edition::One | Edition::Two => {
                    let message =
                        "without edition 3 `streams` are an early form with fewer features";
                    findings.push(Diagnostic::warning(key.position, message).hint(hint));
                }
                Edition::Three => {}
            }
        }
    }
}

type KeyedNode<'a> = (&'a Node, &'a str, &'a Node);

fn entries<'a>(node: &'a Node, what: &str) -> Result<&'a [(Node, Node)], Diagnostic> {
    match &node.value {
        NodeValue::Map(entries) => Ok(entries),
        NodeValue::Scalar(scalar) if scalar.is_null() => {
            Err(Diagnostic::error(node.position, format!("{what} is empty"))
                .hint("indent what belongs to it"))
        }
        NodeValue::Scalar(_) | NodeValue::List(_) => {
            let message = format!("{what} must be a map, not {}", node.kind());
            Err(Diagnostic::error(node.position, message))
        }
    }
}

/// Returns the entries with text keys, each key once.
fn unique<'a>(entries: &'a [(Node, Node)], findings: &mut Findings) -> Vec<KeyedNode<'a>> {
    let mut seen = std::collections::HashSet::new();
    let mut list = Vec::with_capacity(entries.len());

    for (key, value) in entries {
        let NodeValue::Scalar(scalar) = &key.value else {
            findings.push(Diagnostic::error(key.position, "a key must be a scalar"));
            continue;
        };

        if seen.insert(scalar.text.as_str()) {
            list.push((key, scalar.text.as_str(), value));
        } else {
            findings.push(duplicate(key, &scalar.text));
        }
    }

    list
}

fn duplicate(key: &Node, name: &str) -> Diagnostic {
    Diagnostic::error(key.position, format!("`{}` is defined twice", shorten(name)))
}

fn section_entries<'a>(
    section: Option<(&'a Node, &'a Node)>,
    what: &str,
    findings: &mut Findings,
) -> Vec<KeyedNode<'a>> {
    let Some((_, node)) = section else { return Vec::new() };
    let Some(entries) = findings.ok(entries(node, what)) else { return Vec::new() };

    let mut list = unique(entries, findings);
    list.retain(|(key, name, _)| {
        let valid = is_name(name);
        if !valid {
            let message = format!("`{}` cannot be a name", shorten(name));
            let hint = format!("a name has 1 to {NAME_CHARS_MAX} characters");
            findings.push(Diagnostic::error(key.position, message).hint(hint));
        }
        valid
    });

    list
}

/// The longest name of a stream or bucket definition, in characters. It is a part of the names of
/// buckets, which each checkpoint repeats.
const NAME_CHARS_MAX: usize = 500;

/// Returns whether a name is valid. It may have any characters: bucket names are told apart by the tag
/// after it.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX
}

fn read_stream<'a>(
    key: &'a Node,
    name: &'a str,
    node: &'a Node,
    edition: Edition,
    findings: &mut Findings,
) -> Option<StreamEntry<'a>> {
    let entries = findings.ok(entries(node, &format!("the stream `{name}`")))?;
    let mut stream = StreamEntry {
        name,
        auto_subscribe: false,
        priority: Priority::default(),
        accepts_dangerous_queries: false,
        ctes: Vec::new(),
        queries: Vec::new(),
    };
    let mut query_keys = 0;
    for (key, name, value) in unique(entries, findings) {
        match name {
            "auto_subscribe" => {
                stream.auto_subscribe = findings.ok(read_bool(key, value)).unwrap_or_default();
            }
            "priority" => {
                stream.priority = findings.ok(read_priority(key, value)).unwrap_or_default();
            }
            "accept_potentially_dangerous_queries" => {
                stream.accepts_dangerous_queries =
                    findings.ok(read_bool(key, value)).unwrap_or_default();
            }
            "query" => {
                query_keys += 1;
                stream.queries.extend(findings.ok(read_sql(key, value)));
            }
            "with" | "queries" if edition < Edition::Three => {
                let message = format!("`{name}` requires edition 3");
                let error = Diagnostic::error(key.position, message);
                findings.push(error.hint("set `edition: 3` in `config`"));
                query_keys += usize::from(name == "queries");
            }
            "queries" => {
                query_keys += 1;
                stream.queries.extend(read_sql_list(key, value, findings));
            }
            "with" => stream.ctes = read_ctes(value, findings),
            _ => findings.push(unknown_key(key, STREAM_KEYS)),
        }
    }

    if query_keys != 1 {
        let message = format!("the stream `{name}` must have either `query` or `queries`");
        findings.push(Diagnostic::error(key.position, message));
    }

    Some(stream)
}

fn read_ctes<'a>(node: &'a Node, findings: &mut Findings) -> Vec<CteEntry<'a>> {
    let Some(entries) = findings.ok(entries(node, "`with`")) else { return Vec::new() };
    let mut ctes = Vec::new();
    for (key, name, value) in unique(entries, findings) {
        if let Some(query) = findings.ok(read_sql(key, value)) {
            ctes.push(CteEntry { name, position: key.position, query });
        }
    }
    ctes
}

fn read_definition<'a>(
    key: &'a Node,
    name: &'a str,
    node: &'a Node,
    findings: &mut Findings,
) -> Option<DefinitionEntry<'a>> {
    let entries = findings.ok(entries(node, &format!("the bucket definition `{name}`")))?;
    let mut definition = DefinitionEntry {
        name,
        priority: None,
        accepts_dangerous_queries: false,
        parameters: Vec::new(),
        data: Vec::new(),
    };
    let mut has_data = false;
    for (key, name, value) in unique(entries, findings) {
        match name {
            "priority" => definition.priority = findings.ok(read_priority(key, value)),
            "accept_potentially_dangerous_queries" => {
                definition.accepts_dangerous_queries =
                    findings.ok(read_bool(key, value)).unwrap_or_default();
            }
            "parameters" => match &value.value {
                // An empty list means one bucket, like a missing key.
                NodeValue::List(items) if items.is_empty() => {}
                NodeValue::List(_) => {
                    definition.parameters = read_sql_list(key, value, findings);
                }
                NodeValue::Scalar(_) | NodeValue::Map(_) => {
                    definition.parameters.extend(findings.ok(read_sql(key, value)));
                }
            },
            "data" => {
                has_data = true;
                definition.data = read_sql_list(key, value, findings);
            }
            _ => findings.push(unknown_key(key, DEFINITION_KEYS)),
        }
    }

    if !has_data {
        let message = format!("the bucket definition `{name}` has no `data` queries");
        findings.push(Diagnostic::error(key.position, message));
    }

    Some(definition)
}

fn read_priority(key: &Node, value: &Node) -> Result<Priority, Diagnostic> {
    let scalar = read_scalar(key, value, "a number from 0 to 3")?;
    scalar
        .as_integer()
        .and_then(|priority| u8::try_from(priority).ok())
        .and_then(Priority::new)
        .ok_or_else(|| {
            let message =
                format!("`priority` must be 0, 1, 2 or 3, not `{}`", shorten(&scalar.text));
            Diagnostic::error(value.position, message)
        })
}

fn read_sql<'a>(key: &Node, value: &'a Node) -> Result<&'a Scalar, Diagnostic> {
    let scalar = read_scalar(key, value, "an SQL query")?;
    if scalar.is_text() {
        return Ok(scalar);
    }
    let message = format!("`{}` is not an SQL query", shorten(&scalar.text));
    Err(Diagnostic::error(value.position, message))
}

fn read_sql_list<'a>(key: &'a Node, value: &'a Node, findings: &mut Findings) -> Vec<&'a Scalar> {
    match &value.value {
        NodeValue::List(items) if !items.is_empty() => {
            items.iter().filter_map(|item| findings.ok(read_sql(key, item))).collect()
        }
        NodeValue::List(_) | NodeValue::Scalar(_) | NodeValue::Map(_) => {
            let message = "expected a list of at least one SQL query";
            findings.push(Diagnostic::error(value.position, message));
            Vec::new()
        }
    }
}
