/**
 * Numbers and layouts of the virtio network device.
 *
 * Source: virtio 1.4, section 5.1.
 *
 * @module
 */

/** Virtio device ID. */
export const VIRTIO_ID_NET = 1;

/** Feature bits, by number, without `VIRTIO_NET_F_`. */
export const NetFeature = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  GUEST_ECN: 9,
  GUEST_UFO: 10,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  HOST_ECN: 13,
  HOST_UFO: 14,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  CTRL_VLAN: 19,
  CTRL_RX_EXTRA: 20,
  GUEST_ANNOUNCE: 21,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
  SPEED_DUPLEX: 63,
} as const;

/** Offset of `mac` in the configuration space, 6 bytes. */
export const CONFIG_MAC = 0;
/** Offset of `status`, 16 bits. */
export const CONFIG_STATUS = 6;
/** Offset of `max_virtqueue_pairs`, 16 bits. */
export const CONFIG_MAX_PAIRS = 8;
/** Offset of `mtu`, 16 bits. */
export const CONFIG_MTU = 10;
/** Offset of `speed` in Mbit/s, 32 bits. */
export const CONFIG_SPEED = 12;
/** Offset of `duplex`, 8 bits. */
export const CONFIG_DUPLEX = 16;
/** Bytes of the configuration space. */
export const CONFIG_SIZE = 20;

/** `status`: the link is up. */
export const VIRTIO_NET_S_LINK_UP = 1;
/** `status`: the driver is to announce itself. */
export const VIRTIO_NET_S_ANNOUNCE = 2;

/** Bytes of `struct virtio_net_hdr` of legacy drivers without MRG_RXBUF. */
export const LEGACY_HEADER_SIZE = 10;
/** Bytes of `struct virtio_net_hdr` with `num_buffers`. */
export const HEADER_SIZE = 12;

/** Header flag: the checksum from `csum_start` on is to be filled in. */
export const HDR_F_NEEDS_CSUM = 1;
/** Header flag: the checksum was validated. */
export const HDR_F_DATA_VALID = 2;

/** Header `gso_type`: an ordinary frame. */
export const GSO_NONE = 0;
/** Header `gso_type`: TCP over IPv4. */
export const GSO_TCPV4 = 1;
/** Header `gso_type`: UDP, to be cut into IP fragments. */
export const GSO_UDP = 3;
/** Header `gso_type`: TCP over IPv6. */
export const GSO_TCPV6 = 4;
/** Header `gso_type`, in addition: the TCP segment has CWR set. */
export const GSO_ECN = 0x80;

/**
 * What may be left undone in a frame, as a set: bits of `TUN_F_*` and of what
 * both directions of the device negotiate.
 */
export const Offload = {
  CSUM: 0x01,
  TSO4: 0x02,
  TSO6: 0x04,
  ECN: 0x08,
  UFO: 0x10,
} as const;

/** Bytes of an Ethernet header without tag. */
export const ETHERNET_HEADER = 14;
/** Bytes of a MAC address. */
export const MAC_SIZE = 6;
/** Smallest frame that is passed on. */
export const MIN_FRAME = ETHERNET_HEADER;
/** Largest frame that is passed on: an IP packet of 65535 bytes, with a tag. */
export const MAX_FRAME = 65535 + ETHERNET_HEADER + 4;

/** Classes of commands of the control queue. */
export const CtrlClass = {
  RX: 0,
  MAC: 1,
  VLAN: 2,
  ANNOUNCE: 3,
  MQ: 4,
  GUEST_OFFLOADS: 5,
} as const;

/** Commands of {@linkcode CtrlClass}.RX; from 2 on with CTRL_RX_EXTRA. */
export const CtrlRx = {
  PROMISC: 0,
  ALLMULTI: 1,
  ALLUNI: 2,
  NOMULTI: 3,
  NOUNI: 4,
  NOBCAST: 5,
} as const;

/** Commands of {@linkcode CtrlClass}.MAC. */
export const CtrlMac = { TABLE_SET: 0, ADDR_SET: 1 } as const;
/** Commands of {@linkcode CtrlClass}.VLAN. */
export const CtrlVlan = { ADD: 0, DEL: 1 } as const;

/** Answer of the control queue: done. */
export const VIRTIO_NET_OK = 0;
/** Answer of the control queue: refused. */
export const VIRTIO_NET_ERR = 1;

/** Most queue pairs: with the control queue, rings stay below 256. */
export const MAX_PAIRS = 127;
