//! System calls that are left, from lists.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::syscalls::{self, Argument, Call, Value};
use crate::{LinuxError, Result};

/// What becomes of a system call that is not in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It fails with EPERM.
    Errno,
    /// It ends the process with SIGSYS.
    Kill,
    /// It is made, and the kernel's log tells of it: to find out what a list has to have.
    Log,
}

impl Refusal {
    const fn action(self) -> SeccompAction {
        match self {
            Self::Errno => SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            Self::Kill => SeccompAction::KillProcess,
            Self::Log => SeccompAction::Log,
        }
    }
}

/// Leaves the system calls of these lists to every thread of the process and all that follow.
///
/// A call that is in several lists may be made in every way that one of them allows. `clone3` fails
/// with ENOSYS, whatever the lists say: what it asks for lies in memory where no filter sees it, and
/// the C library then falls back to `clone`.
///
/// # Errors
/// [`LinuxError::Invalid`] on an architecture that is not known (x86-64, AArch64 and RISC-V are), or
/// if the kernel refuses.
pub fn seccomp(lists: &[syscalls::List], refusal: Refusal) -> Result<()> {
    for program in programs(lists, refusal)? {
        seccompiler::apply_filter_all_threads(&program).map_err(|error| {
            LinuxError::Invalid(format!("seccomp: the filter is refused: {error}"))
        })?;
    }
    Ok(())
}

/// The filters, in the order in which they are set. Of two answers the kernel takes the stricter, an
/// errno before "allow".
fn programs(lists: &[syscalls::List], refusal: Refusal) -> Result<[BpfProgram; 2]> {
    let broken = |error| LinuxError::Invalid(format!("seccomp: no filter from the lists: {error}"));
    let target = TargetArch::try_from(std::env::consts::ARCH).map_err(broken)?;
    let compile = |rules, otherwise, matched| -> Result<BpfProgram> {
        SeccompFilter::new(rules, otherwise, matched, target)
            .and_then(BpfProgram::try_from)
            .map_err(broken)
    };
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut rules = rules(lists).map_err(broken)?;
    // The other filter answers.
    rules.insert(libc::SYS_clone3, Vec::new());
    Ok([
        compile(clone3, SeccompAction::Allow, no_such_call)?,
        compile(rules, refusal.action(), SeccompAction::Allow)?,
    ])
}

/// The rules of each call; a call without a rule may be made in every way.
fn rules(
    lists: &[syscalls::List],
) -> std::result::Result<BTreeMap<c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut all: BTreeMap<c_long, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for Call { number, ways } in lists.iter().copied().flatten() {
        let entry = all.entry(*number).or_insert_with(|| Some(Vec::new()));
        if ways.is_empty() {
            *entry = None;
        }
        if let Some(rules) = entry {
            for way in *ways {
                let conditions: std::result::Result<Vec<_>, _> =
                    way.iter().map(condition).collect();
                rules.push(SeccompRule::new(conditions?)?);
            }
        }
    }
    let plain = all.into_iter();
    Ok(plain
        .map(|(number, rules)| (number, rules.unwrap_or_default()))
        .collect())
}

fn condition(
    argument: &Argument,
) -> std::result::Result<SeccompCondition, seccompiler::BackendError> {
    let value = match argument.value {
        Value::Is(value) => value,
        Value::OwnProcess => u64::from(std::process::id()),
    };
    let length = match argument.wide {
        true => SeccompCmpArgLen::Qword,
        false => SeccompCmpArgLen::Dword,
    };
    SeccompCondition::new(
        argument.index,
        length,
        SeccompCmpOp::MaskedEq(argument.mask),
        value,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_makes_a_filter() {
        for (name, list) in syscalls::ALL {
            let programs = programs(&[list], Refusal::Errno);
            assert!(programs.is_ok_and(|two| two[1].len() > 3), "{name}");
        }
        let all: Vec<syscalls::List> = syscalls::ALL.iter().map(|(_, list)| *list).collect();
        // The kernel takes 4,096 instructions.
        let programs = programs(&all, Refusal::Kill).unwrap();
        assert!(programs.iter().all(|program| program.len() < 4096));
    }

    #[test]
    fn a_call_that_one_list_leaves_free_is_free() {
        const NARROW: &[Call] = &[Call::when(1, &[&[Argument::is(0, 7)]])];
        const OTHER: &[Call] = &[Call::when(1, &[&[Argument::is(0, 8)]])];
        const FREE: &[Call] = &[Call::free(1)];
        assert_eq!(rules(&[NARROW, OTHER]).unwrap()[&1].len(), 2);
        assert!(rules(&[NARROW, FREE, OTHER]).unwrap()[&1].is_empty());
        assert!(rules(&[FREE]).unwrap()[&1].is_empty());
    }

    #[test]
    fn nothing_that_leads_out_is_in_a_list() {
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_init_module,
            libc::SYS_io_uring_setup,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_clone3,
            libc::SYS_chroot,
            libc::SYS_setuid,
        ];
        for (name, list) in syscalls::ALL {
            let found = list.iter().find(|call| forbidden.contains(&call.number));
            assert_eq!(found, None, "{name}");
        }
    }
}
