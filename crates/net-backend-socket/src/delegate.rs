//! The trait of the datagram kinds, which are one engine with different settings.

/// Implements the back end for a type that is a `DatagramPort` in its field `port`.
macro_rules! datagram_backend {
    ($kind:ty) => {
        impl ::net_backend::NetworkBackend for $kind {
            fn capabilities(&self) -> ::net_backend::Capabilities {
                self.port.capabilities()
            }

            fn set_offloads(
                &mut self,
                want: ::net_backend::Offloads,
            ) -> Result<::net_backend::Offloads, ::net_backend::BackendError> {
                Ok(self.port.set_offloads(want))
            }

            fn receive(
                &mut self,
                budget: usize,
                sink: &mut dyn FnMut(&mut [::net_datapath::ZeroCopyPacket<'_>]),
            ) -> Result<usize, ::net_backend::BackendError> {
                self.port.receive(budget, sink)
            }

            fn transmit(
                &mut self,
                frames: &[::net_backend::TxFrame<'_>],
            ) -> Result<usize, ::net_backend::BackendError> {
                self.port.transmit(frames)
            }

            fn flush(&mut self) -> Result<bool, ::net_backend::BackendError> {
                self.port.flush()
            }

            fn wants_write(&self) -> bool {
                self.port.wants_write()
            }

            fn source(&self) -> Option<::std::os::fd::BorrowedFd<'_>> {
                Some(self.port.source())
            }

            fn next_deadline(&self) -> Option<::std::time::Duration> {
                self.port.next_deadline()
            }

            fn on_deadline(&mut self, now: ::std::time::Duration) {
                self.port.on_deadline(now)
            }

            fn statistics(&self) -> ::net_backend::BackendStats {
                self.port.statistics()
            }

            fn reattaches(&self) -> bool {
                self.port.reattaches()
            }
        }
    };
}

pub(crate) use datagram_backend;
