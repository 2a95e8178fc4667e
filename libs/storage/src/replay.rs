//! Reading a bucket completely: the rows of its base, then its log.

use std::collections::VecDeque;

use bytes::Bytes;
use tidewater_protocol::OpId;

use crate::base_rows::{BaseReader, FramePosition};
use crate::bucket::BucketHead;
use crate::catalog::Base;
use crate::error::StorageError;
use crate::keys::BucketKey;
use crate::ports::{ObjectStore, OpLog};
use crate::segment::Segment;
use crate::segment_chain::{BrokenChain, SegmentChain};

/// The payload size in bytes of the segments that are read at once, which bounds the memory.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// An error of reading a bucket completely.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A part is missing: the read missed a recent write, or the part was compacted since the catalog
    /// was read. Read the bucket's item again and restart.
    #[error("the history of a bucket is incomplete")]
    Incomplete(#[from] BrokenChain),
    /// A storage call failed.
    #[error("storage failed")]
    Storage(#[from] StorageError),
}

/// A reader of all operations of a bucket up to a head, as payloads of `SegmentWriter`.
///
/// The rows of the base come first, in the order of their op ids, then the log after the base. The
/// end is reached only if the segment chain proves completeness.
pub struct Replay<'a, S, L> {
    storage: &'a S,
    bucket: &'a BucketKey,
    head: BucketHead,
    is_committed: L,
    base: Option<Rows>,
    chain: SegmentChain,
    page: VecDeque<Segment>,
    read_upto: OpId,
}

enum Rows {
    /// Not opened yet.
    Closed(Base),
    Open(Box<BaseReader>, FramePosition),
}

impl<'a, S: OpLog + ObjectStore, L: Fn(OpId) -> bool> Replay<'a, S, L> {
    /// Creates a reader that starts at the base, if there is one, and ends at `head`. `is_committed`
    /// returns whether an operation is committed.
    pub fn new(
        storage: &'a S,
        bucket: &'a BucketKey,
        base: Option<&Base>,
        head: BucketHead,
        is_committed: L,
    ) -> Self {
        let chain = base.map_or(SegmentChain::after(OpId::ZERO), |base| {
            SegmentChain::at_segment_end(base.to, base.checksum)
        });

        Self {
            storage,
            bucket,
            head,
            is_committed,
            base: base.cloned().map(Rows::Closed),
            chain,
            page: VecDeque::new(),
            read_upto: chain.last,
        }
    }

    /// Returns the next payload, or `None` after everything was read and proved complete.
    ///
    /// # Errors
    /// `Incomplete` if a part is missing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReplayError> {
        if let Some(rows) = self.base.take()
            && let Some(payload) = self.rows(rows).await?
        {
            return Ok(Some(payload));
        }

        // The end is proved before it is reported: the chain must meet the head.
        if self.chain.has_reached(&self.head) {
            self.chain.verify_end(&self.head)?;
            return Ok(None);
        }

        while self.page.is_empty() {
            self.read_page().await?;
        }
        let segment = self.page.pop_front().ok_or(BrokenChain(self.chain.last))?;
        self.chain = self.chain.append(&segment)?;
        Ok(Some(segment.payload))
    }

    async fn rows(&mut self, rows: Rows) -> Result<Option<Bytes>, ReplayError> {
        let (open, place) = match rows {
            Rows::Open(open, place) => (open, place),
            Rows::Closed(base) => {
                let deleted = BrokenChain(base.to);
                let open = BaseReader::open(self.storage, &base).await?.ok_or(deleted)?;
                let place = open.after(0).ok_or(deleted)?;
                (Box::new(open), place)
            }
        };
        if open.ends_at(place) {
            return Ok(None);
        }

        let deleted = BrokenChain(open.base.to);
        let (payload, next) = open.frame(self.storage, place).await?.ok_or(deleted)?;
        self.base = Some(Rows::Open(open, next));
        Ok(Some(payload))
    }

    async fn read_page(&mut self) -> Result<(), ReplayError> {
        let after = self.read_upto;
        let page =
            self.storage.segments(self.bucket, after, self.head.last, PAGE_BYTES_MAX).await?;
        self.read_upto = page.segments.last().map_or(after, |segment| segment.last);

        // Segments of crashed runs lie between the committed ones.
        self.page
            .extend(page.segments.into_iter().filter(|segment| (self.is_committed)(segment.last)));
        if self.page.is_empty() && !page.has_more {
            return Err(BrokenChain(self.chain.last).into());
        }
        Ok(())
    }
}
