//! What Services, ServiceEntries and DestinationRules promise of clusters, from the YAML to the bytes.

mod balance;
mod gateway;
mod http2;
mod leaving;
mod limits;
mod opaque;
mod origination;
mod outliers;
mod own_ports;
mod priorities;
mod protocols;
mod rules;
mod services;
mod time;
mod unix;
mod unread;
mod unreadable;
mod waiting;
