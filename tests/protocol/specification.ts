/**
 * What the specifications say, by name and number: written down from them, not
 * from our constants, so that a test sees what those and docs/protocol.md both
 * lack.
 *
 * Source: QEMU's `docs/interop/vhost-user.rst`, QEMU 11.1, and its development
 * of September 2026, from which GET_VRING_BASE_SKIP_DRAIN comes; virtio 1.4
 * (`virtio-v1.4-cs01`, 8 April 2026).
 *
 * @module
 */

/** A name without prefix, and its number. */
export type Named = readonly [name: string, number: number];

/** What a front-end sends with a message, and what it waits for. */
export interface Request {
  readonly name: string;
  readonly number: number;
  /** Bytes of the payload; for messages that nobody here serves. */
  readonly size?: number;
  /** The answer is more than a number that was asked for. */
  readonly replies?: true;
}

function numbered(first: number, names: string): Named[] {
  return names.trim().split(/\s+/).map((name, i) => [name, first + i]);
}

/** "Front-end message types", those that a device of ours may serve. */
const SERVED: readonly Named[] = [
  ...numbered(
    1,
    `GET_FEATURES SET_FEATURES SET_OWNER RESET_OWNER SET_MEM_TABLE SET_LOG_BASE
    SET_LOG_FD SET_VRING_NUM SET_VRING_ADDR SET_VRING_BASE GET_VRING_BASE
    SET_VRING_KICK SET_VRING_CALL SET_VRING_ERR GET_PROTOCOL_FEATURES
    SET_PROTOCOL_FEATURES GET_QUEUE_NUM SET_VRING_ENABLE SEND_RARP NET_SET_MTU
    SET_BACKEND_REQ_FD`,
  ),
  ["GET_CONFIG", 24],
  ["SET_CONFIG", 25],
  ["GET_INFLIGHT_FD", 31],
  ["SET_INFLIGHT_FD", 32],
  ["RESET_DEVICE", 34],
  ["GET_MAX_MEM_SLOTS", 36],
  ["ADD_MEM_REG", 37],
  ["REM_MEM_REG", 38],
  ["SET_STATUS", 39],
  ["GET_STATUS", 40],
];

/**
 * The other ones, with their payloads: of a crypto session the specification
 * gives no layout.
 */
const OTHERS: readonly Request[] = [
  { name: "IOTLB_MSG", number: 22, size: 32, replies: true },
  { name: "SET_VRING_ENDIAN", number: 23, size: 8 },
  { name: "CREATE_CRYPTO_SESSION", number: 26, size: 640, replies: true },
  { name: "CLOSE_CRYPTO_SESSION", number: 27, size: 8 },
  { name: "POSTCOPY_ADVISE", number: 28, size: 0, replies: true },
  { name: "POSTCOPY_LISTEN", number: 29, size: 0 },
  { name: "POSTCOPY_END", number: 30, size: 0, replies: true },
  { name: "GPU_SET_SOCKET", number: 33, size: 0 },
  { name: "VRING_KICK", number: 35, size: 8 },
  { name: "GET_SHARED_OBJECT", number: 41, size: 16, replies: true },
  { name: "SET_DEVICE_STATE_FD", number: 42, size: 8, replies: true },
  { name: "CHECK_DEVICE_STATE", number: 43, size: 0, replies: true },
  { name: "GET_SHMEM_CONFIG", number: 44, size: 0, replies: true },
  { name: "GET_VRING_BASE_SKIP_DRAIN", number: 45, size: 8, replies: true },
];

/** "Front-end message types". */
export const FRONT_END_MESSAGES: readonly Request[] = [
  ...SERVED.map(([name, number]) => ({ name, number })),
  ...OTHERS,
].toSorted((a, b) => a.number - b.number);

/** "Back-end message types". */
export const BACK_END_MESSAGES: readonly Named[] = numbered(
  1,
  `IOTLB_MSG CONFIG_CHANGE_MSG VRING_HOST_NOTIFIER_MSG VRING_CALL VRING_ERR
  SHARED_OBJECT_ADD SHARED_OBJECT_REMOVE SHARED_OBJECT_LOOKUP SHMEM_MAP
  SHMEM_UNMAP`,
);

/** "Protocol features". NET_MTU is MTU in the list and NET_MTU in the text. */
export const PROTOCOL_FEATURES: readonly Named[] = numbered(
  0,
  `MQ LOG_SHMFD RARP REPLY_ACK NET_MTU BACKEND_REQ CROSS_ENDIAN CRYPTO_SESSION
  PAGEFAULT CONFIG BACKEND_SEND_FD HOST_NOTIFIER INFLIGHT_SHMFD RESET_DEVICE
  INBAND_NOTIFICATIONS CONFIGURE_MEM_SLOTS STATUS XEN_MMAP SHARED_OBJECT
  DEVICE_STATE GET_VRING_BASE_INFLIGHT GPA_ADDRESSES SHMEM
  GET_VRING_BASE_SKIP_DRAIN`,
);

/**
 * Section 6, with the legacy ones; LOG_ALL is vhost's, and PROTOCOL_FEATURES,
 * which virtio calls unused, vhost-user's.
 */
export const COMMON_FEATURES: readonly Named[] = [
  ["NOTIFY_ON_EMPTY", 24],
  ["LOG_ALL", 26],
  ["ANY_LAYOUT", 27],
  ["INDIRECT_DESC", 28],
  ["EVENT_IDX", 29],
  ["PROTOCOL_FEATURES", 30],
  ["VERSION_1", 32],
  ["ACCESS_PLATFORM", 33],
  ["RING_PACKED", 34],
  ["IN_ORDER", 35],
  ["ORDER_PLATFORM", 36],
  ["SR_IOV", 37],
  ["NOTIFICATION_DATA", 38],
  ["NOTIF_CONFIG_DATA", 39],
  ["RING_RESET", 40],
  ["ADMIN_VQ", 41],
  ["SUSPEND", 43],
];

/** Sections 5.1.3, 5.2.3, 5.6.3 and 5.5.3, with the legacy ones. */
export const DEVICE_FEATURES: Readonly<Record<string, readonly Named[]>> = {
  net: [
    ...numbered(0, "CSUM GUEST_CSUM CTRL_GUEST_OFFLOADS MTU"),
    ...numbered(
      5,
      `MAC GSO GUEST_TSO4 GUEST_TSO6 GUEST_ECN GUEST_UFO HOST_TSO4 HOST_TSO6
      HOST_ECN HOST_UFO MRG_RXBUF STATUS CTRL_VQ CTRL_RX CTRL_VLAN CTRL_RX_EXTRA
      GUEST_ANNOUNCE MQ CTRL_MAC_ADDR`,
    ),
    ...numbered(41, "GUEST_RSC4 GUEST_RSC6"),
    ...numbered(
      50,
      `DEVICE_STATS HASH_TUNNEL VQ_NOTF_COAL NOTF_COAL GUEST_USO4 GUEST_USO6
      HOST_USO HASH_REPORT`,
    ),
    ...numbered(
      59,
      `GUEST_HDRLEN RSS RSC_EXT STANDBY SPEED_DUPLEX RSS_CONTEXT
      GUEST_UDP_TUNNEL_GSO GUEST_UDP_TUNNEL_GSO_CSUM HOST_UDP_TUNNEL_GSO
      HOST_UDP_TUNNEL_GSO_CSUM OUT_NET_HEADER IPSEC`,
    ),
  ],
  blk: [
    ...numbered(0, "BARRIER SIZE_MAX SEG_MAX"),
    ...numbered(4, "GEOMETRY RO BLK_SIZE SCSI"),
    ...numbered(
      9,
      `FLUSH TOPOLOGY CONFIG_WCE MQ DISCARD WRITE_ZEROES LIFETIME SECURE_ERASE
      ZONED`,
    ),
  ],
  scsi: numbered(0, "INOUT HOTPLUG CHANGE T10_PI"),
  balloon: numbered(
    0,
    `MUST_TELL_HOST STATS_VQ DEFLATE_ON_OOM FREE_PAGE_HINT PAGE_POISON
    PAGE_REPORTING`,
  ),
};
