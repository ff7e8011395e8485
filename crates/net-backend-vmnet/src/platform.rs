//! Which framework there is.

use std::sync::Arc;

use crate::VmnetError;
use crate::framework::{Feature, Framework};

/// The framework of this system.
///
/// # Errors
/// [`VmnetError::UnsupportedSystem`] where there is none.
pub(crate) fn framework() -> Result<Arc<dyn Framework>, VmnetError> {
    #[cfg(target_os = "macos")]
    return Ok(Arc::new(crate::ffi::Apple));
    #[cfg(not(target_os = "macos"))]
    return Err(VmnetError::UnsupportedSystem);
}

/// Refuses what this release of the system does not have.
pub(crate) fn needs(framework: &dyn Framework, feature: Feature) -> Result<(), VmnetError> {
    if framework.has(feature) {
        Ok(())
    } else {
        Err(VmnetError::TooOld {
            what: feature.name(),
            since: feature.since(),
        })
    }
}
