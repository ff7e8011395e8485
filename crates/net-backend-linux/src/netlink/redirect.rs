//! What arrives at one interface, sent out of another.

use super::Netlink;
use crate::Result;

/// The parent of filters that see what arrives (`TC_H_INGRESS`, its number in `linux/pkt_sched.h`).
const INGRESS: u32 = 0xffff_0000;
/// Filters for every protocol (`ETH_P_ALL`), in the order of the network.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

impl Netlink {
    /// Has every frame that arrives at the interface `from` leave by the interface `to`: super-frames
    /// stay what they are, and nothing else of the kernel sees the frame, no address and no rule.
    ///
    /// It ends with either interface.
    ///
    /// # Errors
    /// As for every method; EEXIST if something is attached to what `from` receives already, ENOENT
    /// or EOPNOTSUPP on a kernel without `NET_SCH_INGRESS`, `NET_CLS_U32` or `NET_ACT_MIRRED`.
    pub fn redirect(&self, from: u32, to: u32) -> Result<()> {
        let what = || format!("redirect what arrives at interface {from} to interface {to}");
        let advised = |error: crate::LinuxError| match error.errno() {
            Some(libc::ENOENT | libc::EOPNOTSUPP) => {
                error.with_advice("modprobe sch_ingress cls_u32 act_mirred")
            }
            _ => error,
        };
        // The kernel's numbers of interfaces are positive `int`s.
        let index = from.cast_signed();
        let request = self.handle.qdisc().add(index).ingress().execute();
        self.wait(what, request).map_err(advised)?;
        let filter = self
            .handle
            .traffic_filter(index)
            .add()
            .parent(INGRESS)
            .protocol(ALL_PROTOCOLS)
            .redirect(to)
            .map_err(|error| super::refusal(what(), &error))?;
        self.wait(what, filter.execute()).map_err(advised)
    }
}
