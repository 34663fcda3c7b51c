/**
 * The front-end's side of the dirty log, for tests: what QEMU does in a
 * migration.
 *
 * @module
 */

import type { OwnedFd } from "../../sys/fd.ts";
import { mapFile, type Mapping } from "../../sys/mapping.ts";
import { createMemfd } from "../../sys/memfd.ts";
import { DIRTY_LOG_PAGE } from "../../virtqueue/dirty_log.ts";
import { FrontEndMessage } from "../constants.ts";
import { encodeLog, type LogDescription } from "../message.ts";
import { LOG_ALL_BIT } from "../state.ts";
import type { FrontEnd, RingLayout } from "./front_end.ts";

/** A log in shared memory. Owns its descriptor and its mapping. */
export class LogMemory implements Disposable {
  /** The bits, as the front-end maps them. */
  readonly bits: Uint8Array<ArrayBuffer>;
  readonly #fd: OwnedFd;
  readonly #mapping: Mapping;
  readonly #offset: number;

  /** @param size bytes of the log, `offset` bytes into its memfd */
  constructor(size: number, offset = 0) {
    this.#fd = createMemfd("vhost-test-log", offset + size);
    this.#mapping = mapFile(this.#fd.fd, { offset, size });
    this.#offset = offset;
    this.bits = new Uint8Array(this.#mapping.buffer);
  }

  /** What to say of it. */
  get description(): LogDescription {
    return { mmapSize: this.bits.length, mmapOffset: this.#offset };
  }

  /** The descriptor. */
  get fd(): number {
    return this.#fd.fd;
  }

  /**
   * `VHOST_USER_SET_LOG_BASE`, and waits for the answer that it has without being
   * asked for one; with `acks` it asks.
   */
  async set(
    frontEnd: FrontEnd,
    description: LogDescription = this.description,
  ): Promise<void> {
    const request = FrontEndMessage.SET_LOG_BASE;
    const payload = encodeLog(description);
    if (frontEnd.acks) await frontEnd.set(request, payload, [this.fd]);
    else await frontEnd.get(request, payload, [this.fd]);
  }

  /** Takes the marks out: numbers of the pages that were marked, in order. */
  takePages(): number[] {
    const pages: number[] = [];
    for (let at = 0; at < this.bits.length; at++) {
      if (this.bits[at] === 0) continue;
      const marks = Atomics.exchange(this.bits, at, 0);
      for (let bit = 0; bit < 8; bit++) {
        if (marks >> bit & 1) pages.push(8 * at + bit);
      }
    }
    return pages;
  }

  /** Copies the pages of a region that were marked since the last time. */
  copy(
    region: { readonly guestAddress: number; readonly bytes: Uint8Array },
    to: Uint8Array,
  ): number {
    const pages = this.takePages();
    for (const page of pages) {
      const at = page * DIRTY_LOG_PAGE - region.guestAddress;
      to.set(region.bytes.subarray(at, at + DIRTY_LOG_PAGE), at);
    }
    return pages.length;
  }

  /** Unmaps the log and closes its descriptor. */
  [Symbol.dispose](): void {
    this.#mapping.unmap();
    this.#fd.close();
  }
}

/**
 * Has a back-end log, or not, as QEMU does it while rings run: features, then the
 * addresses of every ring again.
 */
export async function setLogging(
  frontEnd: FrontEnd,
  on: boolean,
  layouts: ReadonlyMap<number, RingLayout>,
): Promise<void> {
  await frontEnd.setFeatures(
    on ? frontEnd.features | LOG_ALL_BIT : frontEnd.features & ~LOG_ALL_BIT,
  );
  for (const [index, layout] of layouts) {
    await frontEnd.setVringAddr(index, layout, on ? layout.usedRing : -1);
  }
}
