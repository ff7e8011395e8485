//! What each message of the protocol does. Messages are read and answered by the crate `vhost`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use net_wire::MacAddr;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error, GpuBackend, Result, VhostUserBackendReqHandler, VhostUserProtocolFeatures,
};

use super::dirty::Bitmap;
use super::error::ProtocolError;
use super::inflight::{Area, AreaAt};
use super::memory::{MAX_REGIONS, Mapped, MemoryTable, RegionAt};
use super::rings::{RingAt, Rings};
use super::shared::Shared;
use super::sys;

/// The largest configuration space there is (VIRTIO 1.3, 4.1.4.5); ours is followed by zeros.
const CONFIG_SPACE: usize = 4096;

/// One connection's messages, carried out on the device.
pub(super) struct Session {
    shared: Arc<Shared>,
    /// The protocol features the front-end has taken.
    protocol: AtomicU64,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            protocol: AtomicU64::new(0),
        }
    }

    /// Carries something out with the rings, then lets the worker look.
    fn with<T>(&self, what: impl FnOnce(&mut Rings) -> T) -> T {
        self.shared.for_protocol(what)
    }

    fn has(&self, feature: VhostUserProtocolFeatures) -> bool {
        self.protocol.load(Ordering::Relaxed) & feature.bits() != 0
    }

    fn needs(&self, feature: VhostUserProtocolFeatures) -> Result<()> {
        match self.has(feature) {
            true => Ok(()),
            false => Err(Error::InactiveOperation(feature)),
        }
    }

    /// Whether messages are acknowledged when that is asked for.
    pub(super) fn acknowledges(&self) -> bool {
        self.has(VhostUserProtocolFeatures::REPLY_ACK)
    }

    pub(super) fn enable(&self, index: u32, enable: bool) -> Result<()> {
        Ok(self.with(|rings| rings.enable(index, enable))?)
    }

    pub(super) fn set_log_event(&self, file: OwnedFd) -> Result<()> {
        self.needs(VhostUserProtocolFeatures::LOG_SHMFD)?;
        let event = sys::foreign_eventfd(file.into()).map_err(ProtocolError::from)?;
        Ok(self.with(|rings| rings.set_dirty_event(event))?)
    }

    /// Has the device say where the guest with this address is.
    pub(super) fn send_rarp(&self, mac: MacAddr) -> Result<()> {
        self.needs(VhostUserProtocolFeatures::RARP)?;
        if !mac.is_unicast() {
            return Err(ProtocolError::HardwareAddress(mac).into());
        }
        if !self.with(|rings| rings.device().announce_address(mac)) {
            log::info!("vhost-user: {mac} is not announced: it is not the port's own address");
        }
        Ok(())
    }

    pub(super) fn status(&self) -> Result<u64> {
        self.needs(VhostUserProtocolFeatures::STATUS)?;
        Ok(self.with(|rings| rings.status()).into())
    }

    pub(super) fn set_status(&self, status: u64) -> Result<()> {
        self.needs(VhostUserProtocolFeatures::STATUS)?;
        let status = u8::try_from(status).map_err(|_| ProtocolError::Status(status))?;
        Ok(self.with(|rings| rings.set_status(status))?)
    }
}

/// Whichever region message it came in.
fn region_at(region: &VhostUserMemoryRegion) -> RegionAt {
    RegionAt {
        guest: region.guest_phys_addr,
        size: region.memory_size,
        user: region.user_addr,
        offset: region.mmap_offset,
    }
}

/// A descriptor that a message may leave out.
fn optional_eventfd(file: Option<File>) -> std::result::Result<Option<OwnedFd>, ProtocolError> {
    Ok(file.map(sys::foreign_eventfd).transpose()?)
}

fn refuse<T>(what: &'static str) -> Result<T> {
    Err(ProtocolError::NotServed(what).into())
}

impl VhostUserBackendReqHandler for Session {
    fn set_owner(&self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&self) -> Result<()> {
        self.with(Rings::disable_all);
        Ok(())
    }

    fn reset_device(&self) -> Result<()> {
        self.with(Rings::reset);
        Ok(())
    }

    fn get_features(&self) -> Result<u64> {
        Ok(self.with(|rings| rings.features()))
    }

    fn set_features(&self, features: u64) -> Result<()> {
        Ok(self.with(|rings| rings.set_features(features))?)
    }

    fn set_mem_table(
        &self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        // Mapped and unmapped without the lock: either may take its time.
        let mapped = regions
            .iter()
            .zip(files)
            .map(|(region, file)| Mapped::new(region_at(region), file));
        let table = MemoryTable::new(mapped.collect::<std::result::Result<_, _>>()?)?;
        drop(self.with(|rings| rings.set_memory(table)));
        Ok(None)
    }

    fn set_vring_num(&self, index: u32, num: u32) -> Result<()> {
        Ok(self.with(|rings| rings.set_size(index, num))?)
    }

    fn set_vring_addr(
        &self,
        index: u32,
        flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        log: u64,
    ) -> Result<()> {
        let at = RingAt {
            descriptors: descriptor,
            driver: available,
            device: used,
            marked: flags
                .contains(VhostUserVringAddrFlags::VHOST_VRING_F_LOG)
                .then_some(log),
        };
        Ok(self.with(|rings| rings.set_addresses(index, at))?)
    }

    fn set_vring_base(&self, index: u32, base: u32) -> Result<()> {
        Ok(self.with(|rings| rings.set_base(index, base))?)
    }

    fn get_vring_base(&self, index: u32) -> Result<VhostUserVringState> {
        let base = self.with(|rings| rings.take_base(index))?;
        Ok(VhostUserVringState::new(index, base))
    }

    fn set_vring_kick(&self, index: u8, fd: Option<File>) -> Result<()> {
        let kick = optional_eventfd(fd)?.ok_or(ProtocolError::NoKick(index))?;
        Ok(self.with(|rings| rings.set_kick(index.into(), kick))?)
    }

    fn set_vring_call(&self, index: u8, fd: Option<File>) -> Result<()> {
        let call = optional_eventfd(fd)?;
        Ok(self.with(|rings| rings.set_call(index.into(), call))?)
    }

    fn set_vring_err(&self, index: u8, fd: Option<File>) -> Result<()> {
        let error = optional_eventfd(fd)?;
        Ok(self.with(|rings| rings.set_error(index.into(), error))?)
    }

    fn get_protocol_features(&self) -> Result<VhostUserProtocolFeatures> {
        Ok(OFFERED)
    }

    fn set_protocol_features(&self, features: u64) -> Result<()> {
        let extra = features & !OFFERED.bits();
        if extra != 0 {
            return Err(ProtocolError::ProtocolFeatures(extra).into());
        }
        self.protocol.store(features, Ordering::Relaxed);
        Ok(())
    }

    /// Receive and transmit rings. QEMU takes the number for pairs and so could ask for twice as
    /// many as there are, whereupon its connection ends; Cloud Hypervisor takes it for rings.
    fn get_queue_num(&self) -> Result<u64> {
        Ok(self.with(|rings| rings.device().queues() as u64 - 1))
    }

    fn set_vring_enable(&self, index: u32, enable: bool) -> Result<()> {
        self.enable(index, enable)
    }

    fn get_config(&self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let mut space = [0; CONFIG_SPACE];
        let ours = self.with(|rings| rings.device().config_space());
        space[..ours.len()].copy_from_slice(&ours);
        let asked = space.get(offset as usize..).unwrap_or_default();
        let asked = asked.get(..size as usize).unwrap_or_default();
        Ok(asked.to_vec())
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        Err(ProtocolError::ReadOnlyConfig.into())
    }

    fn get_max_mem_slots(&self) -> Result<u64> {
        Ok(MAX_REGIONS as u64)
    }

    fn add_mem_region(
        &self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<u64>> {
        let mapped = Mapped::new(region_at(region), file)?;
        let table = self.with(|rings| rings.memory().clone()).with(mapped)?;
        drop(self.with(|rings| rings.set_memory(table)));
        Ok(None)
    }

    fn remove_mem_region(&self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let table = self.with(|rings| rings.memory().clone());
        let table = table.without(region_at(region))?;
        drop(self.with(|rings| rings.set_memory(table)));
        Ok(())
    }

    fn set_gpu_socket(&self, _gpu: GpuBackend) -> Result<()> {
        refuse("a display")
    }

    fn get_shared_object(&self, _uuid: VhostUserSharedMsg) -> Result<File> {
        refuse("an object of another device")
    }

    fn get_inflight_fd(&self, inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let wanted = inflight.num_queues;
        let (queues, packed) = self.with(|rings| (rings.device().queues(), rings.is_packed()));
        if usize::from(wanted) > queues {
            return Err(ProtocolError::Ring(wanted.into()).into());
        }
        let (at, file) = Area::create(wanted, inflight.queue_size, packed)?;
        let answer = VhostUserInflight::new(at.size, at.offset, at.queues, at.entries);
        Ok((answer, file))
    }

    fn set_inflight_fd(&self, inflight: &VhostUserInflight, file: File) -> Result<()> {
        let at = AreaAt {
            size: inflight.mmap_size,
            offset: inflight.mmap_offset,
            queues: inflight.num_queues,
            entries: inflight.queue_size,
        };
        let area = Area::map(at, &file)?;
        // What it replaces is unmapped without the lock.
        drop(self.with(|rings| rings.set_inflight(area))?);
        Ok(())
    }

    fn get_shmem_config(&self) -> Result<VhostUserShMemConfig> {
        refuse("memory of the device's own")
    }

    fn set_device_state_fd(
        &self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        refuse("a transfer of the device's state")
    }

    fn check_device_state(&self) -> Result<()> {
        refuse("a transfer of the device's state")
    }

    fn set_log_base(&self, log: &VhostUserLog, file: File) -> Result<()> {
        let bitmap = Bitmap::map(&file, log.mmap_offset, log.mmap_size)?;
        // What it replaces is unmapped without the lock.
        drop(self.with(|rings| rings.set_dirty_log(bitmap))?);
        Ok(())
    }
}

/// The protocol features served.
const OFFERED: VhostUserProtocolFeatures = VhostUserProtocolFeatures::REPLY_ACK
    .union(VhostUserProtocolFeatures::MQ)
    .union(VhostUserProtocolFeatures::RARP)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::STATUS)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD)
    .union(VhostUserProtocolFeatures::LOG_SHMFD);
