//! The options that every network takes.

use crate::options::{NetworkOptions, network, network6, poll_us, resolver, subnet};
use crate::usage::UsageError;

use super::text;

/// Takes one network option.
pub(super) fn option(
    options: &mut NetworkOptions,
    option: &str,
    parser: &mut lexopt::Parser,
) -> Result<(), UsageError> {
    match option {
        "--name" => options.name = Some(text(parser, option)?),
        "--mode" => options.mode = Some(text(parser, option)?.parse().map_err(UsageError::new)?),
        "--engine" => {
            options.engine = Some(text(parser, option)?.parse().map_err(UsageError::new)?);
        }
        "--fallback" => {
            options.fallback = Some(text(parser, option)?.parse().map_err(UsageError::new)?);
        }
        "--bridge" => {
            options.bridge = Some(crate::place::interface(&text(parser, option)?)?);
        }
        "--take-over" => {
            options.take_over = Some(crate::place::interface(&text(parser, option)?)?);
        }
        "--isolated" => options.isolated = true,
        "--storm" => options.storm = Some(text(parser, option)?.parse()?),
        "--snooping" => options.snooping = true,
        "--queues" => {
            let value = text(parser, option)?;
            let queues = value
                .parse()
                .ok()
                .filter(|queues| (1..=256).contains(queues));
            options.queues = Some(queues.ok_or_else(|| {
                UsageError::new(format!("--queues: `{value}` is not between 1 and 256"))
            })?);
        }
        "--poll" => options.poll = true,
        "--poll-us" => {
            let value = text(parser, option)?;
            let us = value.parse().map_err(|_| {
                UsageError::new(format!("--poll-us: `{value}` is no number of microseconds"))
            })?;
            options.poll_us = Some(poll_us(us)?);
        }
        "--reserve" => {
            let reservation = text(parser, option)?.parse().map_err(UsageError::new)?;
            options.reserve.push(reservation);
        }
        "--uplink" => {
            options.uplink = Some(text(parser, option)?.parse().map_err(UsageError::new)?);
        }
        "--outside" => options.outside = Some(network(&text(parser, option)?)?),
        "--via" => {
            let value = text(parser, option)?;
            let via = value
                .parse()
                .map_err(|_| UsageError::new(format!("--via: `{value}` is not an IPv4 address")))?;
            options.via = Some(via);
        }
        "--outside6" => options.outside6 = Some(network6(&text(parser, option)?)?),
        "--via6" => {
            let value = text(parser, option)?;
            let via = value.parse().map_err(|_| {
                UsageError::new(format!("--via6: `{value}` is not an IPv6 address"))
            })?;
            options.via6 = Some(via);
        }
        "--state-dir" => options.state_dir = Some(parser.value()?.into()),
        "--subnet" => options.subnet = Some(subnet(&text(parser, option)?)?),
        "--subnet6" => options.subnet6 = Some(text(parser, option)?.parse()?),
        "--mtu" => {
            let value = text(parser, option)?;
            let mtu = value.parse().map_err(|_| {
                UsageError::new(format!("--mtu: `{value}` is not between 576 and 65520"))
            })?;
            options.mtu = Some(mtu);
        }
        "-p" | "--publish" => {
            let port = text(parser, option)?.parse().map_err(UsageError::new)?;
            options.publish.push(port);
        }
        "--dns" => {
            options.dns.push(resolver(&text(parser, option)?)?);
            // `--dns ADDR...`: as many addresses as follow.
            while let Some(more) = parser.try_raw_args().and_then(|mut raw| {
                raw.next_if(|next| next.to_str().is_some_and(|next| resolver(next).is_ok()))
            }) {
                options.dns.push(resolver(&more.to_string_lossy())?);
            }
        }
        "--domain" => options.domain = Some(text(parser, option)?),
        "--host-loopback" => options.host_loopback = true,
        "--pcap" => options.pcap = Some(parser.value()?.into()),
        _ => return Err(UsageError::new(format!("unknown option `{option}`"))),
    }
    Ok(())
}
