/**
 * Numbers and layouts of the virtio memory balloon.
 *
 * Source: virtio 1.4, section 5.5 (traditional memory balloon device).
 *
 * @module
 */

/** Virtio device ID. */
export const VIRTIO_ID_BALLOON = 5;

/** Page of a page frame number in bytes, whatever the guest's own pages are. */
export const BALLOON_PAGE_SIZE = 4096;
/** Bytes of a page frame number in an inflate or deflate request: le32. */
export const PFN_SIZE = 4;

// Feature bits (section 5.5.3), by number.
/** The driver tells before it uses pages from the balloon. */
export const VIRTIO_BALLOON_F_MUST_TELL_HOST = 0;
/** There is a queue for statistics of the guest's memory. */
export const VIRTIO_BALLOON_F_STATS_VQ = 1;
/** The driver may take pages back when the guest runs out of memory. */
export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 2;
/** There is a queue for hints of free pages; not offered. */
export const VIRTIO_BALLOON_F_FREE_PAGE_HINT = 3;
/** The driver fills free pages with `poison_val`. */
export const VIRTIO_BALLOON_F_PAGE_POISON = 4;
/** There is a queue for reports of free pages. */
export const VIRTIO_BALLOON_F_PAGE_REPORTING = 5;

// Queues (section 5.5.2).
/** Queue of pages that go into the balloon. */
export const INFLATE_QUEUE = 0;
/** Queue of pages that come out of the balloon. */
export const DEFLATE_QUEUE = 1;
/** Queue of statistics, where there is one. */
export const STATS_QUEUE = 2;
/** Queues that the specification numbers. */
export const QUEUE_COUNT = 5;

/** Bytes of `struct virtio_balloon_config`. */
export const CONFIG_SIZE = 16;
/** Offset of `num_pages`: pages that the driver is asked to put into the balloon. */
export const CONFIG_NUM_PAGES = 0;
/** Offset of `actual`: pages that the driver says are in the balloon. */
export const CONFIG_ACTUAL = 4;
/** Offset of `free_page_hint_cmd_id`. */
export const CONFIG_FREE_PAGE_HINT_CMD_ID = 8;
/** Offset of `poison_val`: what the driver fills free pages with. */
export const CONFIG_POISON_VAL = 12;

/** Bytes of `struct virtio_balloon_stat`: le16 tag, le64 val, packed. */
export const STAT_SIZE = 10;

/** Names of the statistics by their tags (section 5.5.6.4). */
export const STAT_NAMES: readonly string[] = [
  "swapIn",
  "swapOut",
  "majorFaults",
  "minorFaults",
  "freeMemory",
  "totalMemory",
  "availableMemory",
  "diskCaches",
  "hugetlbAllocations",
  "hugetlbFailures",
  "oomKills",
  "allocationStalls",
  "asyncScans",
  "directScans",
  "asyncReclaims",
  "directReclaims",
];

/** The balloon's configuration space. */
export interface BalloonConfig {
  /** Pages that the driver is asked to put into the balloon. */
  readonly numPages: number;
  /** Pages that the driver says are in the balloon. */
  readonly actual: number;
  /** What the driver fills free pages with. */
  readonly poisonVal: number;
}

/**
 * Reads a configuration space.
 *
 * @param from 8, 12 or 16 bytes; what is missing is 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decodeConfig } from "./protocol.ts";
 *
 * const bytes = Uint8Array.of(0, 1, 0, 0, 2, 0, 0, 0);
 * assertEquals(decodeConfig(bytes), {
 *   numPages: 256,
 *   actual: 2,
 *   poisonVal: 0,
 * });
 * ```
 */
export function decodeConfig(from: Uint8Array): BalloonConfig {
  const view = new DataView(from.buffer, from.byteOffset, from.byteLength);
  const field = (offset: number): number =>
    offset + 4 <= from.length ? view.getUint32(offset, true) : 0;
  return {
    numPages: field(CONFIG_NUM_PAGES),
    actual: field(CONFIG_ACTUAL),
    poisonVal: field(CONFIG_POISON_VAL),
  };
}
