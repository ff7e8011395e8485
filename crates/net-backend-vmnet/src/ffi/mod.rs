//! vmnet.framework itself: the only unsafe code of this crate.
//!
//! Each handler is a block of its own that holds nothing but the closure it was made from. The
//! framework copies the block and releases its copy when it is done, so that an answer that comes
//! late, twice or never touches no memory of an interface that is gone.

mod interface;
mod network;
mod objects;
mod symbols;
mod sys;

use block2::RcBlock;

use self::interface::AppleInterface;
use self::objects::{Queue, Xpc, read_dictionary, text};
use self::sys::{BlockRef, QueueRef, XpcObject};
use crate::framework::{Feature, Framework, Interface, Network, OnStart};
use crate::key::Dictionary;
use crate::network::Step;

/// The framework of the system the program runs on.
pub(crate) struct Apple;

impl Framework for Apple {
    fn has(&self, feature: Feature) -> bool {
        symbols::has(feature)
    }

    fn start(&self, request: &Dictionary, done: OnStart) -> Option<Box<dyn Interface>> {
        start(request, done, |request, queue, handler| {
            // SAFETY: a dictionary, a queue and a block of the handler's type; the framework keeps
            // references of its own to what it needs for longer.
            unsafe { sys::vmnet_start_interface(request, queue, handler) }
        })
    }

    fn shared_interfaces(&self) -> Option<Vec<String>> {
        // SAFETY: no arguments; "copy" in the name means that the result is ours to release.
        let list = unsafe { Xpc::from_raw(sys::vmnet_copy_shared_interface_list()) }?;
        // SAFETY: an array of strings, by `vmnet.h`; it owns them and outlives the copying.
        Some(unsafe {
            (0..sys::xpc_array_get_count(list.as_raw()))
                .filter_map(|index| text(sys::xpc_array_get_string(list.as_raw(), index)))
                .collect()
        })
    }

    fn create_network(&self, mode: u32, steps: &[Step]) -> Result<Box<dyn Network>, u32> {
        network::create(mode, steps)
    }
}

/// Starts an interface by `call`, which is given the request, the queue and the handler.
fn start(
    request: &Dictionary,
    done: OnStart,
    call: impl FnOnce(XpcObject, QueueRef, BlockRef) -> sys::InterfaceRef,
) -> Option<Box<dyn Interface>> {
    let request = Xpc::dictionary(request)?;
    // Two queues: a completion never waits for an event.
    let completions = Queue::new(c"net-backend-vmnet.completions")?;
    let events = Queue::new(c"net-backend-vmnet.events")?;
    let handler = RcBlock::new(move |status: u32, reply: XpcObject| {
        // SAFETY: the framework hands over NULL or a dictionary that lives during the call.
        done(status, unsafe { read_dictionary(reply) });
    });
    let interface = call(
        request.as_raw(),
        completions.as_raw(),
        RcBlock::as_ptr(&handler).cast(),
    );
    AppleInterface::new(interface, completions, events).map(|it| Box::new(it) as _)
}
