//! Reader of PostGIS's extended well-known binary (EWKB).
//!
//! The crates for EWKB depend on large geometry libraries. The part needed here is one page.

/// Maximum nesting of collections. It bounds the recursion of the reader.
const DEPTH_MAX: usize = 32;

const HAS_Z: u32 = 0x8000_0000;
const HAS_M: u32 = 0x4000_0000;
const HAS_SRID: u32 = 0x2000_0000;

#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) has_z: bool,
    pub(super) has_m: bool,
    pub(super) shape: GeometryShape,
}

#[derive(Debug)]
pub(super) enum GeometryShape {
    /// `None` is `POINT EMPTY`.
    Point(Option<Position>),
    LineString(Vec<Position>),
    Polygon(Vec<Vec<Position>>),
    MultiPoint(Vec<Geometry>),
    MultiLineString(Vec<Geometry>),
    MultiPolygon(Vec<Geometry>),
    Collection(Vec<Geometry>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) z: Option<f64>,
    pub(super) m: Option<f64>,
}

impl Geometry {
    /// Parses all of the bytes. Returns `None` unless they are exactly one geometry.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = WkbReader { rest: bytes, is_big_endian: false };
        let geometry = reader.geometry(DEPTH_MAX)?;
        reader.rest.is_empty().then_some(geometry)
    }
}

struct WkbReader<'b> {
    rest: &'b [u8],
    is_big_endian: bool,
}

impl WkbReader<'_> {
    fn geometry(&mut self, depth: usize) -> Option<Geometry> {
        let depth = depth.checked_sub(1)?;
        self.is_big_endian = match self.take::<1>()? {
            [0] => true,
            [1] => false,
            [_] => return None,
        };

        let code = self.number()?;
        if code & HAS_SRID != 0 {
            self.number()?;
        }

        let kind = code & !(HAS_Z | HAS_M | HAS_SRID);

        // ISO codes tell the dimensions by their thousands digit, PostGIS by flags.
        let (has_z, has_m) = match kind / 1000 {
            0 => (code & HAS_Z != 0, code & HAS_M != 0),
            1 => (true, false),
            2 => (false, true),
            3 => (true, true),
            _ => return None,
        };

        let shape = match kind % 1000 {
            1 => {
                let position = self.position(has_z, has_m)?;
                GeometryShape::Point(
                    Some(position).filter(|point| !point.x.is_nan() || !point.y.is_nan()),
                )
            }
            2 => GeometryShape::LineString(self.positions(has_z, has_m)?),
            3 => {
                let count = self.count(4)?;
                GeometryShape::Polygon(
                    (0..count).map(|_| self.positions(has_z, has_m)).collect::<Option<_>>()?,
                )
            }
            4 => GeometryShape::MultiPoint(
                self.parts(depth, |part| matches!(part, GeometryShape::Point(_)))?,
            ),
            5 => GeometryShape::MultiLineString(
                self.parts(depth, |part| matches!(part, GeometryShape::LineString(_)))?,
            ),
            6 => GeometryShape::MultiPolygon(
                self.parts(depth, |part| matches!(part, GeometryShape::Polygon(_)))?,
            ),
            7 => GeometryShape::Collection(self.parts(depth, |_| true)?),
            _ => return None,
        };

        Some(Geometry { has_z, has_m, shape })
    }

    fn parts(
        &mut self,
        depth: usize,
        is_allowed: impl Fn(&GeometryShape) -> bool,
    ) -> Option<Vec<Geometry>> {
        let count = self.count(9)?;
        (0..count).map(|_| self.geometry(depth).filter(|part| is_allowed(&part.shape))).collect()
    }

    fn positions(&mut self, has_z: bool, has_m: bool) -> Option<Vec<Position>> {
        let count = self.count(16)?;
        (0..count).map(|_| self.position(has_z, has_m)).collect()
    }

    fn position(&mut self, has_z: bool, has_m: bool) -> Option<Position> {
        let x = self.real()?;
        let y = self.real()?;
        let z = if has_z { Some(self.real()?) } else { None };
        let m = if has_m { Some(self.real()?) } else { None };
        Some(Position { x, y, z, m })
    }

    /// Reads a count of items of at least `least_bytes`. Returns `None` if so many do not fit in
    /// the rest, so that a false count reserves no memory.
    fn count(&mut self, least_bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.rest.len() / least_bytes).then_some(count)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.take()?;
        Some(if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn real(&mut self) -> Option<f64> {
        let bytes = self.take()?;
        Some(if self.is_big_endian { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }
}
