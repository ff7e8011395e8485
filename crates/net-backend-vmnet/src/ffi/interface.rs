//! An interface of vmnet.framework.

use std::ffi::c_int;
use std::ptr::{NonNull, null_mut};

use block2::RcBlock;

use super::objects::Queue;
use super::symbols;
use super::sys::{self, InterfaceRef, PacketDescriptor, XpcObject};
use crate::forwarding::{RawRule, family, from_octets, octets};
use crate::framework::{Interface, Moved, OnDone, OnEvent, OnRules};
use crate::rx::Slots;
use crate::status::SUCCESS;
use crate::tx::Outgoing;

/// `VMNET_FAILURE`, where the function to call is missing.
const FAILURE: u32 = 1001;

/// A started interface. The framework owns it; stopping it is how it is given back.
pub(super) struct AppleInterface {
    raw: NonNull<std::ffi::c_void>,
    completions: Queue,
    events: Queue,
    /// Room for the descriptions of a batch, kept from call to call; empty between calls.
    descriptors: Vec<PacketDescriptor>,
    iovecs: Vec<libc::iovec>,
}

// SAFETY: the framework works on the threads of its queues and binds an interface to none; every
// call here takes `&mut`, so that there is one at a time. The two vectors hold pointers only during
// a call.
unsafe impl Send for AppleInterface {}

impl AppleInterface {
    pub(super) fn new(raw: InterfaceRef, completions: Queue, events: Queue) -> Option<Self> {
        Some(Self {
            raw: NonNull::new(raw)?,
            completions,
            events,
            descriptors: Vec::new(),
            iovecs: Vec::new(),
        })
    }

    /// Makes a descriptor of the `pieces` iovecs that were added last.
    fn describe(&mut self, size: usize, pieces: usize) {
        self.descriptors.push(PacketDescriptor {
            size,
            // Set by `aim`, when the vector does not move any more.
            iov: null_mut(),
            iov_count: u32::try_from(pieces).unwrap_or(0),
            flags: 0,
        });
    }

    /// Points each descriptor at its iovecs.
    fn aim(&mut self) {
        let mut at = 0;
        for descriptor in &mut self.descriptors {
            let rest = self.iovecs.get_mut(at..).unwrap_or_default();
            descriptor.iov = rest.as_mut_ptr();
            at += descriptor.iov_count as usize;
        }
    }

    /// The number of descriptors as the framework counts.
    fn count(&self) -> c_int {
        c_int::try_from(self.descriptors.len()).unwrap_or(0)
    }
}

/// A block that tells a status.
fn completion(done: OnDone) -> RcBlock<dyn Fn(u32)> {
    RcBlock::new(move |status: u32| done(status))
}

impl Interface for AppleInterface {
    fn set_events(&mut self, mask: u32, on_event: Option<OnEvent>) -> u32 {
        let Some(on_event) = on_event else {
            // SAFETY: a live interface; no queue and no callback mean that there are no more events.
            return unsafe {
                sys::vmnet_interface_set_event_callback(
                    self.raw.as_ptr(),
                    mask,
                    null_mut(),
                    null_mut(),
                )
            };
        };
        let block = RcBlock::new(move |events: u32, _details: XpcObject| on_event(events));
        // SAFETY: a live interface, a queue, and a block of the callback's type, which the
        // framework copies.
        unsafe {
            sys::vmnet_interface_set_event_callback(
                self.raw.as_ptr(),
                mask,
                self.events.as_raw(),
                RcBlock::as_ptr(&block).cast(),
            )
        }
    }

    fn read(&mut self, slots: &mut Slots, count: usize) -> Moved {
        self.descriptors.clear();
        self.iovecs.clear();
        for index in 0..count {
            let Some((memory, size)) = slots.slot_mut(index) else {
                break;
            };
            self.iovecs.push(libc::iovec {
                iov_base: memory.as_mut_ptr().cast(),
                iov_len: memory.len(),
            });
            let size = *size;
            self.describe(size, 1);
        }
        self.aim();
        let mut count = self.count();
        // SAFETY: `count` descriptors, each of one iovec over a slot of its own, which nobody else
        // refers to: `slots` is borrowed mutably. The framework keeps nothing.
        let status = unsafe {
            sys::vmnet_read(self.raw.as_ptr(), self.descriptors.as_mut_ptr(), &mut count)
        };
        for (index, descriptor) in self.descriptors.iter().enumerate() {
            if let Some((_, size)) = slots.slot_mut(index) {
                *size = descriptor.size;
            }
        }
        Moved {
            status,
            packets: usize::try_from(count).unwrap_or(0),
        }
    }

    fn write(&mut self, packets: &[Outgoing<'_>]) -> Moved {
        self.descriptors.clear();
        self.iovecs.clear();
        for packet in packets {
            let before = self.iovecs.len();
            if let Some(header) = &packet.header {
                self.iovecs.push(libc::iovec {
                    iov_base: header.as_ptr().cast_mut().cast(),
                    iov_len: header.len(),
                });
            }
            let segments = packet.segments.iter().filter(|segment| !segment.is_empty());
            self.iovecs.extend(segments.map(|segment| libc::iovec {
                iov_base: segment.as_ptr().cast_mut().cast(),
                iov_len: segment.len(),
            }));
            let pieces = self.iovecs.len() - before;
            self.describe(packet.size, pieces);
        }
        self.aim();
        let mut count = self.count();
        // SAFETY: `count` descriptors, each of its own iovecs over memory that is readable while
        // `packets` is borrowed. The framework reads it, whatever the type of the pointer, and
        // keeps nothing.
        let status = unsafe {
            sys::vmnet_write(self.raw.as_ptr(), self.descriptors.as_mut_ptr(), &mut count)
        };
        Moved {
            status,
            packets: usize::try_from(count).unwrap_or(0),
        }
    }

    fn stop(&mut self, done: OnDone) -> u32 {
        let block = completion(done);
        // SAFETY: a live interface, a queue, and a block of the handler's type, which is copied.
        unsafe {
            sys::vmnet_stop_interface(
                self.raw.as_ptr(),
                self.completions.as_raw(),
                RcBlock::as_ptr(&block).cast(),
            )
        }
    }

    fn add_rule(&mut self, rule: &RawRule, done: OnDone) -> u32 {
        let Some(function) = symbols::add_rule() else {
            return FAILURE;
        };
        let block = completion(done);
        let address = octets(rule.address);
        // SAFETY: a live interface, an address of the family named beside it, which lives during
        // the call, and a block that is copied.
        unsafe {
            function(
                self.raw.as_ptr(),
                rule.protocol,
                rule.external_port,
                family(rule.address),
                address.as_ptr().cast(),
                rule.port,
                RcBlock::as_ptr(&block).cast(),
            )
        }
    }

    fn remove_rule(&mut self, protocol: u8, external_port: u16, family: u8, done: OnDone) -> u32 {
        let Some(function) = symbols::remove_rule() else {
            return FAILURE;
        };
        let block = completion(done);
        let handler = RcBlock::as_ptr(&block).cast();
        // SAFETY: a live interface and a block that is copied.
        unsafe { function(self.raw.as_ptr(), protocol, external_port, family, handler) }
    }

    fn rules(&mut self, family: u8, done: OnRules) -> u32 {
        let Some(function) = symbols::rules() else {
            return FAILURE;
        };
        let block = RcBlock::new(move |rules: XpcObject| {
            // SAFETY: the framework hands over NULL or an array that lives during the call.
            done(unsafe { read_rules(rules, family) });
        });
        // SAFETY: a live interface and a block of the handler's type, which is copied.
        unsafe { function(self.raw.as_ptr(), family, RcBlock::as_ptr(&block).cast()) }
    }
}

/// Reads a list of rules; NULL means that there are none.
///
/// # Safety
/// `list` is NULL or an array of rules of the framework that lives during the call.
unsafe fn read_rules(list: XpcObject, family: u8) -> Result<Vec<RawRule>, u32> {
    if list.is_null() {
        return Ok(Vec::new());
    }
    let details = symbols::rule_details().ok_or(FAILURE)?;
    // SAFETY: an array by the caller's promise.
    let count = unsafe { sys::xpc_array_get_count(list) };
    let read = |index| {
        let (mut protocol, mut external_port, mut port) = (0, 0, 0);
        let mut address = [0u8; 16];
        // SAFETY: `index` is within the array, which owns the rule; the address has room for one of
        // either family.
        let status = unsafe {
            details(
                sys::xpc_array_get_value(list, index),
                &mut protocol,
                &mut external_port,
                family,
                address.as_mut_ptr().cast(),
                &mut port,
            )
        };
        if status != SUCCESS {
            return Err(status);
        }
        Ok(RawRule {
            protocol,
            external_port,
            address: from_octets(family, address),
            port,
        })
    };
    (0..count).map(read).collect()
}
