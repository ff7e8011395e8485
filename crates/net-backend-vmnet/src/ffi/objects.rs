//! Objects of macOS that are released when they are dropped.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{NonNull, null, null_mut};

use super::symbols::key_name;
use super::sys::{self, QueueRef, XpcObject};
use crate::key::{Dictionary, Key, Kind, Value};

/// A serial queue of dispatch.
pub(super) struct Queue(NonNull<std::ffi::c_void>);

// SAFETY: a queue is made to be used from any thread, and its count of references is atomic.
unsafe impl Send for Queue {}

impl Queue {
    pub(super) fn new(label: &CStr) -> Option<Self> {
        // SAFETY: the label ends with a zero byte; no attributes make a serial queue. The result is
        // ours to release.
        NonNull::new(unsafe { sys::dispatch_queue_create(label.as_ptr(), null_mut()) }).map(Self)
    }

    pub(super) fn as_raw(&self) -> QueueRef {
        self.0.as_ptr()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the reference of `new`, released once. Blocks still on the queue hold their own.
        unsafe { sys::dispatch_release(self.0.as_ptr()) };
    }
}

/// An object of XPC that is ours to release.
pub(super) struct Xpc(NonNull<std::ffi::c_void>);

impl Xpc {
    /// Takes over a reference; `None` for NULL.
    ///
    /// # Safety
    /// `object` is NULL or an object of XPC with a reference that nobody else releases.
    pub(super) unsafe fn from_raw(object: XpcObject) -> Option<Self> {
        NonNull::new(object).map(Self)
    }

    /// A dictionary with the contents of `request`; names that this system lacks are left out,
    /// which the caller has ruled out before.
    pub(super) fn dictionary(request: &Dictionary) -> Option<Self> {
        // SAFETY: no keys and no values; the result is ours to release.
        let object = unsafe { Self::from_raw(sys::xpc_dictionary_create(null(), null(), 0)) }?;
        for (key, value) in request.iter() {
            let Some(name) = key_name(*key) else { continue };
            object.set(name, value);
        }
        Some(object)
    }

    fn set(&self, name: *const c_char, value: &Value) {
        let object = self.as_raw();
        // SAFETY: `object` is a dictionary, `name` a string of the framework, and the value lives
        // during the call, which copies it.
        unsafe {
            match value {
                Value::Number(number) => sys::xpc_dictionary_set_uint64(object, name, *number),
                Value::Flag(flag) => sys::xpc_dictionary_set_bool(object, name, *flag),
                Value::Uuid(bytes) => sys::xpc_dictionary_set_uuid(object, name, bytes),
                Value::Text(text) => {
                    // Addresses and checked names: none has a zero byte.
                    if let Ok(text) = CString::new(text.as_str()) {
                        sys::xpc_dictionary_set_string(object, name, text.as_ptr());
                    }
                }
            }
        }
    }

    pub(super) fn as_raw(&self) -> XpcObject {
        self.0.as_ptr()
    }
}

impl Drop for Xpc {
    fn drop(&mut self) {
        // SAFETY: the reference of `from_raw`, released once.
        unsafe { sys::xpc_release(self.0.as_ptr()) };
    }
}

/// Reads everything that is known here from a dictionary of the framework, which may be NULL.
///
/// # Safety
/// `object` is NULL or a dictionary of XPC that lives during the call.
pub(super) unsafe fn read_dictionary(object: XpcObject) -> Dictionary {
    let mut read = Dictionary::default();
    if object.is_null() {
        return read;
    }
    for key in Key::ALL {
        let Some(name) = key_name(*key) else { continue };
        // SAFETY: a dictionary by the caller's promise, a name of the framework.
        let value = unsafe { read_value(object, name, key.kind()) };
        if let Some(value) = value {
            read.set(*key, value);
        }
    }
    read
}

/// Reads one value; what is missing reads as `None`, and so does a number of zero or a flag that is
/// off, which the framework's getters do not tell from it.
///
/// # Safety
/// `object` is a dictionary of XPC, `name` ends with a zero byte.
unsafe fn read_value(object: XpcObject, name: *const c_char, kind: Kind) -> Option<Value> {
    // SAFETY: by the caller's promise. Strings and identities belong to the dictionary and are
    // copied before the call returns.
    unsafe {
        match kind {
            Kind::Number => match sys::xpc_dictionary_get_uint64(object, name) {
                0 => None,
                number => Some(Value::Number(number)),
            },
            Kind::Flag => sys::xpc_dictionary_get_bool(object, name).then_some(Value::Flag(true)),
            Kind::Text => text(sys::xpc_dictionary_get_string(object, name)).map(Value::Text),
            Kind::Uuid => {
                let bytes = sys::xpc_dictionary_get_uuid(object, name);
                NonNull::new(bytes.cast_mut()).map(|bytes| Value::Uuid(bytes.read()))
            }
        }
    }
}

/// Copies a string of the framework; `None` for NULL.
///
/// # Safety
/// `text` is NULL or ends with a zero byte, and is not changed during the call.
pub(super) unsafe fn text(text: *const c_char) -> Option<String> {
    let text = NonNull::new(text.cast_mut())?;
    // SAFETY: not NULL; the rest by the caller's promise.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) };
    Some(text.to_string_lossy().into_owned())
}
