//! How a shard's memory for buffers is divided: common blocks for heads and short bodies, long ones for bodies
//! that fill theirs, small ones for beginnings that keep us waiting.
//!
//! Owns the pools and the sizes of what they lend. A message begins in a common block; only one that fills it
//! moves to a long one, and a head whose end does not come waits in a small one. So a client that dribbles
//! holds little, and ten thousand of them do not take the blocks of those who have something to say.

use std::{cell::Cell, rc::Rc};

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
/// The beginning of a head that fits this waits for the rest in a small block.
const SMALL_BLOCK_BYTES: usize = 2 * 1024;
/// Of the common blocks, at most one in this many is lent to longer beginnings that wait.
const WAITING_SHARE: usize = 2;

/// Sizes and numbers of a shard's blocks.
#[derive(Clone, Copy, Debug)]
pub struct BufferPlan {
    block_bytes: usize,
    blocks_max: usize,
    long_blocks_max: usize,
    small_blocks_max: usize,
}

impl BufferPlan {
    /// Divides `buffer_bytes` between blocks that hold heads of up to `head_bytes_max` and long ones. Small ones,
    /// one for each of `connections_max`, come on top.
    pub fn new(buffer_bytes: usize, head_bytes_max: usize, connections_max: usize) -> Self {
        let block_bytes = (2 * head_bytes_max).next_power_of_two().max(BLOCK_BYTES_MIN);
        let long_blocks_max = buffer_bytes / LONG_SHARE / LONG_BLOCK_BYTES;
        let rest = buffer_bytes - long_blocks_max * LONG_BLOCK_BYTES;
        let blocks_max = (rest / block_bytes).max(BLOCKS_MIN);
        Self { block_bytes, blocks_max, long_blocks_max, small_blocks_max: connections_max }
    }

    /// Common blocks lent at the most; beyond that requests are shed.
    pub fn blocks_max(&self) -> usize {
        self.blocks_max
    }

    /// Bytes of all common and long blocks together.
    pub fn bytes(&self) -> usize {
        self.blocks_max * self.block_bytes + self.long_blocks_max * LONG_BLOCK_BYTES
    }

    /// Bytes of all small blocks together.
    pub fn small_bytes(&self) -> usize {
        self.small_blocks_max * SMALL_BLOCK_BYTES
    }
}

/// The blocks of one shard.
pub(super) struct Buffers {
    blocks: Rc<BlockPool>,
    long_blocks: Rc<BlockPool>,
    small_blocks: Rc<BlockPool>,
    /// Common blocks with beginnings that wait.
    waiting: Cell<usize>,
}

/// Leave to wait with a block in hand; the place is given back when dropped.
pub(super) struct Waiting<'b> {
    counted: Option<&'b Cell<usize>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.counted {
            waiting.set(waiting.get() - 1);
        }
    }
}

impl Buffers {
    pub(super) fn new(plan: BufferPlan) -> Self {
        Self {
            blocks: BlockPool::new(plan.block_bytes, plan.blocks_max),
            long_blocks: BlockPool::new(LONG_BLOCK_BYTES, plan.long_blocks_max),
            small_blocks: BlockPool::new(SMALL_BLOCK_BYTES, plan.small_blocks_max),
            waiting: Cell::new(0),
        }
    }

    /// An empty common block, or `None` when all are out: the caller sheds load.
    pub(super) fn rent(&self) -> Option<Block> {
        self.blocks.rent()
    }

    /// An empty small block, or `None` when all are out.
    pub(super) fn rent_small(&self) -> Option<Block> {
        self.small_blocks.rent()
    }

    /// Lets a beginning wait for the rest, in a small block if it fits one. `None` when too many wait already:
    /// the caller sheds load.
    pub(super) fn set_aside(&self, block: &mut Block) -> Option<Waiting<'_>> {
        if block.capacity() > SMALL_BLOCK_BYTES
            && block.filled().len() <= SMALL_BLOCK_BYTES
            && let Some(small) = self.small_blocks.rent()
        {
            block.move_into(small);
        }
        if block.capacity() <= SMALL_BLOCK_BYTES {
            return Some(Waiting { counted: None });
        }
        let waiting = self.waiting.get();
        (waiting < self.blocks() / WAITING_SHARE).then(|| {
            self.waiting.set(waiting + 1);
            Waiting { counted: Some(&self.waiting) }
        })
    }

    /// Gives what was set aside a common block again. False when all are out: the caller sheds load.
    pub(super) fn take_up(&self, block: &mut Block) -> bool {
        if block.capacity() > SMALL_BLOCK_BYTES {
            return true;
        }
        let common = self.blocks.rent();
        common.map(|common| block.move_into(common)).is_some()
    }

    /// Bytes of a common block.
    pub(super) fn block_bytes(&self) -> usize {
        self.blocks.block_bytes()
    }

    /// Common blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.blocks_max()
    }

    /// Common blocks not lent out.
    pub(super) fn free(&self) -> usize {
        self.blocks.blocks_max() - self.blocks.rented()
    }

    /// Gives a body that fills its block a long one, while there are some.
    pub(super) fn lengthen(&self, block: &mut Block) {
        if block.capacity() < LONG_BLOCK_BYTES
            && let Some(long) = self.long_blocks.rent()
        {
            block.move_into(long);
        }
    }

    /// Blocks lent out now, of all kinds.
    pub(super) fn rented(&self) -> usize {
        self.blocks.rented() + self.long_blocks.rented() + self.small_blocks.rented()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_divided_and_never_exceeded() {
        let plan = BufferPlan::new(256 * 1024 * 1024, 16 * 1024, 10_000);
        assert_eq!((plan.block_bytes, plan.blocks_max, plan.long_blocks_max), (32 * 1024, 6144, 256));
        assert_eq!((plan.bytes(), plan.small_bytes()), (256 * 1024 * 1024, 10_000 * SMALL_BLOCK_BYTES));
        // Too little for long blocks: all of it is for heads.
        let small = BufferPlan::new(768 * 1024, 64 * 1024, 1);
        assert_eq!((small.block_bytes, small.blocks_max, small.long_blocks_max), (128 * 1024, 6, 0));
        assert_eq!(BufferPlan::new(1, 1024, 1).blocks_max, BLOCKS_MIN);
    }

    #[test]
    fn beginnings_wait_in_small_blocks_and_only_so_many_in_others() {
        // Four common blocks of 32 KiB, one small one.
        let buffers = Buffers::new(BufferPlan::new(128 * 1024, 16 * 1024, 1));
        let begun = |bytes: usize| {
            let mut block = buffers.rent().expect("free");
            block.put(&vec![b'x'; bytes]).expect("room");
            block
        };
        let mut short = begun(SMALL_BLOCK_BYTES);
        let waits = buffers.set_aside(&mut short);
        assert!(waits.is_some() && short.capacity() == SMALL_BLOCK_BYTES && buffers.free() == 4);
        let mut others = [begun(SMALL_BLOCK_BYTES), begun(SMALL_BLOCK_BYTES + 1), begun(1)];
        let leave = others.each_mut().map(|block| buffers.set_aside(block).is_some());
        assert_eq!(leave, [true; 3], "each alone: leave was given back at once");
        let [one, two, three] = &mut others;
        let held = (buffers.set_aside(one), buffers.set_aside(two));
        assert!(held.0.is_some() && held.1.is_some(), "half of the common blocks");
        assert!(buffers.set_aside(three).is_none());
        drop(held);
        assert!(buffers.set_aside(three).is_some());
        assert!(buffers.take_up(&mut short) && short.capacity() == BLOCK_BYTES_MIN);
        assert_eq!((short.filled().len(), buffers.free()), (SMALL_BLOCK_BYTES, 0));
        drop(waits);
    }

    #[test]
    fn a_body_makes_do_with_its_block_when_the_long_ones_are_out() {
        let buffers = Buffers::new(BufferPlan::new(1024 * 1024, 16 * 1024, 1));
        let mut blocks = [buffers.rent().expect("free"), buffers.rent().expect("free")];
        blocks.iter_mut().for_each(|block| buffers.lengthen(block));
        assert_eq!(blocks.each_ref().map(Block::capacity), [LONG_BLOCK_BYTES, BLOCK_BYTES_MIN]);
        assert_eq!(buffers.rented(), 2);
        drop(blocks);
        assert_eq!(buffers.rented(), 0);
    }
}
