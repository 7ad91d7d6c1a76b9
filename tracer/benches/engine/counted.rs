//! An allocator that counts: how often this thread asked for memory, how much it has, and had at most.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// How often this thread asked for memory so far.
pub(crate) fn allocations() -> u64 {
    ASKED.get()
}

/// How many bytes more this thread had at most, while that was done, than before.
pub(crate) fn most<T>(done: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    MOST.set(before);
    let result = done();
    let more = MOST.get() - before;
    (usize::try_from(more).unwrap_or(0), result)
}

// A thread that ends has no such numbers any more, and nobody asks for them.
fn took(bytes: usize) {
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
    let held = HELD.try_with(|held| {
        held.set(held.get().wrapping_add_unsigned(bytes));
        held.get()
    });
    let _ = MOST.try_with(|most| most.set(most.get().max(held.unwrap_or(0))));
}

fn gave(bytes: usize) {
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_sub_unsigned(bytes)));
}

// SAFETY: what is given and taken back is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while it is copied.
        took(size);
        gave(layout.size());
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(at, layout, size) }
    }
}
