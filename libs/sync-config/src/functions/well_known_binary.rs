//! Geometries in the extended well-known binary of PostGIS.
//!
//! Read here and not by a crate: what is needed is a page, and the crates for it bring types of
//! geometries with all that is done to them.

/// Deepest nesting of collections.
const DEPTH_MAX: usize = 32;

const HAS_Z: u32 = 0x8000_0000;
const HAS_M: u32 = 0x4000_0000;
const HAS_SRID: u32 = 0x2000_0000;

#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) has_z: bool,
    pub(super) has_m: bool,
    pub(super) shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    /// `None` is the empty point.
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
    /// Reads all of the bytes; `None` when they are anything but one geometry.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { rest: bytes, is_big_endian: false };
        let geometry = reader.geometry(DEPTH_MAX)?;
        reader.rest.is_empty().then_some(geometry)
    }
}

struct Reader<'b> {
    rest: &'b [u8],
    is_big_endian: bool,
}

impl Reader<'_> {
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
        // ISO's codes have a digit for what the flags say.
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
                Shape::Point(Some(position).filter(|point| !point.x.is_nan() || !point.y.is_nan()))
            }
            2 => Shape::LineString(self.positions(has_z, has_m)?),
            3 => {
                let count = self.count(4)?;
                Shape::Polygon(
                    (0..count).map(|_| self.positions(has_z, has_m)).collect::<Option<_>>()?,
                )
            }
            4 => Shape::MultiPoint(self.parts(depth, |part| matches!(part, Shape::Point(_)))?),
            5 => Shape::MultiLineString(
                self.parts(depth, |part| matches!(part, Shape::LineString(_)))?,
            ),
            6 => Shape::MultiPolygon(self.parts(depth, |part| matches!(part, Shape::Polygon(_)))?),
            7 => Shape::Collection(self.parts(depth, |_| true)?),
            _ => return None,
        };
        Some(Geometry { has_z, has_m, shape })
    }

    fn parts(
        &mut self,
        depth: usize,
        is_allowed: impl Fn(&Shape) -> bool,
    ) -> Option<Vec<Geometry>> {
        let count = self.count(9)?;
        let part = |_| self.geometry(depth).filter(|part| is_allowed(&part.shape));
        (0..count).map(part).collect()
    }

    fn positions(&mut self, has_z: bool, has_m: bool) -> Option<Vec<Position>> {
        let count = self.count(16)?;
        (0..count).map(|_| self.position(has_z, has_m)).collect()
    }

    fn position(&mut self, has_z: bool, has_m: bool) -> Option<Position> {
        let (x, y) = (self.real()?, self.real()?);
        let z = if has_z { Some(self.real()?) } else { None };
        let m = if has_m { Some(self.real()?) } else { None };
        Some(Position { x, y, z, m })
    }

    /// A number of things that take this many bytes at least. What cannot be there is not waited for.
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
