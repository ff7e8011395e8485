//! What the test tasks print at the end: one row a group, each skip and failure with its reason,
//! and one closing line.

/// Tests that want a kernel built otherwise than most are, which nobody can install for a test: VLANs
/// of bridges (`CONFIG_BRIDGE_VLAN_FILTERING`). Their being skipped is said and is no failure.
const WANT_ANOTHER_KERNEL: &[&str] = &["vlans_of_a_bridge", "kernel_vlans"];

/// How one group of tests went.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// What was tested: a crate and the kind of test.
    pub(crate) name: String,
    /// How many tests passed.
    pub(crate) passed: usize,
    /// Name and reason of each test that failed.
    pub(crate) failed: Vec<(String, String)>,
    /// Name and reason of each test that did not run.
    pub(crate) skipped: Vec<(String, String)>,
}

impl Group {
    /// A group in which nothing has run yet.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// The table as text, closing line last.
pub(crate) fn render(groups: &[Group], require_all: bool) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    let width = groups
        .iter()
        .map(|g| g.name.len())
        .max()
        .unwrap_or(0)
        .max(5);
    let _ = writeln!(out, "{:width$}  passed  failed  skipped", "group");
    for group in groups {
        let (passed, failed, skipped) = (group.passed, group.failed.len(), group.skipped.len());
        let _ = writeln!(
            out,
            "{:width$}  {passed:6}  {failed:6}  {skipped:7}",
            group.name
        );
    }
    let list = |out: &mut String, word: &str, of: fn(&Group) -> &Vec<(String, String)>| {
        for group in groups {
            for (name, reason) in of(group) {
                let _ = writeln!(out, "{word}  {}: {name}: {reason}", group.name);
            }
        }
    };
    list(&mut out, "SKIPPED", |g| &g.skipped);
    list(&mut out, "FAILED", |g| &g.failed);
    let (passed, failed, skipped) = totals(groups);
    if require_all && avoidable(groups) {
        let _ = writeln!(out, "--require-all: a skipped test is a failure");
    }
    let _ = writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped");
    out
}

/// Whether the run as a whole passed.
pub(crate) fn good(groups: &[Group], require_all: bool) -> bool {
    let (passed, failed, _) = totals(groups);
    // A run in which nothing ran shows nothing.
    failed == 0 && passed > 0 && !(require_all && avoidable(groups))
}

/// Whether a test was skipped that the machine could have run.
fn avoidable(groups: &[Group]) -> bool {
    let mut skipped = groups.iter().flat_map(|group| &group.skipped);
    skipped.any(|(name, _)| !WANT_ANOTHER_KERNEL.contains(&name.as_str()))
}

fn totals(groups: &[Group]) -> (usize, usize, usize) {
    groups.iter().fold((0, 0, 0), |(p, f, s), g| {
        (p + g.passed, f + g.failed.len(), s + g.skipped.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_a_skip_fails_only_when_told() {
        let mut group = Group::new("net-wire unit");
        group.passed = 3;
        assert!(good(std::slice::from_ref(&group), true));
        group.skipped.push(("a".into(), "needs root".into()));
        let groups = [group];
        assert!(good(&groups, false) && !good(&groups, true));
        let text = render(&groups, true);
        assert_eq!(text.lines().last(), Some("3 passed, 0 failed, 1 skipped"));
        assert!(
            text.contains("SKIPPED  net-wire unit: a: needs root"),
            "{text}"
        );
    }

    #[test]
    fn what_wants_another_kernel_is_said_and_does_not_fail() {
        let mut group = Group::new("x");
        group.passed = 1;
        let named = |name: &str| (name.to_owned(), "no VLANs".to_owned());
        group.skipped.push(named(WANT_ANOTHER_KERNEL[0]));
        assert!(good(std::slice::from_ref(&group), true));
        assert!(render(std::slice::from_ref(&group), true).contains("SKIPPED"));
        group.skipped.push(named("another"));
        assert!(!good(&[group], true));
    }

    #[test]
    fn a_failure_or_nothing_at_all_is_not_good() {
        let mut group = Group::new("x");
        assert!(!good(std::slice::from_ref(&group), false));
        group.passed = 1;
        group.failed.push(("t".into(), "why".into()));
        assert!(!good(&[group], false));
    }
}
