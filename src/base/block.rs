//! Blocks: the byte buffers an exchange rents from its shard and gives back.
//!
//! A block has a fixed capacity and never grows; what does not fit is an answer to the caller, not an
//! allocation. A pool lends at most `blocks_max` of them, so the memory all connections of a shard can
//! hold is a product that can be printed at start. Blocks are reused last in, first out, which keeps the
//! hot ones in the cache. Owned by one thread; never crosses one.

use std::{cell::RefCell, mem::MaybeUninit, rc::Rc};

/// The blocks of one shard.
#[derive(Debug)]
pub struct BlockPool {
    shelf: RefCell<Shelf>,
    block_bytes: usize,
    blocks_max: usize,
}

#[derive(Debug)]
struct Shelf {
    free: Vec<Vec<u8>>,
    rented: usize,
}

impl BlockPool {
    /// A pool that lends at most `blocks_max` blocks of `block_bytes` each. Memory is taken from the
    /// system when a block is first rented.
    pub fn new(block_bytes: usize, blocks_max: usize) -> Rc<Self> {
        Rc::new(Self { shelf: RefCell::new(Shelf { free: Vec::new(), rented: 0 }), block_bytes, blocks_max })
    }

    /// An empty block, or `None` when all are out: the caller sheds load.
    pub fn rent(self: &Rc<Self>) -> Option<Block> {
        let mut shelf = self.shelf.borrow_mut();
        if shelf.rented == self.blocks_max {
            return None;
        }
        shelf.rented += 1;
        let bytes = shelf.free.pop().unwrap_or_else(|| Vec::with_capacity(self.block_bytes));
        Some(Block { bytes, start: 0, pool: Rc::clone(self) })
    }

    /// Capacity of each block, in bytes.
    pub fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// Blocks it lends at the most.
    pub fn blocks_max(&self) -> usize {
        self.blocks_max
    }

    /// Blocks lent out now.
    pub fn rented(&self) -> usize {
        self.shelf.borrow().rented
    }

    fn take_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut shelf = self.shelf.borrow_mut();
        shelf.rented -= 1;
        shelf.free.push(bytes);
    }
}

/// A rented buffer: bytes that were read and not yet used (`unread`), then room for more (`spare`).
///
/// `0 <= start <= bytes.len() <= capacity`; what lies before `start` was consumed but is still in place
/// until [`Block::compact`] moves the rest over it.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
    pool: Rc<BlockPool>,
}

impl Block {
    /// Bytes that are filled and not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The same bytes, to be decoded in place.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    /// Everything filled so far, consumed or not.
    pub fn filled(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes were consumed and are still in place.
    pub fn consumed(&self) -> usize {
        self.start
    }

    /// Marks `count` unread bytes as used.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.bytes.len() - self.start);
        self.start += count;
    }

    /// Room behind the filled bytes.
    pub fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        self.bytes.spare_capacity_mut()
    }

    /// How many bytes still fit.
    pub fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Counts `count` bytes of [`Block::spare`] as filled.
    ///
    /// # Safety
    /// The first `count` bytes of `spare()` must have been initialised.
    #[expect(unsafe_code, reason = "the kernel fills the spare room; only the caller knows how far")]
    pub unsafe fn fill(&mut self, count: usize) {
        debug_assert!(count <= self.room());
        let filled = self.bytes.len() + count;
        // SAFETY: the caller vouches for the bytes, and `count <= room()` keeps `filled` within capacity.
        unsafe { self.bytes.set_len(filled) };
    }

    /// Appends all of `bytes`, or nothing.
    ///
    /// # Errors
    /// [`Full`] when the block has too little room.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.len() > self.room() {
            return Err(Full);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends all of `parts`, or none of them.
    ///
    /// # Errors
    /// [`Full`] when the block has too little room.
    pub fn put_all(&mut self, parts: &[&[u8]]) -> Result<(), Full> {
        if parts.iter().map(|part| part.len()).sum::<usize>() > self.room() {
            return Err(Full);
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }

    /// Moves the unread bytes down to `mark`, so that the room behind them is as large as it can be.
    /// Bytes before `mark` stay where they are: a parsed head keeps its place while its body streams by.
    pub fn compact_to(&mut self, mark: usize) {
        debug_assert!(mark <= self.start);
        if self.start == mark {
            return;
        }
        let unread = self.bytes.len() - self.start;
        self.bytes.copy_within(self.start.., mark);
        self.bytes.truncate(mark + unread);
        self.start = mark;
    }

    /// How many bytes the block holds at the most.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Becomes `other`, an empty block with room enough, with everything that was filled in the same places.
    pub fn move_into(&mut self, mut other: Self) {
        debug_assert!(other.bytes.is_empty() && other.capacity() >= self.bytes.len());
        other.bytes.extend_from_slice(&self.bytes);
        other.start = self.start;
        *self = other;
    }

    /// Drops the last `count` filled bytes.
    pub fn shorten(&mut self, count: usize) {
        let length = self.bytes.len() - count;
        debug_assert!(length >= self.start);
        self.bytes.truncate(length);
    }

    /// Empties the block.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.pool.take_back(std::mem::take(&mut self.bytes));
    }
}

/// A block had too little room for what was to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_drop_gives_back() {
        let pool = BlockPool::new(64, 2);
        let first = pool.rent().expect("one of two");
        let second = pool.rent().expect("two of two");
        assert!(pool.rent().is_none());
        drop(first);
        assert_eq!(pool.rented(), 1);
        assert!(pool.rent().is_some());
        drop(second);
        assert_eq!(pool.rented(), 0);
    }

    #[test]
    fn a_returned_block_comes_back_empty_and_with_its_memory() {
        let pool = BlockPool::new(64, 1);
        let mut block = pool.rent().expect("free");
        block.put(b"secret").expect("room");
        block.consume(3);
        let memory = block.filled().as_ptr();
        drop(block);
        let again = pool.rent().expect("given back");
        assert!(again.unread().is_empty());
        assert_eq!(again.consumed(), 0);
        assert_eq!(again.filled().as_ptr(), memory);
        assert_eq!(again.room(), 64);
    }

    #[test]
    fn a_block_never_grows() {
        let pool = BlockPool::new(8, 1);
        let mut block = pool.rent().expect("free");
        assert_eq!(block.put(b"123456789"), Err(Full));
        assert!(block.unread().is_empty());
        assert_eq!(block.put_all(&[b"1234", b"56789"]), Err(Full));
        assert!(block.unread().is_empty());
        block.put_all(&[b"1234", b"5678"]).expect("room");
        assert_eq!((block.unread(), block.room()), (&b"12345678"[..], 0));
    }

    #[test]
    fn a_move_changes_nothing_but_the_room() {
        let (small, large) = (BlockPool::new(8, 1), BlockPool::new(32, 1));
        let mut block = small.rent().expect("free");
        block.put(b"headBODY").expect("room");
        block.consume(4);
        block.move_into(large.rent().expect("free"));
        assert_eq!((block.filled(), block.unread(), block.room()), (&b"headBODY"[..], &b"BODY"[..], 24));
        assert_eq!((small.rented(), large.rented()), (0, 1));
        drop(block);
        assert_eq!(large.rented(), 0);
    }

    #[test]
    fn compacting_keeps_what_lies_before_the_mark() {
        let pool = BlockPool::new(16, 1);
        let mut block = pool.rent().expect("free");
        block.put(b"headBODYnext").expect("room");
        block.consume(8);
        block.compact_to(4);
        assert_eq!(block.filled(), b"headnext");
        assert_eq!(block.unread(), b"next");
        block.consume(4);
        block.compact_to(0);
        assert_eq!(block.filled(), b"");
    }
}
