//! The ring on one thread: against a `VecDeque`, and at its edges.

use net_datapath::ring::{Full, LockFreeRing};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::rc::Rc;

#[derive(Debug, Clone)]
enum Op {
    Push,
    PushLazy,
    Flush,
    PushIter(usize),
    WriteChunk {
        max: usize,
        fill: usize,
    },
    WriteUninit {
        max: usize,
        fill: usize,
    },
    Pop,
    PopLazy,
    Release,
    PopInto(usize),
    Peek,
    ReadChunk {
        max: usize,
        take: usize,
        consume: usize,
    },
    ForgetChunks,
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0usize..12;
    prop_oneof![
        3 => Just(Op::Push),
        3 => Just(Op::PushLazy),
        1 => Just(Op::Flush),
        1 => n().prop_map(Op::PushIter),
        1 => (n(), n()).prop_map(|(max, fill)| Op::WriteChunk { max, fill }),
        1 => (n(), n()).prop_map(|(max, fill)| Op::WriteUninit { max, fill }),
        3 => Just(Op::Pop),
        3 => Just(Op::PopLazy),
        1 => Just(Op::Release),
        1 => n().prop_map(Op::PopInto),
        1 => Just(Op::Peek),
        1 => (n(), n(), n()).prop_map(|(max, take, consume)| Op::ReadChunk { max, take, consume }),
        1 => Just(Op::ForgetChunks),
    ]
}

/// The oracle: a queue, the part of it that the consumer may see, and the slots that the producer may
/// use again.
struct Model {
    items: VecDeque<u32>,
    capacity: usize,
    /// Of `items`, those published.
    visible: usize,
    /// Slots taken out lazily and not yet given back.
    kept: usize,
    window: u32,
    pushed: u32,
    popped: u32,
}

impl Model {
    fn room(&self) -> usize {
        self.capacity - self.items.len() - self.kept
    }

    fn push(&mut self) -> u32 {
        self.items.push_back(self.pushed);
        self.pushed += 1;
        self.pushed - 1
    }

    fn publish(&mut self) {
        self.visible = self.items.len();
    }

    fn pop(&mut self) -> Option<u32> {
        if self.visible == 0 {
            self.kept = 0;
            return None;
        }
        self.visible -= 1;
        self.kept += 1;
        self.popped += 1;
        self.items.pop_front()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_ring_is_a_bounded_queue(capacity in 1usize..20, ops in prop::collection::vec(op(), 1..150)) {
        // `Rc` makes a lost or doubled drop visible in its count.
        let token = Rc::new(());
        let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
        prop_assert_eq!((tx.capacity(), rx.capacity()), (capacity, capacity));
        let item = |n: u32| (n, token.clone());
        let window = 1u32 << (capacity / 4).max(1).ilog2();
        let mut model = Model {
            items: VecDeque::new(), capacity, visible: 0, kept: 0, window, pushed: 0, popped: 0,
        };
        for op in ops {
            match op {
                Op::Push | Op::PushLazy => {
                    let lazy = matches!(op, Op::PushLazy);
                    let number = model.pushed;
                    let room = model.room() > 0;
                    let result = if lazy { tx.push_lazy(item(number)) } else { tx.push(item(number)) };
                    match result {
                        Ok(()) => {
                            prop_assert!(room);
                            model.push();
                            if !lazy || model.pushed.is_multiple_of(model.window) { model.publish(); }
                        }
                        Err(Full((n, _))) => {
                            prop_assert!(!room);
                            prop_assert_eq!(n, number);
                            model.publish();
                        }
                    }
                }
                Op::Flush => { tx.flush(); model.publish(); }
                Op::PushIter(n) => {
                    let room = model.room().min(n);
                    let mut source = (0..n as u32).map(|i| item(model.pushed + i));
                    prop_assert_eq!(tx.push_iter(&mut source), room);
                    prop_assert_eq!(source.len(), n - room, "nothing is taken that finds no place");
                    for _ in 0..room { model.push(); }
                    model.publish();
                }
                Op::WriteChunk { max, fill } => {
                    let mut chunk = tx.write_chunk(max);
                    let room = model.room().min(max);
                    prop_assert_eq!(chunk.len(), room);
                    for _ in 0..fill.min(room) { chunk.push(item(model.push())).unwrap(); }
                    if fill > room { prop_assert!(chunk.push(item(0)).is_err()); }
                    drop(chunk);
                    model.publish();
                }
                Op::WriteUninit { max, fill } => {
                    let mut chunk = tx.write_chunk(max);
                    let room = model.room().min(max);
                    let (first, second) = chunk.as_uninit_slices();
                    prop_assert_eq!(first.len() + second.len(), room);
                    let fill = fill.min(room);
                    for slot in first.iter_mut().chain(second).take(fill) { slot.write(item(model.push())); }
                    // SAFETY: just written.
                    unsafe { chunk.advance(fill) };
                    drop(chunk);
                    model.publish();
                }
                Op::Pop | Op::PopLazy => {
                    let lazy = matches!(op, Op::PopLazy);
                    let got = if lazy { rx.pop_lazy() } else { rx.pop() };
                    let want = model.pop();
                    prop_assert_eq!(got.map(|i| i.0), want);
                    if !lazy || model.popped.is_multiple_of(model.window) { model.kept = 0; }
                }
                Op::Release => { rx.flush(); model.kept = 0; }
                Op::PopInto(n) => {
                    let mut out = Vec::new();
                    let count = model.visible.min(n);
                    prop_assert_eq!(rx.pop_into(&mut out, n), count);
                    for (got, _) in out { prop_assert_eq!(Some(got), model.pop()); }
                    model.kept = 0;
                }
                Op::Peek => {
                    prop_assert_eq!(rx.len(), model.visible);
                    prop_assert_eq!(rx.is_empty(), model.visible == 0);
                    let want = (model.visible > 0).then(|| model.items[0]);
                    prop_assert_eq!(rx.peek().map(|i| i.0), want);
                    if want.is_none() { model.kept = 0; }
                }
                Op::ReadChunk { max, take, consume } => {
                    let mut chunk = rx.read_chunk(max);
                    let count = model.visible.min(max);
                    prop_assert_eq!(chunk.len(), count);
                    let (first, second) = chunk.as_slices();
                    let seen: Vec<u32> = first.iter().chain(second).map(|i| i.0).collect();
                    prop_assert!(seen.iter().eq(model.items.iter().take(count)));
                    let (first, second) = chunk.as_mut_slices();
                    prop_assert_eq!(first.len() + second.len(), count);
                    for _ in 0..take.min(count) { prop_assert_eq!(chunk.next().map(|i| i.0), model.pop()); }
                    let consume = consume.min(chunk.len());
                    chunk.consume(consume);
                    for _ in 0..consume { model.pop(); }
                    drop(chunk);
                    model.kept = 0;
                }
                Op::ForgetChunks => {
                    // A chunk that is leaked has still filled and taken what it has.
                    let mut write = tx.write_chunk(1);
                    if model.room() > 0 { write.push(item(model.push())).unwrap(); }
                    std::mem::forget(write);
                    tx.flush();
                    model.publish();
                    let mut read = rx.read_chunk(1);
                    prop_assert_eq!(read.next().map(|i| i.0), model.pop());
                    std::mem::forget(read);
                    rx.flush();
                    model.kept = 0;
                }
            }
            prop_assert_eq!(tx.free(), model.room());
            prop_assert_eq!(Rc::strong_count(&token) - 1, model.items.len());
        }
        drop(tx);
        prop_assert!(rx.is_closed());
        prop_assert_eq!(rx.is_finished(), model.items.is_empty());
        prop_assert_eq!(rx.len(), model.items.len(), "the drop shows what was kept back");
        drop(rx);
        prop_assert_eq!(Rc::strong_count(&token), 1, "what is left is dropped");
    }

    #[test]
    fn slices_of_plain_items(capacity in 1usize..40, moves in prop::collection::vec((0usize..50, 0usize..50), 1..60)) {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
        let (mut sent, mut got) = (0u16, 0u16);
        for (push, pop) in moves {
            let items: Vec<u16> = (0..push as u16).map(|i| sent.wrapping_add(i)).collect();
            let room = tx.free();
            let pushed = tx.push_slice(&items);
            prop_assert_eq!(pushed, room.min(push));
            sent = sent.wrapping_add(pushed as u16);
            let mut out = vec![0; pop];
            let have = rx.len();
            let popped = rx.pop_slice(&mut out);
            prop_assert_eq!(popped, have.min(pop));
            for &item in &out[..popped] {
                prop_assert_eq!(item, got);
                got = got.wrapping_add(1);
            }
        }
    }
}

#[test]
fn items_without_size() {
    let (mut tx, mut rx) = LockFreeRing::with_capacity(3);
    assert_eq!(tx.push_slice(&[(), (), (), ()]), 3);
    assert!(tx.push(()).is_err());
    assert_eq!(rx.read_chunk(9).count(), 3);
    assert_eq!(rx.pop(), None);
}

#[test]
fn each_side_sees_the_other_go() {
    let (mut tx, rx) = LockFreeRing::with_capacity(2);
    tx.push(Box::new(1)).unwrap();
    assert!(!tx.is_closed());
    drop(rx);
    assert!(tx.is_closed());
    // Still a ring: what goes in is dropped with it.
    tx.push(Box::new(2)).unwrap();
    assert_eq!(*tx.push(Box::new(3)).unwrap_err().into_inner(), 3);

    let (mut tx, mut rx) = LockFreeRing::with_capacity(8);
    tx.push_lazy(1).unwrap();
    assert!(!rx.is_closed() && !rx.is_finished() && rx.pop().is_none());
    drop(tx);
    assert!(rx.is_closed() && !rx.is_finished());
    assert_eq!(rx.pop(), Some(1));
    assert!(rx.is_finished());
}

#[test]
fn a_drop_that_panics_drops_nothing_twice() {
    struct Bomb(Rc<std::cell::Cell<u32>>, bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            assert!(!self.1, "boom");
        }
    }
    let dropped = Rc::new(std::cell::Cell::new(0));
    let (mut tx, mut rx) = LockFreeRing::with_capacity(8);
    for i in 0..8 {
        tx.push(Bomb(dropped.clone(), i == 2)).unwrap();
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        rx.read_chunk(5).consume_all()
    }));
    assert!(result.is_err());
    assert_eq!((dropped.get(), rx.len(), tx.free()), (5, 3, 5));
    drop((tx, rx));
    assert_eq!(dropped.get(), 8);
}

#[test]
fn an_iterator_that_panics_loses_nothing() {
    let (mut tx, mut rx) = LockFreeRing::with_capacity(8);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tx.push_iter((0..5).inspect(|&i| assert!(i < 3, "stop")))
    }));
    assert!(result.is_err());
    assert!(rx.read_chunk(8).eq(0..3));
}

#[test]
#[should_panic(expected = "at least one")]
fn a_ring_of_nothing() {
    let _ = LockFreeRing::<u8>::with_capacity(0);
}

#[test]
#[should_panic(expected = "address space")]
fn a_ring_of_too_much() {
    let _ = LockFreeRing::<u64>::with_capacity(usize::MAX / 8);
}
