/**
 * Where the ring of an input is and what was negotiated.
 *
 * @module
 */

import type { Bytes } from "../engine/bytes.ts";
import { layout, SEGMENTS } from "./layout.ts";

/** Where a ring is. */
export interface RingPlace {
  readonly size: number;
  /** The descriptor table, or the descriptor ring. */
  readonly descriptorTable: bigint;
  /** The available ring, or the driver event suppression structure. */
  readonly availableRing: bigint;
  /** The used ring, or the device event suppression structure. */
  readonly usedRing: bigint;
}

/** Where a ring is, and what was negotiated. */
export interface QueueOptions extends RingPlace {
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly inOrder: boolean;
  /** Most chains in flight. */
  readonly slots: number;
}

/** What an input begins with. */
export interface QueueHeader {
  readonly options: QueueOptions & { readonly maxSegments: number };
  /** Whether requests in flight are tracked. */
  readonly tracked: boolean;
  /** Selects where the ring begins. */
  readonly start: number;
}

/**
 * Reads the header of an input.
 *
 * @param sizes of rings
 * @param inOrder whether VIRTIO_F_IN_ORDER can be negotiated
 */
export function readHeader(
  bytes: Bytes,
  sizes: readonly number[],
  inOrder: boolean,
): QueueHeader {
  const size = sizes[bytes.u8() % sizes.length];
  const flags = bytes.u8();
  const start = bytes.u8();
  const slots = bytes.u8();
  const maxSegments = SEGMENTS[bytes.u8() % SEGMENTS.length];
  const [descriptorTable, availableRing, usedRing] = layout(
    bytes.u8(),
    bytes.u16(),
  );
  const options = {
    size,
    descriptorTable,
    availableRing,
    usedRing,
    eventIdx: (flags & 1) !== 0,
    indirect: (flags & 2) === 0,
    inOrder: inOrder && (flags & 8) !== 0,
    slots: slots === 0 ? size : 1 + slots % size,
    maxSegments,
  };
  return { options, tracked: (flags & 4) !== 0, start };
}
