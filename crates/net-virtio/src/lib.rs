//! virtio-net queues and vhost-user-net.
