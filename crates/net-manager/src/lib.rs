//! Networks, attachments, address allocation, port forwards and workers.
