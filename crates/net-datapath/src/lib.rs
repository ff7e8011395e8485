//! Lock-free SPSC ring, packet pool, zero-copy packet, virtio-net header and segmentation.
