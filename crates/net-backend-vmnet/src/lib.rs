//! vmnet.framework as a network back end (macOS).
