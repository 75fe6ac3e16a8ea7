//! What an interface's driver can do with XDP programs, asked of the kernel's generic netlink family
//! `netdev` (Linux 6.3, Documentation/netlink/specs/netdev.yaml). Only the one question is here.

use anyhow::{Result, bail};
use futures_util::StreamExt as _;
use genetlink::GenetlinkHandle;
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, NlasIterator,
    ParseableParametrized, parse_u32, parse_u64,
};

/// `NETDEV_CMD_DEV_GET`.
const DEVICE_GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX`.
const INTERFACE: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES`.
const XDP_FEATURES: u16 = 3;

/// `enum netdev_xdp_act`: what a driver can do with programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// Runs programs in the driver: `NETDEV_XDP_ACT_BASIC` and `_REDIRECT`.
    pub fn native(self) -> bool {
        self.0 & 3 == 3
    }

    /// Sends packets that another interface redirects to it: `NETDEV_XDP_ACT_NDO_XMIT`.
    pub fn sends_redirected(self) -> bool {
        self.0 & 4 != 0
    }
}

/// A question about an interface, or its answer.
#[derive(Debug)]
struct Device {
    index: u32,
    features: Option<u64>,
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        DEVICE_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Device {
    fn question(&self) -> [DefaultNla; 1] {
        [DefaultNla::new(INTERFACE, self.index.to_ne_bytes().into())]
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.question().as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.question().as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self { index: 0, features: None };
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            match attribute.kind() {
                INTERFACE => device.index = parse_u32(attribute.value())?,
                XDP_FEATURES => device.features = Some(parse_u64(attribute.value())?),
                _ => {}
            }
        }
        Ok(device)
    }
}

/// Asks about the interface with this index.
///
/// # Errors
///
/// Where the kernel has no such family, or no such interface.
pub async fn xdp_features(handle: &mut GenetlinkHandle, index: u32) -> Result<XdpFeatures> {
    let mut message =
        NetlinkMessage::from(GenlMessage::from_payload(Device { index, features: None }));
    message.header.flags = NLM_F_REQUEST;
    let mut answers = std::pin::pin!(handle.request(message).await?);
    while let Some(answer) = answers.next().await {
        match answer?.payload {
            NetlinkPayload::InnerMessage(device) => {
                if let Some(features) = device.payload.features {
                    return Ok(XdpFeatures(features));
                }
            }
            NetlinkPayload::Error(error) => bail!("{}", error.to_io()),
            _ => {}
        }
    }
    bail!("the kernel does not tell")
}
