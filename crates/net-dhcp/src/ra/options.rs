//! The options behind a message (RFC 4861, section 4.6).

/// Gives each option to `visit`, by its type and with its first two bytes; `None` where one has no
/// length or goes on behind the message.
pub(super) fn visit(options: &[u8], mut visit: impl FnMut(u8, &[u8])) -> Option<()> {
    let mut rest = options;
    while !rest.is_empty() {
        let &[kind, words, ..] = rest else {
            return None;
        };
        let (option, behind) = rest.split_at_checked(usize::from(words) * 8)?;
        if option.is_empty() {
            return None;
        }
        visit(kind, option);
        rest = behind;
    }
    Some(())
}
