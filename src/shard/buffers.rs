//! How a shard's memory for buffers is divided: common blocks for heads and short bodies, long ones for bodies
//! that fill theirs.
//!
//! Owns the two pools and the sizes of what they lend. A message begins in a common block; only one that fills
//! it moves to a long one, so a client that dribbles never holds more than a common block.

use std::rc::Rc;

use crate::base::block::{Block, BlockPool};

/// A block holds a head twice: as it came, and with the gateway's fields.
const BLOCK_BYTES_MIN: usize = 32 * 1024;
/// The fewest blocks with which an exchange can be made: one for the client's side, one to write in, one for the
/// endpoint's.
const BLOCKS_MIN: usize = 3;
/// Each read and each send of a long body moves up to this much. `benches/README.md` has what that saves.
const LONG_BLOCK_BYTES: usize = 256 * 1024;
/// One part in this many of the memory is for long blocks.
const LONG_SHARE: usize = 4;

/// Sizes and numbers of a shard's blocks.
#[derive(Clone, Copy, Debug)]
pub struct BufferPlan {
    block_bytes: usize,
    blocks_max: usize,
    long_blocks_max: usize,
}

impl BufferPlan {
    /// Divides `buffer_bytes` between blocks that hold heads of up to `head_bytes_max` and long ones.
    pub fn new(buffer_bytes: usize, head_bytes_max: usize) -> Self {
        let block_bytes = (2 * head_bytes_max).next_power_of_two().max(BLOCK_BYTES_MIN);
        let long_blocks_max = buffer_bytes / LONG_SHARE / LONG_BLOCK_BYTES;
        let rest = buffer_bytes - long_blocks_max * LONG_BLOCK_BYTES;
        Self { block_bytes, blocks_max: (rest / block_bytes).max(BLOCKS_MIN), long_blocks_max }
    }

    /// Common blocks lent at the most; beyond that requests are shed.
    pub fn blocks_max(&self) -> usize {
        self.blocks_max
    }

    /// Bytes of all blocks together.
    pub fn bytes(&self) -> usize {
        self.blocks_max * self.block_bytes + self.long_blocks_max * LONG_BLOCK_BYTES
    }
}

/// The blocks of one shard.
pub(super) struct Buffers {
    blocks: Rc<BlockPool>,
    long_blocks: Rc<BlockPool>,
}

impl Buffers {
    pub(super) fn new(plan: BufferPlan) -> Self {
        Self {
            blocks: BlockPool::new(plan.block_bytes, plan.blocks_max),
            long_blocks: BlockPool::new(LONG_BLOCK_BYTES, plan.long_blocks_max),
        }
    }

    /// An empty common block, or `None` when all are out: the caller sheds load.
    pub(super) fn rent(&self) -> Option<Block> {
        self.blocks.rent()
    }

    /// Gives a body that fills its block a long one, while there are some.
    pub(super) fn lengthen(&self, block: &mut Block) {
        if block.capacity() < LONG_BLOCK_BYTES
            && let Some(long) = self.long_blocks.rent()
        {
            block.move_into(long);
        }
    }

    /// Blocks lent out now, of both kinds.
    pub(super) fn rented(&self) -> usize {
        self.blocks.rented() + self.long_blocks.rented()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_divided_and_never_exceeded() {
        let plan = BufferPlan::new(256 * 1024 * 1024, 16 * 1024);
        assert_eq!((plan.block_bytes, plan.blocks_max, plan.long_blocks_max), (32 * 1024, 6144, 256));
        assert_eq!(plan.bytes(), 256 * 1024 * 1024);
        // Too little for long blocks: all of it is for heads.
        let small = BufferPlan::new(768 * 1024, 64 * 1024);
        assert_eq!((small.block_bytes, small.blocks_max, small.long_blocks_max), (128 * 1024, 6, 0));
        assert_eq!(BufferPlan::new(1, 1024).blocks_max, BLOCKS_MIN);
    }

    #[test]
    fn a_body_makes_do_with_its_block_when_the_long_ones_are_out() {
        let buffers = Buffers::new(BufferPlan::new(1024 * 1024, 16 * 1024));
        let mut blocks = [buffers.rent().expect("free"), buffers.rent().expect("free")];
        blocks.iter_mut().for_each(|block| buffers.lengthen(block));
        assert_eq!(blocks.each_ref().map(Block::capacity), [LONG_BLOCK_BYTES, BLOCK_BYTES_MIN]);
        assert_eq!(buffers.rented(), 2);
        drop(blocks);
        assert_eq!(buffers.rented(), 0);
    }
}
