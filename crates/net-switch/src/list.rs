//! Doubly linked lists through the entries of a table, by index: the oldest is in front.

/// "No entry".
pub(crate) const NIL: u32 = u32::MAX;

/// An entry's place in one list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    prev: u32,
    next: u32,
}

impl Links {
    pub(crate) const LOOSE: Self = Self {
        prev: NIL,
        next: NIL,
    };
}

/// The two ends of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    front: u32,
    back: u32,
}

impl List {
    pub(crate) const EMPTY: Self = Self {
        front: NIL,
        back: NIL,
    };

    /// The oldest entry.
    pub(crate) fn front(&self) -> Option<u32> {
        (self.front != NIL).then_some(self.front)
    }

    /// Appends `index`. `links` finds the links of an entry in this list.
    pub(crate) fn push_back<T>(
        &mut self,
        entries: &mut [T],
        index: u32,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let last = self.back;
        let Some(entry) = entries.get_mut(index as usize) else {
            return;
        };
        *links(entry) = Links {
            prev: last,
            next: NIL,
        };
        // NIL is no entry's index.
        match entries.get_mut(last as usize) {
            Some(entry) => links(entry).next = index,
            None => self.front = index,
        }
        self.back = index;
    }

    /// Takes `index`, which must be in this list, out of it.
    pub(crate) fn unlink<T>(
        &mut self,
        entries: &mut [T],
        index: u32,
        links: impl Fn(&mut T) -> &mut Links,
    ) {
        let Some(entry) = entries.get_mut(index as usize) else {
            return;
        };
        let Links { prev, next } = core::mem::replace(links(entry), Links::LOOSE);
        match entries.get_mut(prev as usize) {
            Some(entry) => links(entry).next = next,
            None => self.front = next,
        }
        match entries.get_mut(next as usize) {
            Some(entry) => links(entry).prev = prev,
            None => self.back = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(list: &List, entries: &[Links]) -> Vec<u32> {
        let mut order = Vec::new();
        let mut at = list.front;
        while at != NIL {
            assert!(order.len() <= entries.len(), "a loop");
            order.push(at);
            at = entries[at as usize].next;
        }
        order
    }

    /// Entries taken out of every place and put back, against a vector.
    #[test]
    fn like_a_vector() {
        let mut entries = vec![Links::LOOSE; 5];
        let mut list = List::EMPTY;
        let mut oracle: Vec<u32> = Vec::new();
        for step in 0..3000u32 {
            let index = (step * step / 3 + step * 7) % 5;
            let at = oracle.iter().position(|i| *i == index);
            if let Some(at) = at {
                list.unlink(&mut entries, index, |links| links);
                oracle.remove(at);
            }
            if at.is_none() || step % 3 == 0 {
                list.push_back(&mut entries, index, |links| links);
                oracle.push(index);
            }
            assert_eq!(order(&list, &entries), oracle);
            assert_eq!(list.back, oracle.last().copied().unwrap_or(NIL));
        }
    }
}
