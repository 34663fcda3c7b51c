/**
 * The memory in which requests in flight are tracked across the death of this
 * process: the front-end keeps it, and hands it to the next back-end.
 *
 * Theory of operation: `GET_INFLIGHT_FD` makes an area, once for a device, and
 * gives it away: nothing of it stays here. `SET_INFLIGHT_FD` brings one, made here
 * or by a predecessor, before the rings start; it stays mapped until another
 * comes or the front-end leaves. Each ring has a part of its own, whose contents
 * are the queue's affair (`virtqueue/inflight.ts`, `virtqueue/packed_inflight.ts`).
 *
 * Front-ends keep an area beyond the reset of a device, after which the driver may
 * choose the other layout of rings. So an area has room for the larger one, and a
 * reset clears it: what it said is not true of the next life of the rings.
 *
 * Source: vhost-user.rst, "Inflight I/O tracking".
 *
 * @module
 */

import type { OwnedFd } from "../sys/fd.ts";
import {
  detachMemory,
  mapFile,
  type Mapping,
  viewMemory,
} from "../sys/mapping.ts";
import { statFd } from "../sys/statx.ts";
import {
  addSeals,
  createMemfd,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  sealAgainstShrinking,
} from "../sys/memfd.ts";
import { splitInflightSize } from "../virtqueue/inflight.ts";
import { packedInflightSize } from "../virtqueue/packed_inflight.ts";
import { MAX_QUEUES, MAX_RING_SIZE } from "./constants.ts";
import type { RingInflight } from "./data_plane.ts";
import { ProtocolError } from "./errors.ts";
import type { InflightDescription } from "./message.ts";

/** An area as it is handed to a front-end. */
export interface NewInflightArea {
  /** What to say of it. */
  readonly description: InflightDescription;
  /** A memfd that holds it, all zeroes. */
  readonly fd: OwnedFd;
}

/**
 * Makes an area.
 *
 * @throws {ProtocolError} of kind `inflight-area`
 */
export function createInflightArea(
  request: number,
  { queueCount, queueSize }: InflightDescription,
): NewInflightArea {
  checkShape(request, queueCount, queueSize);
  const mmapSize = queueCount * packedInflightSize(queueSize);
  const fd = createMemfd("vhostd-inflight", mmapSize);
  // Its size is what it is: no successor needs to fear SIGBUS.
  addSeals(fd.fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return {
    description: { mmapSize, mmapOffset: 0, queueCount, queueSize },
    fd,
  };
}

/** An area that a front-end brought. */
export class InflightArea {
  /** Size of the largest queue. */
  readonly queueSize: number;
  /** Number of queues. */
  readonly queueCount: number;
  /** The same for two descriptions of one area. */
  readonly identity: string;
  readonly #mapping: Mapping;
  readonly #size: number;

  /**
   * Maps an area.
   *
   * @param file taken over, and closed: the mapping lives without it
   * @throws {ProtocolError} of kind `inflight-area`
   */
  constructor(
    request: number,
    description: InflightDescription,
    file: OwnedFd,
  ) {
    using backing = file;
    const { mmapSize, mmapOffset, queueCount, queueSize } = description;
    const { dev, ino } = statFd(backing.fd);
    this.identity = `${dev}:${ino}:${mmapOffset}`;
    checkShape(request, queueCount, queueSize);
    const needed = queueCount * splitInflightSize(queueSize);
    if (mmapSize < needed) {
      throw new ProtocolError(
        "inflight-area",
        request,
        `an area of ${mmapSize} bytes is less than the ${needed} of ` +
          `${queueCount} queues of ${queueSize}`,
      );
    }
    this.queueCount = queueCount;
    this.queueSize = queueSize;
    try {
      sealAgainstShrinking(backing.fd);
      // Made by another back-end, it may have room for split rings alone.
      const most = queueCount * packedInflightSize(queueSize);
      this.#size = Math.min(mmapSize, most);
      this.#mapping = mapFile(backing.fd, {
        offset: mmapOffset,
        size: this.#size,
      });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ProtocolError(
        "inflight-area",
        request,
        `an area of ${mmapSize} bytes at ${mmapOffset} cannot be mapped: ${reason}`,
        { cause },
      );
    }
    if (this.#mapping.address % 8 !== 0) {
      this.#mapping.unmap();
      throw new ProtocolError(
        "inflight-area",
        request,
        `an area at ${mmapOffset} is not aligned to 8 bytes`,
      );
    }
  }

  /**
   * The part of a ring; `null` where the area has none for it.
   *
   * @param packed the layout of the ring
   */
  ring(index: number, packed: boolean): RingInflight | null {
    if (index >= this.queueCount) return null;
    const size = packed
      ? packedInflightSize(this.queueSize)
      : splitInflightSize(this.queueSize);
    if ((index + 1) * size > this.#size) return null;
    return {
      address: this.#mapping.address + index * size,
      size,
      heads: this.queueSize,
    };
  }

  /** Forgets everything, as after a reset. No ring that uses it runs. */
  clear(): void {
    this.#zero(0, this.#size);
  }

  /** Forgets the part of a ring, which does not run. */
  clearRing(index: number, packed: boolean): void {
    const part = this.ring(index, packed);
    if (part === null) return;
    this.#zero(part.address - this.#mapping.address, part.size);
  }

  /** Unmaps the area. No ring that uses it runs. */
  release(): void {
    this.#mapping.unmap();
  }

  #zero(offset: number, size: number): void {
    const view = viewMemory(this.#mapping.address + offset, size);
    new Uint8Array(view).fill(0);
    detachMemory(view);
  }
}

function checkShape(
  request: number,
  queueCount: number,
  queueSize: number,
): void {
  const check = (what: string, value: number, most: number): void => {
    if (value >= 1 && value <= most) return;
    throw new ProtocolError(
      "inflight-area",
      request,
      `${what} ${value} is not from 1 to ${most}`,
    );
  };
  check("number of queues", queueCount, MAX_QUEUES);
  check("queue size", queueSize, MAX_RING_SIZE);
}
