//! Functions of PostGIS geometries.

use super::well_known_binary::{Geometry, GeometryShape, Position};
use crate::value::{EvaluationError, Value, number};

/// Parses a geometry from hexadecimal text, as PostgreSQL prints it, or from bytes. Returns `None`
/// for numbers, which gives NULL.
fn parse(value: &Value<'_>) -> Result<Option<Geometry>, EvaluationError> {
    let geometry = match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => return Ok(None),
        Value::Text(text) => {
            hex::decode(text.as_ref()).ok().and_then(|bytes| Geometry::parse(&bytes))
        }
        Value::Blob(blob) => Geometry::parse(blob),
    };
    geometry.map(Some).ok_or(EvaluationError::NotGeometry)
}

pub(super) fn coordinate<'v>(
    value: &Value<'_>,
    select: impl Fn(&Position) -> f64,
) -> Result<Value<'v>, EvaluationError> {
    Ok(match parse(value)? {
        Some(Geometry { shape: GeometryShape::Point(Some(position)), .. }) => {
            Value::real(select(&position))
        }
        Some(_) | None => Value::Null,
    })
}

/// Evaluates `st_asgeojson`, without spaces. GeoJSON has no place for M and the spatial reference.
pub(super) fn as_geojson<'v>(value: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    Ok(parse(value)?.map_or(Value::Null, |geometry| {
        let mut text = String::new();
        push_geojson(&geometry, &mut text);
        Value::text(text)
    }))
}

fn push_geojson(geometry: &Geometry, out: &mut String) {
    let (name, member) = match &geometry.shape {
        GeometryShape::Point(_) => ("Point", "coordinates"),
        GeometryShape::LineString(_) => ("LineString", "coordinates"),
        GeometryShape::Polygon(_) => ("Polygon", "coordinates"),
        GeometryShape::MultiPoint(_) => ("MultiPoint", "coordinates"),
        GeometryShape::MultiLineString(_) => ("MultiLineString", "coordinates"),
        GeometryShape::MultiPolygon(_) => ("MultiPolygon", "coordinates"),
        GeometryShape::Collection(_) => ("GeometryCollection", "geometries"),
    };

    for part in ["{\"type\":\"", name, "\",\"", member, "\":"] {
        out.push_str(part);
    }

    if let GeometryShape::Collection(parts) = &geometry.shape {
        push_list('[', ']', parts, out, push_geojson);
    } else {
        push_coordinates(geometry, out);
    }

    out.push('}');
}

fn push_coordinates(geometry: &Geometry, out: &mut String) {
    match &geometry.shape {
        GeometryShape::Point(None) => out.push_str("[]"),
        GeometryShape::Point(Some(position)) => push_position_json(position, out),
        GeometryShape::LineString(positions) => push_positions_json(positions, out),
        GeometryShape::Polygon(rings) => push_list('[', ']', rings, out, |ring, out| {
            push_positions_json(ring, out);
        }),
        GeometryShape::MultiPoint(parts)
        | GeometryShape::MultiLineString(parts)
        | GeometryShape::MultiPolygon(parts)
        | GeometryShape::Collection(parts) => push_list('[', ']', parts, out, push_coordinates),
    }
}

fn push_positions_json(positions: &[Position], out: &mut String) {
    push_list('[', ']', positions, out, push_position_json);
}

fn push_position_json(position: &Position, out: &mut String) {
    out.push('[');
    number::push_real_json(position.x, out);
    for real in [Some(position.y), position.z].into_iter().flatten() {
        out.push(',');
        number::push_real_json(real, out);
    }
    out.push(']');
}

/// Evaluates `st_astext`: well-known text, with numbers as JavaScript prints them.
pub(super) fn as_text<'v>(value: &Value<'_>) -> Result<Value<'v>, EvaluationError> {
    Ok(parse(value)?.map_or(Value::Null, |geometry| {
        let mut text = String::new();
        push_text(&geometry, &mut text);
        Value::text(text)
    }))
}

fn push_text(geometry: &Geometry, out: &mut String) {
    let (name, is_empty) = match &geometry.shape {
        GeometryShape::Point(position) => ("POINT", position.is_none()),
        GeometryShape::LineString(positions) => ("LINESTRING", positions.is_empty()),
        GeometryShape::Polygon(rings) => ("POLYGON", rings.is_empty()),
        GeometryShape::MultiPoint(parts) => ("MULTIPOINT", parts.is_empty()),
        GeometryShape::MultiLineString(parts) => ("MULTILINESTRING", parts.is_empty()),
        GeometryShape::MultiPolygon(parts) => ("MULTIPOLYGON", parts.is_empty()),
        GeometryShape::Collection(parts) => ("GEOMETRYCOLLECTION", parts.is_empty()),
    };

    out.push_str(name);

    out.push_str(match (geometry.has_z, geometry.has_m) {
        (false, false) if is_empty => " ",
        (false, false) => "",
        (true, false) => " Z ",
        (false, true) => " M ",
        (true, true) => " ZM ",
    });

    if is_empty {
        out.push_str("EMPTY");
    } else {
        push_body(geometry, out);
    }
}

/// Writes the coordinates in parentheses.
fn push_body(geometry: &Geometry, out: &mut String) {
    match &geometry.shape {
        GeometryShape::Point(None) => out.push_str("EMPTY"),

        GeometryShape::Point(Some(position)) => {
            push_list('(', ')', std::slice::from_ref(position), out, push_position);
        }

        GeometryShape::LineString(positions) => push_list('(', ')', positions, out, push_position),
        GeometryShape::Polygon(rings) => push_list('(', ')', rings, out, |ring, out| {
            push_list('(', ')', ring, out, push_position);
        }),

        GeometryShape::MultiPoint(parts) => push_list('(', ')', parts, out, |part, out| {
            // The points of a MULTIPOINT have no parentheses of their own.
            if let GeometryShape::Point(Some(position)) = &part.shape {
                push_position(position, out);
            } else {
                out.push_str("EMPTY");
            }
        }),

        GeometryShape::MultiLineString(parts) | GeometryShape::MultiPolygon(parts) => {
            push_list('(', ')', parts, out, push_body);
        }
        GeometryShape::Collection(parts) => push_list('(', ')', parts, out, push_text),
    }
}

fn push_position(position: &Position, out: &mut String) {
    number::push_real_javascript(position.x, out);
    for real in [Some(position.y), position.z, position.m].into_iter().flatten() {
        out.push(' ');
        number::push_real_javascript(real, out);
    }
}

fn push_list<T>(
    open: char,
    close: char,
    items: &[T],
    out: &mut String,
    push: impl Fn(&T, &mut String),
) {
    if items.is_empty() && open == '(' {
        out.push_str("EMPTY");
        return;
    }

    out.push(open);

    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(item, out);
    }

    out.push(close);
}
