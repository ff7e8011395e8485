//! What of macOS is called: vmnet.framework, XPC, dispatch, and one function of CoreFoundation.
//!
//! Signatures by the headers of the SDK (`vmnet/vmnet.h`, `xpc/xpc.h`, `dispatch/dispatch.h`). What
//! every macOS since 10.15 has is linked, so that a wrong name fails at the link; what is newer is
//! looked up when the program runs ([`super::symbols`]).

use std::ffi::{c_char, c_int, c_void};

/// An object of XPC: a dictionary, an array, a string.
pub(super) type XpcObject = *mut c_void;
/// `dispatch_queue_t`.
pub(super) type QueueRef = *mut c_void;
/// `interface_ref`.
pub(super) type InterfaceRef = *mut c_void;
/// `vmnet_network_ref`, an object of CoreFoundation.
pub(super) type NetworkRef = *mut c_void;
/// `vmnet_network_configuration_ref`, an object of CoreFoundation.
pub(super) type ConfigurationRef = *mut c_void;
/// A block; who takes one copies it.
pub(super) type BlockRef = *mut c_void;

/// `struct vmpktdesc`.
#[repr(C)]
pub(super) struct PacketDescriptor {
    pub(super) size: usize,
    pub(super) iov: *mut libc::iovec,
    pub(super) iov_count: u32,
    pub(super) flags: u32,
}

#[link(name = "vmnet", kind = "framework")]
unsafe extern "C" {
    pub(super) fn vmnet_start_interface(
        request: XpcObject,
        queue: QueueRef,
        handler: BlockRef,
    ) -> InterfaceRef;
    pub(super) fn vmnet_interface_set_event_callback(
        interface: InterfaceRef,
        mask: u32,
        queue: QueueRef,
        callback: BlockRef,
    ) -> u32;
    pub(super) fn vmnet_read(
        interface: InterfaceRef,
        packets: *mut PacketDescriptor,
        count: *mut c_int,
    ) -> u32;
    pub(super) fn vmnet_write(
        interface: InterfaceRef,
        packets: *mut PacketDescriptor,
        count: *mut c_int,
    ) -> u32;
    pub(super) fn vmnet_stop_interface(
        interface: InterfaceRef,
        queue: QueueRef,
        handler: BlockRef,
    ) -> u32;
    pub(super) fn vmnet_copy_shared_interface_list() -> XpcObject;
}

// XPC and dispatch are parts of libSystem, which everything links.
unsafe extern "C" {
    pub(super) fn xpc_dictionary_create(
        keys: *const *const c_char,
        values: *const XpcObject,
        count: usize,
    ) -> XpcObject;
    pub(super) fn xpc_dictionary_set_uint64(object: XpcObject, key: *const c_char, value: u64);
    pub(super) fn xpc_dictionary_set_bool(object: XpcObject, key: *const c_char, value: bool);
    pub(super) fn xpc_dictionary_set_string(
        object: XpcObject,
        key: *const c_char,
        value: *const c_char,
    );
    pub(super) fn xpc_dictionary_set_uuid(
        object: XpcObject,
        key: *const c_char,
        value: *const [u8; 16],
    );
    // The getters give 0, false or NULL for a name that is missing or of another type.
    pub(super) fn xpc_dictionary_get_uint64(object: XpcObject, key: *const c_char) -> u64;
    pub(super) fn xpc_dictionary_get_bool(object: XpcObject, key: *const c_char) -> bool;
    pub(super) fn xpc_dictionary_get_string(object: XpcObject, key: *const c_char)
    -> *const c_char;
    pub(super) fn xpc_dictionary_get_uuid(object: XpcObject, key: *const c_char)
    -> *const [u8; 16];
    pub(super) fn xpc_array_get_count(array: XpcObject) -> usize;
    pub(super) fn xpc_array_get_value(array: XpcObject, index: usize) -> XpcObject;
    pub(super) fn xpc_array_get_string(array: XpcObject, index: usize) -> *const c_char;
    pub(super) fn xpc_release(object: XpcObject);

    pub(super) fn dispatch_queue_create(label: *const c_char, attributes: *mut c_void) -> QueueRef;
    pub(super) fn dispatch_release(object: QueueRef);
}

#[link(name = "CoreFoundation", kind = "framework")]
unsafe extern "C" {
    pub(super) fn CFRelease(object: *const c_void);
}
