//! How many messages of our own a second go out.

use std::time::Duration;

/// So many a second of the caller's clock; what is not used is lost.
#[derive(Debug)]
pub(super) struct Rate {
    limit: u32,
    left: u32,
    second: u64,
}

impl Rate {
    /// `limit` a second.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            left: limit,
            second: 0,
        }
    }

    /// Whether one more may go out.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        if now.as_secs() != self.second {
            self.second = now.as_secs();
            self.left = self.limit;
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_no_more() {
        let mut rate = Rate::new(3);
        let in_ms = |from: u64, to: u64, rate: &mut Rate| {
            let at = (from..to).map(Duration::from_millis);
            at.filter(|now| rate.take(*now)).count()
        };
        assert_eq!(in_ms(0, 1000, &mut rate), 3);
        assert_eq!(in_ms(1000, 4000, &mut rate), 9);
        assert_eq!(in_ms(9_000, 9_002, &mut rate), 2);
    }
}
