//! Errors of this crate: whose fault, which errno, what to do.

use std::borrow::Cow;
use std::io;

/// Why a device or a namespace cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinuxError {
    /// The request itself cannot be fulfilled: the caller's fault.
    #[error("{0}")]
    Invalid(String),
    /// The kernel refused.
    #[error("{what}: {}{}", io::Error::from_raw_os_error(*errno), Suffix(advice))]
    Host {
        /// What was attempted.
        what: Cow<'static, str>,
        /// The error number of the operating system.
        errno: i32,
        /// What to do about it; empty where nothing can be said.
        advice: Cow<'static, str>,
    },
    /// The rules of the kernel's packet filter cannot be had or changed; the text says why and what
    /// to do.
    #[error("nftables: {0}")]
    Nftables(String),
    /// The helper process ended or spoke out of turn.
    #[error("namespace helper: {0}")]
    Helper(&'static str),
}

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, LinuxError>;

impl LinuxError {
    /// The kernel's refusal of `what`, with what is generally to be done about that errno.
    pub fn host(what: impl Into<Cow<'static, str>>, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Self::Host {
            what: what.into(),
            errno,
            advice: general_advice(errno).into(),
        }
    }

    /// The same refusal with advice that fits better.
    #[must_use]
    pub fn with_advice(self, better: impl Into<Cow<'static, str>>) -> Self {
        match self {
            Self::Host { what, errno, .. } => Self::Host {
                what,
                errno,
                advice: better.into(),
            },
            other => other,
        }
    }

    /// The errno of a refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Host { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// Adds "what was attempted" to a result of the standard library.
pub(crate) trait Context<T> {
    /// The error as [`LinuxError::Host`].
    fn context(self, what: impl Into<Cow<'static, str>>) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|error| LinuxError::host(what, &error))
    }
}

fn general_advice(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => {
            "needs CAP_NET_ADMIN: run in a namespace of your own, or as root"
        }
        libc::EMFILE => "raise the limit of open files: ulimit -n",
        libc::ENOSPC => "the limit of namespaces is reached: see /proc/sys/user",
        libc::EBUSY => "another process uses the device",
        _ => "",
    }
}

/// Advice in parentheses, or nothing.
struct Suffix<'a>(&'a str);

impl std::fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_with_advice() {
        let error = LinuxError::host("open /dev/net/tun", &io::Error::from_raw_os_error(13));
        assert_eq!(
            error.to_string(),
            "open /dev/net/tun: Permission denied (os error 13) (needs CAP_NET_ADMIN: run in a \
             namespace of your own, or as root)"
        );
        let error = LinuxError::host("read", &io::Error::from_raw_os_error(5));
        assert_eq!(error.to_string(), "read: Input/output error (os error 5)");
        let error = error.with_advice("try again");
        assert!(error.to_string().ends_with("(try again)"));
        assert_eq!(error.errno(), Some(5));
    }
}
