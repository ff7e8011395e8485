//! The ring: items arrive once, in order, and its ends know of each other.

use loom::sync::Arc;
use loom::thread;
use net_datapath::ring::LockFreeRing;

use crate::model;

#[test]
fn ring_scalar() {
    for capacity in [1, 2, 3] {
        model(Some(4), move || {
            let (mut tx, mut rx) = LockFreeRing::with_capacity(capacity);
            let producer = thread::spawn(move || {
                for item in 0..3 {
                    let mut item = Box::new(item);
                    while let Err(full) = tx.push(item) {
                        item = full.into_inner();
                        thread::yield_now();
                    }
                }
            });
            for want in 0..3 {
                let got = loop {
                    if let Some(item) = rx.pop() {
                        break item;
                    }
                    thread::yield_now();
                };
                assert_eq!(*got, want);
            }
            assert!(rx.pop().is_none());
            producer.join().unwrap();
        });
    }
}

#[test]
fn ring_lazy_and_flush() {
    model(Some(4), || {
        // Windows of two.
        let (mut tx, mut rx) = LockFreeRing::with_capacity(8);
        let producer = thread::spawn(move || {
            for item in 0..3 {
                tx.push_lazy(item).unwrap();
            }
            tx.flush();
            tx
        });
        let mut next = 0;
        while next < 3 {
            match rx.pop_lazy() {
                Some(item) => {
                    assert_eq!(item, next);
                    next += 1;
                }
                None => thread::yield_now(),
            }
        }
        rx.flush();
        assert_eq!(producer.join().unwrap().free(), 8);
    });
}

#[test]
fn ring_lazy_goes_on_when_full_and_when_empty() {
    // Nobody flushes by hand: being full and being empty must do.
    model(Some(3), || {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(1);
        let producer = thread::spawn(move || {
            for item in 0..2 {
                while tx.push_lazy(item).is_err() {
                    thread::yield_now();
                }
            }
        });
        for want in 0..2 {
            loop {
                match rx.pop_lazy() {
                    Some(item) => {
                        assert_eq!(item, want);
                        break;
                    }
                    None => thread::yield_now(),
                }
            }
        }
        producer.join().unwrap();
    });
}

#[test]
fn ring_batches_and_chunks() {
    model(Some(3), || {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(3);
        let producer = thread::spawn(move || {
            let mut sent = tx.push_slice(&[0, 1]) as u32;
            while sent < 5 {
                let mut chunk = tx.write_chunk(2);
                if chunk.is_empty() {
                    thread::yield_now();
                }
                while !chunk.is_empty() && sent < 5 {
                    chunk.push(sent).unwrap();
                    sent += 1;
                }
            }
        });
        let mut next = 0;
        while next < 5 {
            let mut out = [9; 2];
            let popped = rx.pop_slice(&mut out);
            for &item in &out[..popped] {
                assert_eq!(item, next);
                next += 1;
            }
            let chunk = rx.read_chunk(2);
            if chunk.is_empty() && popped == 0 {
                thread::yield_now();
            }
            for item in chunk {
                assert_eq!(item, next);
                next += 1;
            }
        }
        producer.join().unwrap();
    });
}

#[test]
fn ring_closing() {
    model(None, || {
        let (mut tx, mut rx) = LockFreeRing::with_capacity(8);
        let producer = thread::spawn(move || {
            // Kept back until the drop shows it.
            tx.push_lazy(Box::new(1)).unwrap();
        });
        let mut got = 0;
        while !rx.is_finished() {
            match rx.pop() {
                Some(_) => got += 1,
                None => thread::yield_now(),
            }
        }
        assert_eq!(got, 1, "finished means that nothing was missed");
        producer.join().unwrap();
    });
}

#[test]
fn ring_dropped_by_either_side_last() {
    model(None, || {
        let token = Arc::new(());
        let (mut tx, rx) = LockFreeRing::with_capacity(2);
        tx.push(token.clone()).unwrap();
        let in_flight = token.clone();
        let producer = thread::spawn(move || {
            tx.push_lazy(in_flight).unwrap();
        });
        drop(rx);
        producer.join().unwrap();
        assert_eq!(Arc::strong_count(&token), 1);
    });
}
